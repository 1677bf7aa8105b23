//! What goes in and what comes out.

use std::path::PathBuf;
use std::time::Duration;

/// One command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxConfig {
    /// A name for whoever reads the result's errors; nothing else depends on it.
    pub function_id: String,
    /// The container image: `alpine`, `debian`, `ubuntu`, `python` or `node` with any tag.
    pub source: String,
    /// The program, looked for on the sandbox's `PATH` unless it has a `/`, and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// Its environment, each entry as `NAME=value`.
    pub env_vars: Option<Vec<String>>,
    /// Its standard input; at most 5 MiB.
    pub payload: Vec<u8>,
}

/// What became of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationResult {
    /// A new id for each command.
    pub request_id: String,
    /// What it wrote to standard output; `None` if it failed.
    pub response: Option<Vec<u8>>,
    /// What it wrote to standard error, with invalid UTF-8 replaced; `None` if nothing.
    pub logs: Option<String>,
    /// Why it failed: its exit code, a signal, the time limit or the memory limit. `None` if it exited with 0.
    pub error: Option<String>,
    /// Its exit code, if it ended by itself. 127 if there is no such program.
    pub exit_code: Option<i32>,
    /// What it wrote to standard output, also if it failed.
    pub stdout: Vec<u8>,
}

/// How an executor is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The program that is executed as the helper; see the crate's documentation. Default: looked for.
    pub helper: Option<PathBuf>,
    /// Memory of one command, its `/tmp` included, in MiB; 64 to 32,768. Default 512.
    pub memory_mib: u32,
    /// Processor share of one command, in thousandths of a core. Default 1,000.
    pub milli_vcpu: u32,
    /// How long one command may take. Default 30 s.
    pub timeout: Duration,
    /// Commands that run at the same time; further ones wait. Default 64.
    pub max_concurrency: usize,
    /// Sandboxes that are kept ready once the first command has run. Default 4.
    pub prewarm: usize,
    /// Whether to go on when layers of isolation that this kind of user normally has are missing. Default `false`.
    pub allow_weaker_isolation: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            helper: None,
            memory_mib: 512,
            milli_vcpu: 1_000,
            timeout: Duration::from_secs(30),
            max_concurrency: 64,
            prewarm: 4,
            allow_weaker_isolation: false,
        }
    }
}
