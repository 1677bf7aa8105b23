//! What the subcommands take that talk to a server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use impuls_client::wire::{AliasTarget, Network};
use serde::Deserialize;

use super::parsers::{cores, key_value, network};
use super::queued::AsyncArgs;

/// What `deploy` takes.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct DeployArgs {
    /// A source file, a folder or a .zip archive.
    pub path: PathBuf,
    /// Settings that a folder's impuls.toml may have too.
    #[command(flatten)]
    pub settings: Settings,
    /// Set an environment variable of the function; may be repeated. All earlier ones are replaced.
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = key_value)]
    pub env: Vec<(String, String)>,
    /// Read environment variables from a file with a KEY=VALUE on each line.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Label the function; may be repeated. All earlier labels are replaced.
    #[arg(long = "metadata", value_name = "KEY=VALUE", value_parser = key_value)]
    pub labels: Vec<(String, String)>,
}

/// What a function is made with, by flags or by the `impuls.toml` of a folder. What is not given keeps its value.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The function's name [default: the name of the file or folder].
    #[arg(long)]
    pub name: Option<String>,
    /// The language, such as nodejs20 or python [default: from the file's extension].
    #[arg(long)]
    pub runtime: Option<String>,
    /// What to call, as `file.function` [default: `handler` of the file].
    #[arg(long)]
    pub handler: Option<String>,
    /// Memory of one sandbox, in MiB.
    #[arg(long = "memory", value_name = "MIB")]
    pub memory_mb: Option<u32>,
    /// Time for one invocation, in seconds.
    #[arg(long = "timeout", value_name = "SECONDS")]
    pub timeout_sec: Option<u64>,
    /// Invocations that one sandbox runs at once.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,
    /// Invocations of the function at once.
    #[arg(long, value_name = "N")]
    pub max_concurrency: Option<u32>,
    /// Processor share of one sandbox, in cores.
    #[arg(long, value_name = "CORES", value_parser = cores)]
    pub vcpu: Option<f64>,
    /// How long an unused sandbox is kept, in seconds.
    #[arg(long = "idle-timeout", value_name = "SECONDS")]
    pub idle_timeout_sec: Option<u64>,
    /// Sandboxes that are kept however long they are unused.
    #[arg(long, value_name = "N")]
    pub min_warm: Option<u32>,
    /// What the function reaches: off, egress (every public address), or the only hosts, addresses and ranges, with
    /// commas between them: api.example.com:443,*.example.org,10.0.0.0/8 [default: what the server says].
    #[arg(long, value_name = "POLICY", value_parser = network)]
    pub network: Option<Network>,
    /// How the code is shaped: module (exports a handler), scoped (only defines it), program (a whole program for each
    /// call), command, bootstrap (asks the AWS Lambda Runtime API) or http (listens on $PORT) [default: the runtime's].
    #[arg(long)]
    pub contract: Option<String>,
    /// What a function with the contract command or http runs: a command for the sandbox's shell.
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// A sentence about the function.
    #[arg(long)]
    pub description: Option<String>,
    /// Environment variables of the function; on the command line `--env` and `--env-file`.
    #[arg(skip)]
    pub environment: BTreeMap<String, String>,
    /// Labels of the function; on the command line `--metadata`.
    #[arg(skip)]
    pub metadata: BTreeMap<String, String>,
}

/// What `list` takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ListArgs {
    /// The most functions to list [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// One function.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct FunctionArgs {
    /// The function's name.
    pub name: String,
}

/// What `invoke` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct InvokeArgs {
    /// The function's name.
    pub name: String,
    /// The event: JSON, or @FILE; @- is standard input, which is also read when it is no terminal [default: null].
    #[arg(long, short, value_name = "JSON|@FILE")]
    pub data: Option<String>,
    /// Take the result as an HTTP reply (`statusCode`, `headers`, `body`) and print its body byte for byte.
    #[arg(long)]
    pub raw: bool,
    /// A version or an alias [default: the newest].
    #[arg(long, short, value_name = "QUALIFIER")]
    pub qualifier: Option<String>,
    /// What goes with `--async`.
    #[command(flatten)]
    pub queued: AsyncArgs,
}

/// What `logs` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct LogsArgs {
    /// The function's name.
    pub name: String,
    /// Go on printing what comes.
    #[arg(long, short)]
    pub follow: bool,
    /// The most invocations to print, the newest ones.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only invocations that ended like this.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
}

/// What `rollback` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RollbackArgs {
    /// The function's name.
    pub name: String,
    /// The version to return to [default: the one before the current].
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
}

/// What `delete` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct DeleteArgs {
    /// The function's name.
    pub name: String,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}

/// What `alias` takes.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AliasCommand {
    /// Create an alias or point it elsewhere: `live=3`, or with weights `live=3:90,4:10`.
    Set {
        /// The function's name.
        name: String,
        /// The alias and the versions behind it.
        #[arg(value_name = "ALIAS=VERSION[:WEIGHT],…")]
        spec: AliasSpec,
        /// A sentence about the alias.
        #[arg(long)]
        description: Option<String>,
    },
    /// List the aliases of a function.
    List {
        /// The function's name.
        name: String,
    },
    /// Show one alias.
    Get {
        /// The function's name.
        name: String,
        /// The alias.
        alias: String,
    },
    /// Delete an alias; the versions stay.
    Delete {
        /// The function's name.
        name: String,
        /// The alias.
        alias: String,
    },
}

/// An alias and what it shall point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasSpec {
    /// The alias.
    pub alias: String,
    /// The versions behind it.
    pub targets: Vec<AliasTarget>,
}

/// Why an alias cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no alias with versions, such as live=3 or live=3:90,4:10")]
pub struct AliasSpecError(String);

impl FromStr for AliasSpec {
    type Err = AliasSpecError;

    fn from_str(text: &str) -> Result<Self, AliasSpecError> {
        let wrong = || AliasSpecError(text.to_owned());
        let (alias, targets) =
            text.split_once('=').filter(|(alias, _)| !alias.is_empty()).ok_or_else(wrong)?;
        let only = !targets.contains(',');
        let targets: Option<Vec<AliasTarget>> = targets.split(',').map(|part| target(part, only)).collect();
        Ok(Self { alias: alias.to_owned(), targets: targets.ok_or_else(wrong)? })
    }
}

/// `VERSION:WEIGHT`; the only target may leave out its weight.
fn target(text: &str, only: bool) -> Option<AliasTarget> {
    let (version, weight) = match text.split_once(':') {
        Some((version, weight)) => (version, weight.parse().ok()?),
        None if only => (text, 100),
        None => return None,
    };
    Some(AliasTarget { version: version.parse().ok()?, weight })
}
