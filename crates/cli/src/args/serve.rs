//! What `serve` and `doctor` take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;

use super::RedisArgs;
use super::artifacts::ArtifactsArgs;
use super::containers::ContainerArgs;
use super::drain::DrainArgs;
use super::parsers::{duration, key_value, listen_address, path, switch};
use super::retention::RetentionArgs;
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
    /// Listen on exactly this address; may be repeated; port 0 takes a free one [default: 127.0.0.1:8080, and
    /// 127.0.0.1:18080 if it is free] [env: IMPULS_LISTEN, separated by commas].
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Listen on this port of 127.0.0.1 [env: IMPULS_PORT].
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    pub port: Option<u16>,
    /// Where everything is kept [default: /var/lib/impuls when writable, else the user's data folder].
    #[arg(long, value_name = "DIR", env = "IMPULS_DATA_DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// A configuration file (TOML). Environment variables and flags override it.
    #[arg(long, value_name = "FILE", env = "IMPULS_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
    /// Where functions are recorded: sqlite, file (which also shows them as files to read and edit) or postgres
    /// [default: sqlite, or file where the data folder has such files].
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
    /// Where code is kept.
    #[command(flatten)]
    pub artifacts: ArtifactsArgs,
    /// What is kept of the past.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// A queue beside the database.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// How functions are isolated: process, container, or auto, which is process [default: auto].
    #[arg(long, value_name = "NAME", env = "IMPULS_DRIVER")]
    pub driver: Option<String>,
    /// Which program makes containers.
    #[command(flatten)]
    pub containers: ContainerArgs,
    /// Allow addresses that other machines can reach although nobody has to show a token.
    #[arg(long, value_name = "BOOL", env = "IMPULS_INSECURE_NO_AUTH", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_no_auth: Option<bool>,
    /// Start although this machine lacks an isolation layer; `impuls doctor` names it.
    #[arg(long, value_name = "BOOL", env = "IMPULS_ALLOW_WEAKER_ISOLATION", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_weaker_isolation: Option<bool>,
    /// How long invocations in flight may take to finish at the end, such as 30s or 1m30s [default: 30s].
    #[arg(long, value_name = "TIME", env = "IMPULS_SHUTDOWN_TIMEOUT", value_parser = duration)]
    pub shutdown_timeout: Option<Duration>,
    /// How the server stops.
    #[command(flatten)]
    pub drain: DrainArgs,
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
    /// The network of new functions that do not say which they want [default: egress where this machine can give
    /// it, else off].
    #[arg(long, value_name = "POLICY", env = "IMPULS_DEFAULT_NETWORK")]
    pub default_network: Option<DefaultNetwork>,
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
    /// How the server's own log is written [default: text].
    #[arg(long, value_name = "FORMAT", env = "IMPULS_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What the server's own log has: error, warn, info, debug, trace, or a filter per module [default: info].
    #[arg(long, value_name = "LEVEL", env = "IMPULS_LOG_LEVEL")]
    pub log_level: Option<String>,
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
    /// The user's data folder, as the XDG base directory specification has it.
    #[arg(long, env = "XDG_DATA_HOME", hide = true, value_parser = path())]
    pub xdg_data_home: Option<PathBuf>,
    /// The user's home folder.
    #[arg(long, env = "HOME", hide = true, value_parser = path())]
    pub home: Option<PathBuf>,
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
