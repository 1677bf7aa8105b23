//! What an invocation cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one invocation used, measured beside the sandbox by the worker that ran it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From handing the event to the sandbox until its outcome; queueing and cold start are not part of it.
    pub duration: Duration,
    /// Time spent before that on starting and initialising a sandbox; zero for a warm call.
    pub init_duration: Duration,
    /// The sandbox's memory limit, in MiB: duration times this is what is billed.
    pub memory_mib: u32,
    /// What the sandbox used meanwhile, where that was measured.
    pub measured: Option<Measured>,
}

/// What a sandbox used while it ran one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// The most memory that the sandbox has had so far, in bytes.
    pub memory_peak_bytes: u64,
    /// What it received over its network, in bytes; `None` where the driver cannot tell.
    pub received_bytes: Option<u64>,
    /// What it sent over its network, in bytes; `None` where the driver cannot tell.
    pub sent_bytes: Option<u64>,
}
