//! What is said about containers, and by which variables of an earlier server.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Variables};
use crate::args::ContainerArgs;

/// The table `[container]` of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerTable {
    /// The OCI runtime that makes containers: a file, or a name on `PATH`.
    pub oci_runtime: Option<PathBuf>,
    /// Whether one is taken although code is known to have escaped from its version.
    pub allow_unsafe_oci_runtime: Option<bool>,
}

/// What the container driver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerConfig {
    /// The OCI runtime; `None` takes the first that is installed and safe.
    pub oci_runtime: Option<PathBuf>,
    /// Whether one with known escapes is taken all the same. Default no.
    pub allow_unsafe: bool,
}

impl ContainerConfig {
    /// From the flags, then the file.
    pub(super) fn of(args: ContainerArgs, file: ContainerTable) -> Self {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        Self {
            oci_runtime: args.oci_runtime.filter(given).or(file.oci_runtime.filter(given)),
            allow_unsafe: args.allow_unsafe_oci_runtime.or(file.allow_unsafe_oci_runtime).unwrap_or(false),
        }
    }
}

/// The driver that GoFaas' two variables ask for. `simple` and a false `WORKER_USE_CONTAINER` meant no isolation at all there;
/// here they mean the process driver.
pub(super) fn driver_of(variables: &Variables) -> Result<Option<String>, ConfigError> {
    let wanted = variables.get("WORKER_USE_CONTAINER").map(|value| {
        let value = value.to_ascii_lowercase();
        ["true", "1", "yes"].contains(&value.as_str())
    });
    let kind = match variables.get("WORKER_RUNTIME_TYPE") {
        None => None,
        Some("container") => Some(true),
        Some("simple") => Some(false),
        Some(other) => {
            let reason = format!("{other:?} is unknown; container and simple are known");
            return Err(ConfigError::Variable { name: "WORKER_RUNTIME_TYPE", reason });
        }
    };
    let container = match (wanted, kind) {
        (None, None) => return Ok(None),
        (wanted, kind) => wanted != Some(false) && kind != Some(false),
    };
    Ok(Some(if container { "container" } else { "process" }.to_owned()))
}
