//! What an isolation technology must do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use impuls_domain::{Deadline, Logs, SandboxId};
use impuls_guest_protocol::InitError;

use crate::connection::Connection;
use crate::error::SandboxError;
use crate::spec::{Assignment, SandboxSpec};

/// One isolation technology: process, container or microVM.
#[async_trait]
pub trait SandboxDriver: Send + Sync + 'static {
    /// Makes a sandbox and waits until its shim is ready to be assigned. Every call makes another one. On `Err`,
    /// and when the future is dropped half-way, nothing is left behind for longer than a second.
    async fn create(&self, spec: SandboxSpec, by: Deadline) -> Result<Arc<dyn Sandbox>, SandboxError>;

    /// Removes what a crashed server left on this machine and returns how many sandboxes there were. Called
    /// once, before the first `create`; repeatable.
    async fn reap_orphans(&self) -> Result<usize, SandboxError>;
}

/// Why code cannot be loaded: the function's own failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitFailure {
    /// The shim says why.
    Reported(InitError),
    /// The process ended while loading.
    Exited(Exit),
    /// The deadline passed while loading.
    DeadlineExceeded,
}

/// How loading the code went. After a failure the sandbox must be destroyed.
pub type InitReport = Result<(), InitFailure>;

/// How a sandbox's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether the kernel killed it, or part of it, for its memory limit.
    pub out_of_memory: bool,
}

/// What a sandbox has used since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SandboxUsage {
    /// Processor time.
    pub cpu: Duration,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory so far, in bytes.
    pub memory_peak_bytes: u64,
    /// What has come and gone over its network; `None` where the driver cannot tell.
    pub traffic: Option<Traffic>,
}

/// Bytes over a network, with the headers of their packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What the sandbox was sent.
    pub received_bytes: u64,
    /// What it has sent, what was refused included.
    pub sent_bytes: u64,
}

/// What a sandbox's network policy refused since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Packets, of whatever protocol: one connection that is tried again and again is several.
    pub packets: u64,
    /// Names that it could not look up, and addresses that were kept back from it.
    pub lookups: u64,
}

impl Refusals {
    /// Both together.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(more.packets),
            lookups: self.lookups.saturating_add(more.lookups),
        }
    }

    /// What has come on top since.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            lookups: self.lookups.saturating_sub(earlier.lookups),
        }
    }

    /// Whether nothing was refused.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.packets == 0 && self.lookups == 0
    }
}

/// One isolated place. It holds at most one revision's code in its life.
#[async_trait]
pub trait Sandbox: Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> SandboxId;

    /// Gives it code, limits and environment, and waits until the code is loaded. At most once in its life. On
    /// `Err`, on a failed report and when dropped half-way the sandbox is of no further use: destroy it.
    async fn assign(&self, assignment: Assignment, by: Deadline) -> Result<InitReport, SandboxError>;

    /// A connection of its own for the calling thread, served by a task of the calling runtime. Repeatable.
    async fn connect(&self) -> Result<Connection, SandboxError>;

    /// Takes the log text that belongs to no call: what the top level wrote, or work left over by calls that have
    /// ended.
    fn take_loose_logs(&self) -> Logs;

    /// What it has used so far; `None` where the driver cannot tell.
    fn usage(&self) -> Option<SandboxUsage>;

    /// What its network policy refused so far; while it lives, packets as of some seconds ago. Still there when it is
    /// gone.
    fn refusals(&self) -> Refusals;

    /// Resolves once its process has ended, at once if it already has. Repeatable, safe to drop.
    async fn exited(&self) -> Exit;

    /// Kills everything in it and frees all that it held. Repeatable; every call in flight or later ends in
    /// [`Gone`](crate::Gone). Returns once the kernel has confirmed that nothing is left.
    async fn destroy(&self) -> Result<(), SandboxError>;
}
