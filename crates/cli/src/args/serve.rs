//! What `serve` and `doctor` take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;

use super::node::NodeArgs;
use super::parsers::{duration, key_value, path, switch};
use super::store::ApplyArgs;

/// How the server writes its own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The network of functions that do not say which they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultNetwork {
    /// None but their own loopback.
    Off,
    /// Every public address.
    Egress,
}

/// What `serve` takes. A field that is `None` was given neither as a flag nor in the environment; the configuration
/// file and then the default decide, in [`resolve`](crate::resolve).
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeArgs {
    /// What every server takes.
    #[command(flatten)]
    pub node: NodeArgs,
    /// How functions are isolated [default: auto, the strongest that works here].
    #[arg(long, value_name = "NAME", env = "IMPULS_DRIVER")]
    pub driver: Option<String>,
    /// Start although this machine lacks an isolation layer; `impuls doctor` names it.
    #[arg(long, value_name = "BOOL", env = "IMPULS_ALLOW_WEAKER_ISOLATION", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_weaker_isolation: Option<bool>,
    /// The most sandboxes at once [default: as many as the memory allows].
    #[arg(long, value_name = "N", env = "IMPULS_MAX_SANDBOXES", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sandboxes: Option<u32>,
    /// Sandboxes of each runtime that wait for code; 0 keeps none [default: adapts to the calls].
    #[arg(long, value_name = "N", env = "IMPULS_PREWARM")]
    pub prewarm: Option<u32>,
    /// A folder of language toolchains, each with its programs in a folder `bin` [default: DIR/toolchains].
    #[arg(long, value_name = "DIR", env = "IMPULS_TOOLCHAINS", value_parser = path())]
    pub toolchains: Option<PathBuf>,
    /// Let HTTP hooks reach this address or range although it is not of the public network, such as 10.0.0.0/8; may be
    /// repeated, or several with commas between them.
    #[arg(long, value_name = "RANGE", env = "IMPULS_HOOK_ALLOW", value_delimiter = ',')]
    pub hook_allow: Vec<String>,
    /// A private address or range that every function with egress may reach; may be repeated.
    #[arg(long, value_name = "CIDR", env = "IMPULS_NETWORK_ALLOW", value_delimiter = ',')]
    pub network_allow: Vec<String>,
    /// A variable of every build, such as where packages come from; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
    pub build_env: Vec<(String, String)>,
    /// A host, address or range that is not public and that builds may reach, such as a registry of packages; may be
    /// repeated.
    #[arg(long, value_name = "HOST|CIDR", env = "IMPULS_BUILD_ALLOW", value_delimiter = ',')]
    pub build_allow: Vec<String>,
    /// The memory of one build, what it writes included, in MiB [default: 2048].
    #[arg(long, value_name = "MIB", env = "IMPULS_BUILD_MEMORY", value_parser = clap::value_parser!(u32).range(64..))]
    pub build_memory: Option<u32>,
    /// How long one build may take, such as 10m [default: 10m].
    #[arg(long, value_name = "TIME", env = "IMPULS_BUILD_TIMEOUT", value_parser = duration)]
    pub build_timeout: Option<Duration>,
    /// Accepted for compatibility. Functions run in this machine's sandboxes in any case.
    #[arg(long, value_name = "BOOL", env = "IMPULS_LOCAL_MODE", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub local_mode: Option<bool>,
    /// The Firecracker program. Accepted for compatibility; has no effect on the process driver.
    #[arg(long, value_name = "FILE")]
    pub firecracker: Option<PathBuf>,
    /// A kernel for microVMs. Accepted for compatibility; has no effect on the process driver.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// A root file system for microVMs. Accepted for compatibility; has no effect on the process driver.
    #[arg(long, value_name = "FILE")]
    pub rootfs: Option<PathBuf>,
}

impl From<NodeArgs> for ServeArgs {
    fn from(node: NodeArgs) -> Self {
        Self { node, ..Self::default() }
    }
}

/// The subcommands on where functions are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum StoreCommand {
    /// Print the SQL that makes all tables, for a user who may.
    Schema {
        /// For which storage: sqlite, file or postgres.
        #[arg(long, value_name = "NAME", env = "IMPULS_STORAGE_TYPE", default_value = "sqlite")]
        storage: String,
    },
    /// Make all tables in a database, or bring them up to date, as a server does when it starts.
    Apply(ApplyArgs),
}

/// What `doctor` takes, besides `--json`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorArgs {
    /// A folder of language toolchains to look in, as for `serve`.
    #[arg(long, value_name = "DIR", env = "IMPULS_TOOLCHAINS", value_parser = path())]
    pub toolchains: Option<PathBuf>,
}
