//! The command line: what can be typed, and the subcommands that are clients of the HTTP API.
//!
//! [`parse_from`] turns arguments and environment into a [`Cli`]. [`run`] performs a [`ClientCommand`]; `serve`,
//! `doctor` and the sandbox spawner are only parsed here and performed by the binary, which alone knows the server.
//! `controller` and `worker` as well.
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
    AliasCommand, AliasSpec, AliasSpecError, ApplyArgs, ArtifactsArgs, BackupArgs, Cli, ClientCommand,
    ClusterArgs, Command, ControllerArgs, DefaultNetwork, DeleteArgs, DeployArgs, DoctorArgs, DrainArgs,
    FunctionArgs, Globals, ImportArgs, InvokeArgs, ListArgs, LogFormat, LogsArgs, MigrateArgs, NodeArgs,
    PlaceArgs, RestoreArgs, RetentionArgs, RollbackArgs, ServeArgs, Settings, StoreArgs, StoreCommand,
    WorkerArgs, command, parse_from,
};
pub use config::{
    ArtifactsConfig, BucketConfig, BuildConfig, BuildTable, ClusterSecret, ClusterTls, ClusterTrust,
    ConfigError, ControllerConfig, DataDir, DatabaseConfig, FileConfig, RedisConfig, RetentionSettings,
    RetentionTable, ServeConfig, Variables, WorkerConfig, resolve, resolve_controller, resolve_worker,
};
pub use error::Exit;
pub use run::run;
