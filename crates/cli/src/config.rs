//! What the server was told: defaults < file < variables of earlier servers < `IMPULS_…` variables < flags.
//!
//! [`resolve`] is pure. It refuses only what no server may do; whether a storage or driver of that name exists is for
//! the binary to say.

mod artifacts;
mod cluster;
mod data_dir;
mod file;
mod redis;
mod retention;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::args::{DefaultNetwork, LogFormat, NodeArgs, RedisArgs, ServeArgs};
pub use artifacts::{ArtifactsConfig, BucketConfig};
pub use cluster::{
    ClusterSecret, ClusterTls, ClusterTrust, ControllerConfig, WorkerConfig, resolve_controller,
    resolve_worker,
};
pub use data_dir::DataDir;
pub use file::{BuildTable, FileConfig};
pub use redis::RedisConfig;
pub use retention::{RetentionSettings, RetentionTable};
pub use variables::Variables;

/// The port when none is given.
const DEFAULT_PORT: u16 = 8080;
/// A further port when none is given, which clients of NQRust expect.
const FURTHER_PORT: u16 = 18080;
/// The metadata store when none is given.
const DEFAULT_STORAGE: &str = "sqlite";
/// How long invocations in flight may take to finish at the end, when nothing is given.
const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(30);

/// What the server was told, complete with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// The addresses to listen on, exactly these; never empty. Default 127.0.0.1:8080.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on as well if nobody else does: 127.0.0.1:18080 when no address is given.
    pub listen_if_free: Vec<SocketAddr>,
    /// Where everything is kept.
    pub data_dir: DataDir,
    /// The name of the metadata store. Default `sqlite`.
    pub storage: String,
    /// Nobody has said which metadata store, so what the data folder has may decide.
    pub storage_is_default: bool,
    /// The database, for storage that needs a server.
    pub database: DatabaseConfig,
    /// Where code is kept. Default the folder `artifacts` of the data folder.
    pub artifacts: ArtifactsConfig,
    /// What is kept of the past.
    pub retention: RetentionSettings,
    /// A queue beside the database.
    pub redis: RedisConfig,
    /// The name of the sandbox driver. Default `auto`, the strongest that works here.
    pub driver: String,
    /// Addresses that other machines can reach are wanted without authentication. Default off.
    pub insecure_no_auth: bool,
    /// A missing isolation layer is no reason not to start. Default off.
    pub allow_weaker_isolation: bool,
    /// How long invocations in flight may take to finish at the end. Default 30 s.
    pub shutdown_timeout: Duration,
    /// How long new calls are still answered at the end, before that. Default 0 s.
    pub shutdown_delay: Duration,
    /// The most sandboxes at once; `None` leaves it to the memory budget.
    pub max_sandboxes: Option<u32>,
    /// Sandboxes of each runtime that wait for code; `None` adapts to the calls.
    pub prewarm: Option<u32>,
    /// A folder of language toolchains; `None` is the folder `toolchains` of the data folder.
    pub toolchains: Option<PathBuf>,
    /// Addresses and ranges that HTTP hooks may reach although they are not of the public network. Default none.
    pub hook_allow: Vec<String>,
    /// The network of functions that do not say which they want; `None` is egress where this machine can give it.
    pub default_network: Option<DefaultNetwork>,
    /// Private addresses and ranges that every function with egress may reach. As they were written.
    pub network_allow: Vec<String>,
    /// Bounds of builds.
    pub builds: BuildConfig,
    /// How the server's own log is written. Default text.
    pub log_format: LogFormat,
    /// What the server's own log has. Default `info`.
    pub log_level: String,
    /// Settings that were given, are accepted for compatibility and have no effect. For a line in the log.
    pub without_effect: Vec<&'static str>,
    /// What else whoever started the server should know about the settings; sentences for the log.
    pub notices: Vec<String>,
}

/// What the server was told of its database server. Does not show the connection, which has a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Which database, and how to reach it. As it was written.
    pub connection: Option<String>,
    /// The most connections at once; `None` is the store's default.
    pub pool: Option<u32>,
    /// Missing or old tables are a reason not to start. Default off.
    pub no_auto_migrate: bool,
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, pool, no_auto_migrate } = self;
        f.debug_struct("DatabaseConfig")
            .field("has_connection", &connection.is_some())
            .field("pool", pool)
            .field("no_auto_migrate", no_auto_migrate)
            .finish()
    }
}

/// What the server was told of builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildConfig {
    /// Variables of every build; those of flags beside those of the file.
    pub environment: BTreeMap<String, String>,
    /// What builds may reach that is not public. As it was written.
    pub allow: Vec<String>,
    /// The memory of one build, in MiB; `None` is the builder's default.
    pub memory_mib: Option<u32>,
    /// How long one build may take; `None` is the builder's default.
    pub timeout: Option<Duration>,
}

