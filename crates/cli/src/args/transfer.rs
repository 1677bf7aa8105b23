//! What the subcommands on whole stores take.

use std::path::PathBuf;

use clap::Args;

use super::ServeArgs;
use super::parsers::path;

/// Which store: that of a server, by the server's own flags and variables.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreArgs {
    /// The server's data folder [default: as for the server].
    #[arg(long, value_name = "DIR", env = "IMPULS_DATA_DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// The server's configuration file.
    #[arg(long, value_name = "FILE", env = "IMPULS_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
    /// Where the server records functions: sqlite, file or postgres [default: as for the server].
    #[arg(long, value_name = "NAME", env = "IMPULS_STORAGE_TYPE")]
    pub storage: Option<String>,
    /// The server's database, for storage postgres.
    #[arg(long, value_name = "STRING", env = "IMPULS_DB_CONN", hide_env_values = true)]
    pub db_conn: Option<String>,
    /// The user's data folder, as the XDG base directory specification has it.
    #[arg(long, env = "XDG_DATA_HOME", hide = true, value_parser = path())]
    pub xdg_data_home: Option<PathBuf>,
    /// The user's home folder.
    #[arg(long, env = "HOME", hide = true, value_parser = path())]
    pub home: Option<PathBuf>,
}

impl From<StoreArgs> for ServeArgs {
    fn from(args: StoreArgs) -> Self {
        let StoreArgs { data_dir, config, storage, db_conn, xdg_data_home, home } = args;
        Self { data_dir, config, storage, db_conn, xdg_data_home, home, ..Self::default() }
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
    /// The folder of the source's code, DIR/artifacts for sqlite and file; needed for postgres.
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub from_artifacts: Option<PathBuf>,
    /// The folder for the target's code, DIR/artifacts for sqlite and file; needed for postgres.
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub to_artifacts: Option<PathBuf>,
    /// Go on although the code of a function is lost at the source.
    #[arg(long)]
    pub allow_missing_code: bool,
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
