//! The command line: what can be typed, and the subcommands that are clients of the HTTP API.
//!
//! [`parse_from`] turns arguments and environment into a [`Cli`]. [`run`] performs a [`ClientCommand`]; `serve`,
//! `doctor` and the sandbox spawner are only parsed here and performed by the binary, which alone knows the server.
//! [`ServeConfig`] is what `serve` was told, by file, environment and flags together.
//!
//! Everything for people to read goes to standard error, results go to standard output. [`Exit`] has the exit codes.

mod args;
mod commands;
mod config;
mod error;
mod output;
mod package;
mod run;
mod text;

pub use args::{
    AliasCommand, AliasSpec, AliasSpecError, ApplyArgs, BackupArgs, Cli, ClientCommand, Command,
    ContainerArgs, DefaultNetwork, DeleteArgs, DeployArgs, DoctorArgs, FunctionArgs, Globals, ImportArgs,
    InvokeArgs, ListArgs, LogFormat, LogsArgs, MigrateArgs, RestoreArgs, RollbackArgs, ServeArgs, Settings,
    StoreArgs, StoreCommand, command, parse_from,
};
pub use config::{
    BuildConfig, BuildTable, ConfigError, ContainerConfig, ContainerTable, DataDir, DatabaseConfig,
    FileConfig, RedisConfig, ServeConfig, Variables, resolve,
};
pub use error::Exit;
pub use run::run;
