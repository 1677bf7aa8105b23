//! What a sandbox is made from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use impuls_domain::{Limits, NetworkPolicy, RuntimeName, SandboxId, limits};
use impuls_guest_protocol::Init;

/// A file or folder of the host that a sandbox sees, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindMount {
    /// Where it is on the host; absolute, without symbolic links.
    pub host: PathBuf,
    /// Where it is in the sandbox; absolute.
    pub guest: PathBuf,
}

/// How the first process of a runtime comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartMethod {
    /// By executing [`RuntimeImage::argv`].
    Exec,
    /// By forking from a warmed interpreter that this command starts; where a driver cannot, or the function's
    /// environment steers the interpreter, [`RuntimeImage::argv`] is executed instead.
    Zygote(Vec<String>),
}

/// One runtime of this machine: everything that its sandboxes hold and how they start. Made once, at start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeImage {
    /// Its version name, such as `nodejs20`.
    pub name: RuntimeName,
    /// The only parts of the host that a sandbox sees.
    pub mounts: Vec<BindMount>,
    /// Symbolic links: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Files of ours: where, and what is in them (the shims).
    pub files: Vec<(PathBuf, &'static str)>,
    /// The command that starts the shim; the first element is an absolute path inside the sandbox.
    pub argv: Vec<String>,
    /// The command instead of `argv` when the function's environment steers the interpreter, which `argv` may tell
    /// to ignore it.
    pub steered_argv: Vec<String>,
    /// An argument that is appended when the sandbox is prewarmed.
    pub warm_argument: &'static str,
    /// How the process comes to be.
    pub start: StartMethod,
    /// How much its sandboxes may write to `/tmp`, in MiB; their memory limit counts it too.
    pub tmp_mib: u32,
    /// Roughly what one more idle sandbox costs the machine, in MiB; pools are sized by it.
    pub idle_memory_mib: u32,
}

/// What the kernel enforces for one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxLimits {
    /// Memory, including `/tmp`, in MiB.
    pub memory_mib: u32,
    /// Processor share, in thousandths of a core.
    pub milli_vcpu: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl From<&Limits> for SandboxLimits {
    fn from(limits: &Limits) -> Self {
        Self { memory_mib: limits.memory_mib(), milli_vcpu: limits.milli_vcpu(), pids: limits::PIDS }
    }
}

/// A sandbox to be made.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Its id.
    pub id: SandboxId,
    /// Its runtime.
    pub image: Arc<RuntimeImage>,
    /// Whether it will wait in a pool: its shim then makes a dummy call before it is ready.
    pub prewarm: bool,
    /// Variables that the interpreter itself must be started with; empty for pooled sandboxes. With any, the
    /// process is executed, never forked from a zygote.
    pub interpreter_environment: BTreeMap<String, String>,
    /// What the kernel enforces until the sandbox is assigned.
    pub limits: SandboxLimits,
}

/// What turns a waiting sandbox into one of a revision.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The folder of the host that appears, read-only, as [`Init::code_dir`].
    pub code: PathBuf,
    /// What the kernel enforces from now on.
    pub limits: SandboxLimits,
    /// What it may reach from now on. A waiting sandbox reaches nothing, and `Off` costs nothing. Where a driver
    /// cannot keep the policy, `assign` fails; it never opens more.
    pub network: NetworkPolicy,
    /// What the shim is told.
    pub init: Init,
}