/// Why the server cannot be configured like this.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no configuration. The cause names the line and the key.
    #[error("the configuration file {path} is not valid", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// The file says both `listen` and `port`.
    #[error("the configuration file has both `listen` and `port`; give one of them")]
    ListenAndPort,
    /// An address that other machines can reach, and nobody would have to show a token.
    #[error(
        "{0} can be reached from other machines and nobody would have to show a token; \
         listen on 127.0.0.1, or give --insecure-no-auth"
    )]
    Exposed(SocketAddr),
    /// A variable of the environment that does not have what it must.
    #[error("{name} in the environment: {reason}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Code is kept in folders and in buckets alone.
    #[error("code cannot be kept in {0}://…; give --artifacts a folder or s3://bucket/prefix")]
    Artifacts(String),
    /// Code is to be kept in a bucket, and nobody says in which.
    #[error(
        "storage s3 keeps code in a bucket and none is named; give --artifacts s3://bucket/prefix, or IMPULS_ARTIFACTS"
    )]
    NoBucket,
    /// What is collected at once is collected from under a deploy.
    #[error(
        "code that nothing names is kept for at least 1s, and is not looked for more often than every second"
    )]
    Retention,
    /// Controllers and workers share a database, which only one storage is.
    #[error("storage {0:?} cannot be shared by controllers and workers; give --storage postgres, or nothing")]
    NotShared(String),
    /// A worker that other machines can reach, and nobody would have to show a token.
    #[error(
        "{0} can be reached from other machines, which could run anything here without a token; give all \
         controllers and workers the same --cluster-token (IMPULS_CLUSTER_TOKEN), such as that of `openssl rand -hex 32`, \
         or certificates (--cluster-ca, --cluster-cert, --cluster-key)"
    )]
    NoToken(SocketAddr),
    /// Something is missing of what TLS needs.
    #[error("--cluster-ca, --cluster-cert and --cluster-key belong together: give all three, or none")]
    PartialTls,
    /// There is no place for data.
    #[error("/var/lib/impuls is not writable and the user has no home folder; give --data-dir")]
    NoDataDir,
}

impl ServeArgs {
    /// Reads the configuration file, if one is named, and resolves everything.
    pub fn load(self) -> Result<ServeConfig, ConfigError> {
        let file = match &self.node.place.config {
            Some(path) if !path.as_os_str().is_empty() => FileConfig::read(path)?,
            _ => FileConfig::default(),
        };
        resolve(file, &Variables::of_this_process(), self)
    }
}

/// The configuration from file, variables and flags; `clap` has already put flags before their own `IMPULS_…` variables.
/// An empty text is as good as none.
pub fn resolve(file: FileConfig, variables: &Variables, args: ServeArgs) -> Result<ServeConfig, ConfigError> {
    let without_effect = without_effect(&file, &args);
    let node = args.node;
    let insecure_no_auth = node.insecure_no_auth.or(file.insecure_no_auth).unwrap_or(false);
    let mut notices = notices(variables);
    let (listen, listen_if_free) = addresses(&file, variables, (&node, insecure_no_auth), &mut notices)?;
    if let Some(exposed) = listen.iter().find(|address| !address.ip().is_loopback())
        && !insecure_no_auth
    {
        return Err(ConfigError::Exposed(*exposed));
    }
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    let data_dir = node.place.data_dir.filter(given).or_else(|| variables.data_dir());
    let data_dir = match data_dir.or(file.data_dir.clone().filter(given)) {
        Some(path) => DataDir::Given(path),
        None => DataDir::default_for(node.place.xdg_data_home, node.place.home),
    };
    let storage = text([node.storage, variables.storage(), file.storage.clone()]);
    let artifacts = artifacts::artifacts(node.artifacts, variables, &file, storage.as_deref())?;
    let storage = storage.and_then(|name| known_storage(name, &mut notices));
    let storage_is_default = storage.is_none();
    let storage = storage.unwrap_or_else(|| DEFAULT_STORAGE.to_owned());
    notices.extend(unused_database(&storage, variables));
    let is_shared = storage == "postgres";
    let in_file = RedisArgs { redis: file.redis, redis_ca: file.redis_ca };
    let redis = RedisConfig::resolve(node.redis, in_file, variables, is_shared, &mut notices)?;
    Ok(ServeConfig {
        listen,
        listen_if_free,
        data_dir,
        storage,
        storage_is_default,
        database: DatabaseConfig {
            connection: text([node.db_conn, variables.db_conn(), file.db_conn]),
            pool: node.db_pool.or(file.db_pool.map(u32::from)),
            no_auto_migrate: node.no_auto_migrate.or(file.no_auto_migrate).unwrap_or(false),
        },
        artifacts,
        retention: retention::retention(&node.retention, &file.retention)?,
        redis,
        driver: text([args.driver, file.driver]).unwrap_or_else(|| "auto".to_owned()),
        insecure_no_auth,
        allow_weaker_isolation: args.allow_weaker_isolation.or(file.allow_weaker_isolation).unwrap_or(false),
        shutdown_timeout: node.shutdown_timeout.or(file.shutdown_timeout).unwrap_or(DEFAULT_SHUTDOWN),
        shutdown_delay: node.drain.shutdown_delay.or(file.shutdown_delay).unwrap_or_default(),
        max_sandboxes: args.max_sandboxes.or(file.max_sandboxes.map(u32::from)),
        toolchains: args.toolchains.filter(given).or(file.toolchains.filter(given)),
        prewarm: match args.prewarm {
            Some(size) => Some(size),
            None => variables.prewarm()?.or(file.prewarm),
        },
        default_network: node.default_network.or(file.default_network),
        network_allow: list(args.network_allow, file.network_allow),
        builds: BuildConfig {
            environment: file.build.environment.into_iter().chain(args.build_env).collect(),
            allow: list(args.build_allow, file.build.allow),
            memory_mib: args.build_memory.or(file.build.memory),
            timeout: args.build_timeout.or(file.build.timeout),
        },
        hook_allow: list(args.hook_allow, file.hook_allow),
        log_format: node.log_format.or(file.log_format).unwrap_or_default(),
        log_level: text([node.log_level, variables.log_level(), file.log_level])
            .unwrap_or_else(|| "info".to_owned()),
        without_effect,
        notices,
    })
}

