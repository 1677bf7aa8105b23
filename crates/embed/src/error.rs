//! Why a command could not be run.

use std::io;

use impuls_artifacts::ArtifactError;
use impuls_dispatch::RunError;
use impuls_domain::{EnvironmentError, LimitError};
use impuls_sandbox::SandboxError;

/// Why there is no executor, or why a command did not run. A command that ran and failed is an
/// [`InvocationResult`](crate::InvocationResult) with an error text.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// There is nothing that could make sandboxes.
    #[error(
        "there is no helper program: call impuls_embed::init() first thing in main, put the program `impuls` on the PATH, or name it in Options::helper"
    )]
    NoHelper,
    /// The executor's own folder cannot be used.
    #[error("cannot use a temporary folder")]
    Folder(#[source] io::Error),
    /// The executor's own folder cannot be used.
    #[error("cannot use a temporary folder")]
    Artifacts(#[from] ArtifactError),
    /// Sandboxes cannot be made here.
    #[error("cannot set up sandboxes; `impuls doctor` says more")]
    Setup(#[source] SandboxError),
    /// A limit is out of its range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// An image that the machine's own programs cannot stand for.
    #[error(
        "image {0:?} cannot be run: there is no container engine; alpine, debian, ubuntu, python and node can"
    )]
    Image(String),
    /// A command without a program.
    #[error("the command of {0:?} names no program")]
    NoProgram(String),
    /// An entry that is not `NAME=value`.
    #[error("environment variable {0:?} is not written as NAME=value")]
    Variable(String),
    /// A variable that no command can be given.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Input or arguments beyond the bound.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The executor was shut down.
    #[error("the executor has been shut down")]
    ShutDown,
    /// The sandbox failed, not the command.
    #[error("the command could not be run")]
    Run(#[from] RunError),
}
