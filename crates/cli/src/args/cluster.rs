//! What `controller` and `worker` take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::artifacts::ArtifactsArgs;
use super::drain::DrainArgs;
use super::parsers::{duration, listen_address, path, switch};
use super::redis::RedisArgs;
use super::retention::RetentionArgs;
use super::serve::{DefaultNetwork, LogFormat, ServeArgs};

/// What all nodes of a cluster take.
#[derive(Args, Clone, Default, PartialEq, Eq)]
pub struct ClusterArgs {
    /// The secret that all controllers and workers share, at least 16 characters. Other users of the machine see flags,
    /// but not variables.
    #[arg(long, value_name = "TOKEN", env = "IMPULS_CLUSTER_TOKEN", hide_env_values = true)]
    pub cluster_token: Option<String>,
    /// The authorities (PEM) that the certificates of all controllers and workers are from. With it they speak TLS to each
    /// other, and to nobody without such a certificate.
    #[arg(long, value_name = "FILE", env = "IMPULS_CLUSTER_CA", value_parser = path())]
    pub cluster_ca: Option<PathBuf>,
    /// This node's certificate (PEM), for servers and clients; a worker's is for the host under which it is reached.
    #[arg(long, value_name = "FILE", env = "IMPULS_CLUSTER_CERT", value_parser = path())]
    pub cluster_cert: Option<PathBuf>,
    /// The key of this node's certificate (PEM, not encrypted).
    #[arg(long, value_name = "FILE", env = "IMPULS_CLUSTER_KEY", value_parser = path())]
    pub cluster_key: Option<PathBuf>,
}

/// Without the secret.
impl std::fmt::Debug for ClusterArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterArgs").finish_non_exhaustive()
    }
}

/// What `worker` takes: all that `serve` takes, which runs functions as well, and what others must know of it.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerArgs {
    /// What a server takes.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// What all nodes take.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Where controllers and other workers reach this worker [default: the address that it listens on].
    #[arg(long, value_name = "HOST:PORT", env = "IMPULS_ADVERTISE")]
    pub advertise: Option<String>,
    /// The name of this worker, another for each [default: one that is made up and kept in the data folder]
    /// [env: also WORKER_ID].
    #[arg(long, value_name = "NAME", env = "IMPULS_WORKER_ID")]
    pub worker_id: Option<String>,
}

/// What `controller` takes: of what `serve` takes all but what is about sandboxes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerArgs {
    /// Listen on exactly this address; may be repeated; port 0 takes a free one [default: 127.0.0.1:8080]
    /// [env: IMPULS_LISTEN, separated by commas].
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Listen on this port of 127.0.0.1 [env: IMPULS_PORT].
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    pub port: Option<u16>,
    /// The folder whose folder `artifacts` all controllers and workers share
    /// [default: /var/lib/impuls when writable, else the user's data folder].
    #[arg(long, value_name = "DIR", env = "IMPULS_DATA_DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// A configuration file (TOML). Environment variables and flags override it.
    #[arg(long, value_name = "FILE", env = "IMPULS_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
    /// Where functions are recorded: postgres [default: postgres].
    #[arg(long, value_name = "NAME", env = "IMPULS_STORAGE_TYPE")]
    pub storage: Option<String>,
    /// Which database: postgres://user:password@host:port/database?sslmode=require, or host=… user=… password=…
    /// dbname=… [default: postgres:postgres at localhost:5432, database faas]. Other users of the machine see flags, but
    /// not variables.
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
    /// Where code is kept: where all controllers and workers find it.
    #[command(flatten)]
    pub artifacts: ArtifactsArgs,
    /// What is kept of the past.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// How a controller stops.
    #[command(flatten)]
    pub drain: DrainArgs,
    /// A Redis server.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Allow addresses that other machines can reach although nobody has to show a token.
    #[arg(long, value_name = "BOOL", env = "IMPULS_INSECURE_NO_AUTH", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_no_auth: Option<bool>,
    /// How long invocations in flight may take to finish at the end, such as 30s or 1m30s [default: 30s].
    #[arg(long, value_name = "TIME", env = "IMPULS_SHUTDOWN_TIMEOUT", value_parser = duration)]
    pub shutdown_timeout: Option<Duration>,
    /// The network of new functions that do not say which they want [default: egress where the workers can give it, else
    /// off].
    #[arg(long, value_name = "POLICY", env = "IMPULS_DEFAULT_NETWORK")]
    pub default_network: Option<DefaultNetwork>,
    /// What all nodes take.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How the server's own log is written [default: text].
    #[arg(long, value_name = "FORMAT", env = "IMPULS_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What the server's own log has: error, warn, info, debug, trace, or a filter per module [default: info].
    #[arg(long, value_name = "LEVEL", env = "IMPULS_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// The user's data folder, as the XDG base directory specification has it.
    #[arg(long, env = "XDG_DATA_HOME", hide = true, value_parser = path())]
    pub xdg_data_home: Option<PathBuf>,
    /// The user's home folder.
    #[arg(long, env = "HOME", hide = true, value_parser = path())]
    pub home: Option<PathBuf>,
}

impl ControllerArgs {
    /// What a server with the same settings takes, and what is not a server's.
    pub(crate) fn split(self) -> (ServeArgs, ClusterArgs) {
        let serve = ServeArgs {
            listen: self.listen,
            port: self.port,
            data_dir: self.data_dir,
            config: self.config,
            storage: self.storage,
            db_conn: self.db_conn,
            db_pool: self.db_pool,
            no_auto_migrate: self.no_auto_migrate,
            artifacts: self.artifacts,
            retention: self.retention,
            drain: self.drain,
            redis: self.redis,
            insecure_no_auth: self.insecure_no_auth,
            shutdown_timeout: self.shutdown_timeout,
            default_network: self.default_network,
            log_format: self.log_format,
            log_level: self.log_level,
            xdg_data_home: self.xdg_data_home,
            home: self.home,
            ..ServeArgs::default()
        };
        (serve, self.cluster)
    }
}
