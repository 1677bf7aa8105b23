//! What isolates sandboxes on this machine, and what does not.

use std::fmt;
use std::path::Path;

use impuls_sandbox::SandboxError;
use serde::{Deserialize, Serialize};

/// One layer of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LayerName {
    /// User namespaces: whatever is root inside is nobody outside.
    UserNamespace,
    /// Pid namespaces: other processes cannot be seen or signalled.
    PidNamespace,
    /// Mount namespaces with a pivoted, read-only root.
    MountNamespace,
    /// Network namespaces: no network but an own loopback.
    NetworkNamespace,
    /// IPC namespaces: no shared memory, queues or semaphores of others.
    IpcNamespace,
    /// UTS namespaces: an own host name.
    UtsNamespace,
    /// Cgroup namespaces: the place in the cgroup tree is hidden.
    CgroupNamespace,
    /// A fresh `/proc` with the machine's own files masked.
    ProcMask,
    /// A host user id for every sandbox.
    OwnUid,
    /// The memory limit.
    MemoryLimit,
    /// The processor limit.
    CpuLimit,
    /// The limit on processes and threads.
    PidsLimit,
    /// Killing a sandbox as a whole through its cgroup.
    CgroupKill,
    /// The system call filter.
    Seccomp,
    /// Landlock file and signal rules.
    Landlock,
    /// Forking Python sandboxes from a warmed interpreter; a matter of speed, not of safety.
    Zygote,
    /// A network for the functions whose policy asks for one.
    FunctionNetwork,
}

/// How one layer is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Which.
    pub name: LayerName,
    /// Whether every sandbox has it.
    pub works: bool,
    /// Whether this kind of user normally has it, so that its absence stops the server.
    pub expected: bool,
    /// By what it works (`cgroup v1`, `ABI 7`), or why it does not.
    pub detail: String,
    /// What its absence costs in safety.
    pub cost: String,
    /// How to get it; empty when it works.
    pub fix: String,
}

/// Every layer, in the order of [`LayerName`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationReport {
    /// The layers.
    pub layers: Vec<Layer>,
}

impl IsolationReport {
    /// The layers that do not work here.
    pub fn missing(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| !layer.works)
    }

    /// The layers that do not work although this kind of user normally has them.
    pub fn unexpectedly_missing(&self) -> impl Iterator<Item = &Layer> {
        self.missing().filter(|layer| layer.expected)
    }

    /// One layer.
    #[must_use]
    pub fn layer(&self, name: LayerName) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserNamespace => "user namespace",
            Self::PidNamespace => "pid namespace",
            Self::MountNamespace => "mount namespace",
            Self::NetworkNamespace => "network namespace",
            Self::IpcNamespace => "ipc namespace",
            Self::UtsNamespace => "uts namespace",
            Self::CgroupNamespace => "cgroup namespace",
            Self::ProcMask => "masked /proc",
            Self::OwnUid => "own user id",
            Self::MemoryLimit => "memory limit",
            Self::CpuLimit => "cpu limit",
            Self::PidsLimit => "process limit",
            Self::CgroupKill => "cgroup kill",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Zygote => "zygote",
            Self::FunctionNetwork => "function network",
        })
    }
}

/// Finds out what works here by starting a spawner (see [`Config::exe`](crate::Config)) and letting it try.
/// Leaves nothing behind.
pub async fn probe(exe: &Path) -> Result<IsolationReport, SandboxError> {
    crate::driver::examine(exe).await
}
