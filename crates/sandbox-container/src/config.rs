//! How the driver is set up.

use std::path::PathBuf;
use std::sync::Arc;

use impuls_sandbox::{BindMount, SandboxNetwork};

use crate::oci::OciRuntime;

/// Configuration of the container driver.
#[derive(Clone, Debug)]
pub struct Config {
    /// A folder for what containers are described by and for their sockets, made with mode 0700 if it is missing. Two
    /// servers may share it.
    pub run_dir: PathBuf,
    /// The program that makes containers.
    pub runtime: OciRuntime,
    /// The program that is process 1 of every container; its `main` calls [`init_main`](crate::init_main) when its first
    /// argument is [`ARGUMENT`]. An absolute path without links.
    pub init: PathBuf,
    /// The libraries that it loads, with the loader.
    pub init_libraries: Vec<BindMount>,
    /// What containers of functions with a network are linked to. Without it, such functions fail to start.
    pub network: Option<Arc<dyn SandboxNetwork>>,
    /// Whether a runtime with known escapes is used all the same.
    pub allow_unsafe: bool,
}

/// The first argument of process 1.
pub const ARGUMENT: &str = "container-init";
