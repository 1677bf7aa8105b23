//! The configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::ConfigError;
use super::retention::RetentionTable;
use crate::args::{DefaultNetwork, LogFormat, duration, listen_address};

/// The configuration file (TOML): the long flags of `serve` with `_` for `-`. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Addresses to listen on.
    #[serde(deserialize_with = "listen_addresses")]
    pub listen: Vec<SocketAddr>,
    /// A port of 127.0.0.1, instead of `listen`.
    pub port: Option<u16>,
    /// Where everything is kept.
    pub data_dir: Option<PathBuf>,
    /// The name of the metadata store.
    pub storage: Option<String>,
    /// How to reach a database server.
    pub db_conn: Option<String>,
    /// The most connections to a database server at once.
    pub db_pool: Option<NonZeroU32>,
    /// Whether to refuse a database whose tables are missing or old.
    pub no_auto_migrate: Option<bool>,
    /// Where code is kept: a folder, or `s3://bucket/prefix`.
    pub artifacts: Option<String>,
    /// The secret that controllers and workers share.
    pub cluster_token: Option<String>,
    /// The authorities of the certificates that controllers and workers show each other.
    pub cluster_ca: Option<PathBuf>,
    /// This node's certificate.
    pub cluster_cert: Option<PathBuf>,
    /// The key of this node's certificate.
    pub cluster_key: Option<PathBuf>,
    /// Where a worker's internal listener is reached.
    pub advertise: Option<String>,
    /// The name of a worker.
    pub worker_id: Option<String>,
    /// A Redis server.
    pub redis: Option<String>,
    /// The certificates of the authorities that it may be from.
    pub redis_ca: Option<PathBuf>,
    /// The name of the sandbox driver.
    pub driver: Option<String>,
    /// Whether addresses that other machines can reach are allowed without authentication.
    pub insecure_no_auth: Option<bool>,
    /// Whether to start when an isolation layer is missing.
    pub allow_weaker_isolation: Option<bool>,
    /// How long invocations in flight may take to finish at the end, such as `"30s"`.
    #[serde(deserialize_with = "time_span")]
    pub shutdown_timeout: Option<Duration>,
    /// How long new calls are still answered at the end.
    #[serde(deserialize_with = "time_span")]
    pub shutdown_delay: Option<Duration>,
    /// The most sandboxes at once.
    pub max_sandboxes: Option<NonZeroU32>,
    /// Sandboxes of each runtime that wait for code.
    pub prewarm: Option<u32>,
    /// `--toolchains`.
    pub toolchains: Option<PathBuf>,
    /// Addresses and ranges that HTTP hooks may reach although they are not of the public network.
    pub hook_allow: Vec<String>,
    /// The network of functions that do not say which they want: `"off"` or `"egress"`.
    pub default_network: Option<DefaultNetwork>,
    /// Private addresses and ranges that every function with egress may reach.
    pub network_allow: Vec<String>,
    /// The table `[build]`.
    pub build: BuildTable,
    /// The table `[retention]`.
    pub retention: RetentionTable,
    /// How the server's own log is written: `"text"` or `"json"`.
    pub log_format: Option<LogFormat>,
    /// What the server's own log has.
    pub log_level: Option<String>,
    /// Accepted, without effect.
    pub local_mode: Option<bool>,
    /// Accepted, without effect on the process driver.
    pub firecracker: Option<PathBuf>,
    /// Accepted, without effect on the process driver.
    pub kernel: Option<PathBuf>,
    /// Accepted, without effect on the process driver.
    pub rootfs: Option<PathBuf>,
}

/// What the file says of builds: the flags `--build-…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildTable {
    /// Variables of every build: where packages come from, for example.
    pub environment: BTreeMap<String, String>,
    /// Hosts, addresses and ranges that are not public and that builds may reach.
    pub allow: Vec<String>,
    /// The memory of one build, in MiB.
    pub memory: Option<u32>,
    /// How long one build may take, such as `"10m"`.
    #[serde(deserialize_with = "time_span")]
    pub timeout: Option<Duration>,
}

impl FileConfig {
    /// Reads a configuration file. The error's cause names the line and, for an unknown key, the key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
    }
}

fn listen_addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| listen_address(text).map_err(D::Error::custom)).collect()
}

pub(super) fn time_span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    duration(&text).map(Some).map_err(D::Error::custom)
}
