//! What can be typed.
//!
//! The environment is read here, through `clap`, and in `config::variables`, which knows what is no flag's own name; nowhere
//! else.

mod artifacts;
mod client;
mod cluster;
mod drain;
mod import;
mod node;
mod parsers;
mod queued;
mod redis;
mod retention;
mod serve;
mod store;
mod transfer;

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use artifacts::ArtifactsArgs;
pub use client::{
    AliasCommand, AliasSpec, AliasSpecError, DeleteArgs, DeployArgs, FunctionArgs, InvokeArgs, ListArgs,
    LogsArgs, RollbackArgs, Settings,
};
pub use cluster::{ClusterArgs, ControllerArgs, WorkerArgs};
pub use drain::DrainArgs;
pub use import::ImportArgs;
pub use node::{NodeArgs, PlaceArgs};
pub(crate) use parsers::{duration, listen_address};
pub use queued::{AsyncArgs, InvocationsArgs, InvocationsCommand, ScheduleArgs, SchedulesCommand};
pub use redis::RedisArgs;
pub use retention::RetentionArgs;
pub use serve::{DefaultNetwork, DoctorArgs, LogFormat, ServeArgs, StoreCommand};
pub use store::ApplyArgs;
pub use transfer::{BackupArgs, MigrateArgs, RestoreArgs, StoreArgs};

/// The server's address when none is given.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
/// Under this name the program is a server: bare flags mean `serve`.
const SERVER_NAME: &str = "impuls-server";

/// Runs functions in sandboxes: server, worker and command line in one program.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "impuls",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 success, 1 the function failed, 2 wrong usage, 3 not found, 4 refused \
                  (invalid, in conflict or throttled; code that does not load), 5 server not reachable, \
                  6 server error."
)]
pub struct Cli {
    /// What every subcommand takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every subcommand takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// The server to talk to.
    #[arg(long, global = true, env = "IMPULS_URL", value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Print the server's JSON on standard output, and nothing else.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Every subcommand.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(Box<ServeArgs>),
    /// Take requests and have workers on other machines run them; any number, behind a load balancer.
    Controller(Box<ControllerArgs>),
    /// Run functions for controllers, on as many machines as you like.
    #[command(mut_arg("listen", worker_listen), mut_arg("storage", always_postgres))]
    #[command(mut_arg("insecure_no_auth", |arg| arg.hide(true)))]
    Worker(Box<WorkerArgs>),
    /// Say what works on this machine, what does not, and how to repair it.
    Doctor(DoctorArgs),
    /// Prepare where functions are recorded.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Move everything from one store to another: functions with all versions, calls, schedules, code.
    Migrate(Box<MigrateArgs>),
    /// Take the functions of an earlier server (the first Impuls, GoFaas) into a running one.
    Import(ImportArgs),
    /// Write everything to one file, also while the server runs.
    Backup(Box<BackupArgs>),
    /// Fill an empty store from a backup.
    Restore(Box<RestoreArgs>),
    /// The process that makes sandboxes; the server starts it.
    #[command(hide = true)]
    Spawner,
    /// A client of the HTTP API.
    #[command(flatten)]
    Client(ClientCommand),
}

fn worker_listen(arg: clap::Arg) -> clap::Arg {
    arg.help(
        "Listen on exactly this address for controllers and other workers; never one that strangers can reach \
         [default: 127.0.0.1:7070] [env: IMPULS_LISTEN]",
    )
}

fn always_postgres(arg: clap::Arg) -> clap::Arg {
    arg.help("Where functions are recorded: postgres [default: postgres]")
}

/// The subcommands that talk to a server; [`run`](crate::run) performs them.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Create a function, or publish a new version of it, from a file, a folder or a zip archive.
    Deploy(Box<DeployArgs>),
    /// List functions.
    List(ListArgs),
    /// Show one function.
    Get(FunctionArgs),
    /// Run a function and print its result.
    Invoke(InvokeArgs),
    /// Look after asynchronous calls: list, get, cancel, drive again.
    #[command(subcommand)]
    Invocations(InvocationsCommand),
    /// Have functions called at certain times.
    #[command(subcommand)]
    Schedules(SchedulesCommand),
    /// Show past invocations and what they wrote.
    Logs(LogsArgs),
    /// Manage names that point at versions.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Make an earlier version the current one again.
    Rollback(RollbackArgs),
    /// List the versions of a function.
    Versions(FunctionArgs),
    /// Delete a function with its versions, aliases and logs.
    Delete(DeleteArgs),
    /// List the language runtimes of the server.
    Runtimes,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The whole command line, for completions and documentation.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses arguments, the first of which is the program's own name. Called as `impuls-server`, a first argument that
/// is a flag (or none at all) means `serve`. The error prints itself with the right exit code: `error.exit()`.
pub fn parse_from(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if is_server(&args) && args.get(1).is_none_or(is_serve_flag) {
        args.insert(1, "serve".into());
    }
    Cli::try_parse_from(args)
}

fn is_server(args: &[OsString]) -> bool {
    args.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == SERVER_NAME))
}

fn is_serve_flag(argument: &OsString) -> bool {
    argument.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests;
