//! What of ours lies in a root file system that is built for guests, where nothing is mounted from this machine: the
//! agent's place, the shims' files and how they are started.

use std::path::PathBuf;

pub use crate::agent::GUEST_AGENT as AGENT;
use crate::{node, python, ruby};

/// A language whose shim loads code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShimOf {
    /// JavaScript and TypeScript.
    Node,
    /// Python.
    Python,
    /// Ruby.
    Ruby,
}

/// The shim of a language, for an interpreter at a certain place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// Its files: where they lie, and what is in them.
    pub files: Vec<(PathBuf, &'static str)>,
    /// The command that starts it.
    pub argv: Vec<String>,
    /// The command instead of `argv` when the function's environment steers the interpreter.
    pub steered_argv: Vec<String>,
    /// An argument that is appended when the sandbox is prewarmed.
    pub warm_argument: &'static str,
}

impl ShimOf {
    /// The shim for the interpreter at this absolute path.
    #[must_use]
    pub fn for_interpreter(self, interpreter: &str) -> Shim {
        match self {
            Self::Node => node::shim(interpreter),
            Self::Python => python::shim(interpreter),
            Self::Ruby => ruby::shim(interpreter),
        }
    }
}
