//! What the subcommands on whole stores take.

use std::path::PathBuf;

use clap::Args;

use super::node::{NodeArgs, PlaceArgs};
use super::parsers::{path, switch};
use super::{ArtifactsArgs, ServeArgs};
use crate::config::{ArtifactsConfig, ConfigError, Variables};

/// Which store: that of a server, by the server's own flags and variables.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreArgs {
    /// Where the server's files are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Where the server records functions: sqlite, file or postgres [default: as for the server].
    #[arg(long, value_name = "NAME", env = "IMPULS_STORAGE_TYPE")]
    pub storage: Option<String>,
    /// The server's database, for storage postgres.
    #[arg(long, value_name = "STRING", env = "IMPULS_DB_CONN", hide_env_values = true)]
    pub db_conn: Option<String>,
    /// Refuse a database whose tables are missing or old, rather than to make them where it is filled.
    #[arg(long, value_name = "BOOL", env = "IMPULS_NO_AUTO_MIGRATE", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_auto_migrate: Option<bool>,
    /// Where the server keeps code.
    #[command(flatten)]
    pub artifacts: ArtifactsArgs,
}

impl From<StoreArgs> for ServeArgs {
    fn from(args: StoreArgs) -> Self {
        let StoreArgs { place, storage, db_conn, no_auto_migrate, artifacts } = args;
        NodeArgs { place, storage, db_conn, no_auto_migrate, artifacts, ..NodeArgs::default() }.into()
    }
}

/// What `migrate` takes. A store is `sqlite:DIR` or `file:DIR` with a data folder, or a PostgreSQL URL.
#[derive(Args, Clone, PartialEq, Eq)]
pub struct MigrateArgs {
    /// The store to read: sqlite:DIR, file:DIR or postgres://user:password@host/database. Its server must be stopped.
    #[arg(long, value_name = "STORE", env = "IMPULS_MIGRATE_FROM", hide_env_values = true)]
    pub from: String,
    /// The store to fill, which must be empty: sqlite:DIR, file:DIR or postgres://user:password@host/database.
    #[arg(long, value_name = "STORE", env = "IMPULS_MIGRATE_TO", hide_env_values = true)]
    pub to: String,
    /// Where the source's code is: a folder or s3://bucket/prefix, DIR/artifacts for sqlite and file; needed for postgres.
    #[arg(long, value_name = "LOCATION")]
    pub from_artifacts: Option<String>,
    /// Where the target's code is to be, as above; needed for postgres.
    #[arg(long, value_name = "LOCATION")]
    pub to_artifacts: Option<String>,
    /// Go on although the code of a function is lost at the source.
    #[arg(long)]
    pub allow_missing_code: bool,
}

impl MigrateArgs {
    /// Where the code of the source and that of the target is, if that is said; buckets with the variables of this process.
    pub fn artifacts(&self) -> Result<(Option<ArtifactsConfig>, Option<ArtifactsConfig>), ConfigError> {
        let variables = Variables::of_this_process();
        let told = |location: &Option<String>| {
            location.clone().map(|location| ArtifactsConfig::told(location, &variables)).transpose()
        };
        Ok((told(&self.from_artifacts)?, told(&self.to_artifacts)?))
    }
}

/// Names alone: there are passwords among the values.
impl std::fmt::Debug for MigrateArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrateArgs").finish_non_exhaustive()
    }
}

/// What `backup` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct BackupArgs {
    /// The file to write; it must not exist. It has all secrets of all functions, and is readable for its owner alone.
    #[arg(value_name = "FILE", value_parser = path())]
    pub file: PathBuf,
    /// Which store to read; its server may run.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Go on although the code of a function is lost.
    #[arg(long)]
    pub allow_missing_code: bool,
}

/// What `restore` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RestoreArgs {
    /// A file that `backup` has written.
    #[arg(value_name = "FILE", value_parser = path())]
    pub file: PathBuf,
    /// Which store to fill, of whatever kind; it must be empty.
    #[command(flatten)]
    pub store: StoreArgs,
}
