//! What `serve` takes about containers.

use std::path::PathBuf;

use clap::Args;

use super::parsers::{path, switch};

/// Which program makes containers.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerArgs {
    /// The OCI runtime that makes containers: a file, or a name on PATH. Given, functions can ask for driver `container`
    /// whatever --driver says [default: the first of crun, runc, youki that is installed and has no known escapes].
    #[arg(long, value_name = "PROGRAM", env = "IMPULS_OCI_RUNTIME", value_parser = path())]
    pub oci_runtime: Option<PathBuf>,
    /// Take an OCI runtime although code is known to have escaped from its version; `impuls doctor` says which.
    #[arg(long, value_name = "BOOL", env = "IMPULS_ALLOW_UNSAFE_OCI_RUNTIME", value_parser = switch)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_unsafe_oci_runtime: Option<bool>,
}