/// A database of an earlier server's that this one does not take by itself: what was recorded there is not here.
fn unused_database(storage: &str, variables: &Variables) -> Option<String> {
    let names = variables.database();
    (storage == DEFAULT_STORAGE && !names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("{names}: functions are recorded in an SQLite file all the same; --storage postgres takes that database")
    })
}

/// The metadata store of a name. `local` and `s3` are GoFaas' words for where code is kept, and say nothing of metadata.
fn known_storage(name: String, notices: &mut Vec<String>) -> Option<String> {
    match name.as_str() {
        "postgresql" => Some("postgres".to_owned()),
        "local" | "s3" => {
            notices.push(format!(
                "storage {name:?} is where code is kept, which it is; metadata is stored as by default"
            ));
            None
        }
        _ => Some(name),
    }
}

fn notices(variables: &Variables) -> Vec<String> {
    let names = variables.without_effect();
    if names.is_empty() {
        return Vec::new();
    }
    let names = names.join(", ");
    vec![format!(
        "variables of earlier servers that are set and have no effect: {names}; see docs/compatibility.md"
    )]
}

fn local(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)]
}

/// Where to listen, and where as well if nobody else does. A port or a list of addresses of a higher level replaces both
/// of a lower one.
fn addresses(
    file: &FileConfig,
    variables: &Variables,
    (args, any_host): (&NodeArgs, bool),
    notices: &mut Vec<String>,
) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), ConfigError> {
    if !args.listen.is_empty() {
        return Ok((args.listen.clone(), Vec::new()));
    }
    if let Some(port) = args.port {
        return Ok((local(port), Vec::new()));
    }
    let told = variables.addresses(any_host)?;
    if !told.listen.is_empty() {
        if let Some(name) = told.narrowed {
            notices.push(format!(
                "{name} names no host; this server listens on 127.0.0.1 unless it is told --insecure-no-auth"
            ));
        }
        return Ok((told.listen, Vec::new()));
    }
    match (file.listen.is_empty(), file.port) {
        (false, Some(_)) => Err(ConfigError::ListenAndPort),
        (false, None) => Ok((file.listen.clone(), Vec::new())),
        (true, Some(port)) => Ok((local(port), Vec::new())),
        (true, None) => Ok((local(DEFAULT_PORT), local(FURTHER_PORT))),
    }
}

/// The first that says something.
fn text<const N: usize>(by_level: [Option<String>; N]) -> Option<String> {
    by_level.into_iter().flatten().find(|text| !text.is_empty())
}

/// The list of flags or variables, else that of the file. What is empty is as good as not given.
fn list(given: Vec<String>, file: Vec<String>) -> Vec<String> {
    let given: Vec<String> = given.into_iter().filter(|text| !text.is_empty()).collect();
    if given.is_empty() { file } else { given }
}

fn without_effect(file: &FileConfig, args: &ServeArgs) -> Vec<&'static str> {
    let local_mode = args.local_mode.or(file.local_mode).unwrap_or(false);
    let given = [
        ("local_mode", local_mode),
        ("firecracker", args.firecracker.is_some() || file.firecracker.is_some()),
        ("kernel", args.kernel.is_some() || file.kernel.is_some()),
        ("rootfs", args.rootfs.is_some() || file.rootfs.is_some()),
    ];
    given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
}

#[cfg(test)]
mod tests;
