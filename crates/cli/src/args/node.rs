//! What every server takes, whether it runs functions itself or not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::RedisArgs;
use super::artifacts::ArtifactsArgs;
use super::drain::DrainArgs;
use super::parsers::{duration, listen_address, path, switch};
use super::retention::RetentionArgs;
use super::serve::{DefaultNetwork, LogFormat};

/// Where a server's files are.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceArgs {
    /// Where everything is kept [default: /var/lib/impuls when writable, else the user's data folder].
    #[arg(long, value_name = "DIR", env = "IMPULS_DATA_DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// A configuration file (TOML). Environment variables and flags override it.
    #[arg(long, value_name = "FILE", env = "IMPULS_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
    /// The user's data folder, as the XDG base directory specification has it.
    #[arg(long, env = "XDG_DATA_HOME", hide = true, value_parser = path())]
    pub xdg_data_home: Option<PathBuf>,
    /// The user's home folder.
    #[arg(long, env = "HOME", hide = true, value_parser = path())]
    pub home: Option<PathBuf>,
}

/// What `serve`, `controller` and `worker` take. A field that is `None` was given neither as a flag nor in the environment;
/// the configuration file and then the default decide, in [`resolve`](crate::resolve).
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeArgs {
    /// Listen on exactly this address; may be repeated; port 0 takes a free one [default: 127.0.0.1:8080, of
    /// `serve` 127.0.0.1:18080 as well if it is free, of `worker` 127.0.0.1:7070] [env: IMPULS_LISTEN, separated by commas].
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Listen on this port of 127.0.0.1 [env: IMPULS_PORT].
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    pub port: Option<u16>,
    /// Where its files are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Where functions are recorded: sqlite, file (which also shows them as files to read and edit) or postgres
    /// [default: sqlite, or file where the data folder has such files; postgres for `controller` and `worker`, which can share no other].
    #[arg(long, value_name = "NAME", env = "IMPULS_STORAGE_TYPE")]
    pub storage: Option<String>,
    /// Which database, for storage postgres: postgres://user:password@host:port/database?sslmode=require, or
    /// host=… user=… password=… dbname=…. Other users of the machine see flags, but not variables.
    #[arg(long, value_name = "STRING", env = "IMPULS_DB_CONN", hide_env_values = true)]
    pub db_conn: Option<String>,
    /// The most connections to the database at once [default: 10].
    #[arg(long, value_name = "N", env = "IMPULS_DB_POOL", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub db_pool: Option<u32>,
    /// Refuse to start on a database whose tables are missing or old, rather than to make them; `impuls store schema`
    /// prints how to.
    #[arg(long, value_name = "BOOL", env = "IMPULS_NO_AUTO_MIGRATE", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_auto_migrate: Option<bool>,
    /// Where code is kept; controllers and workers all find it there.
    #[command(flatten)]
    pub artifacts: ArtifactsArgs,
    /// What is kept of the past.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// A queue beside the database.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Allow addresses that other machines can reach although nobody has to show a token.
    #[arg(long, value_name = "BOOL", env = "IMPULS_INSECURE_NO_AUTH", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_no_auth: Option<bool>,
    /// How long invocations in flight may take to finish at the end, such as 30s or 1m30s [default: 30s].
    #[arg(long, value_name = "TIME", env = "IMPULS_SHUTDOWN_TIMEOUT", value_parser = duration)]
    pub shutdown_timeout: Option<Duration>,
    /// How the server stops.
    #[command(flatten)]
    pub drain: DrainArgs,
    /// The network of new functions that do not say which they want [default: egress where this machine, or every
    /// worker, can give it, else off].
    #[arg(long, value_name = "POLICY", env = "IMPULS_DEFAULT_NETWORK")]
    pub default_network: Option<DefaultNetwork>,
    /// How the server's own log is written [default: text].
    #[arg(long, value_name = "FORMAT", env = "IMPULS_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What the server's own log has: error, warn, info, debug, trace, or a filter per module [default: info].
    #[arg(long, value_name = "LEVEL", env = "IMPULS_LOG_LEVEL")]
    pub log_level: Option<String>,
}
