//! The server itself.

use serde::Deserialize;

/// A language runtime that the server found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Its name with version: `nodejs20`.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The exact version.
    pub version: String,
    /// The program on the server.
    pub path: String,
}

/// All runtimes.
#[derive(Clone, Debug, Deserialize)]
pub struct RuntimeList {
    /// The runtimes.
    pub runtimes: Vec<Runtime>,
}

/// The server's own report.
#[derive(Clone, Debug, Deserialize)]
pub struct Health {
    /// `healthy` once calls are accepted.
    pub status: String,
}
