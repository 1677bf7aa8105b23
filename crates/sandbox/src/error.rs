//! Why the platform could not give or keep a sandbox.

use std::io;

/// Why the platform could not run something in a sandbox. The function's own failures are outcomes, never this.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine has no room for another sandbox.
    #[error("this machine has no room for another sandbox")]
    AtCapacity,
    /// The deadline passed before the sandbox was ready.
    #[error("sandbox was not ready before the deadline")]
    DeadlineExceeded,
    /// The sandbox is gone.
    #[error("sandbox is gone")]
    Gone(#[from] crate::connection::Gone),
    /// Setting it up failed at this step.
    #[error("cannot set up a sandbox: {step}")]
    Setup {
        /// What was being done.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its function asks for a network that cannot be given here.
    #[error("functions cannot have a network here: {0}")]
    Network(String),
    /// Its process ended before it was ready.
    #[error("sandbox process ended before it was ready: {0}")]
    DiedInSetup(String),
    /// The program inside does not keep to the protocol.
    #[error("sandbox broke the guest protocol: {0}")]
    Protocol(String),
    /// The process that makes sandboxes is not there.
    #[error("the spawner process is gone; it is being restarted")]
    SpawnerGone,
}

impl SandboxError {
    /// Whether trying again, on this or another machine, can help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::AtCapacity | Self::SpawnerGone | Self::Gone(_) => true,
            Self::DeadlineExceeded
            | Self::Setup { .. }
            | Self::Network(_)
            | Self::DiedInSetup(_)
            | Self::Protocol(_) => false,
        }
    }
}
