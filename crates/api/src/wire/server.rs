//! The server itself.

use serde::Serialize;
use utoipa::ToSchema;

/// That the server is well.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy` once calls are accepted.
    pub status: &'static str,
    /// `impuls`.
    pub service: &'static str,
    /// The server's version.
    pub version: &'static str,
    /// Whether functions can run in containers.
    pub docker: bool,
    /// Whether functions can run in microVMs.
    pub firecracker: bool,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
}

/// What a probe is told.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Probe {
    /// `alive`; `ready`, `draining` or `store_unavailable`.
    pub status: &'static str,
}

/// A language runtime that this server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Runtime)]
pub struct RuntimeInfo {
    /// Its version name.
    #[schema(example = "nodejs20")]
    pub name: String,
    /// Other names that mean it.
    pub aliases: Vec<String>,
    /// The exact version.
    #[schema(example = "20.19.2")]
    pub version: String,
    /// The program on the server.
    pub path: String,
}

/// All runtimes that this server has.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RuntimeList {
    /// The runtimes.
    pub runtimes: Vec<RuntimeInfo>,
    /// How many there are.
    pub count: usize,
}
