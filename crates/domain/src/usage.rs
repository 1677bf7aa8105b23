//! What an invocation cost.

use std::time::Duration;

/// What one invocation used, measured beside the sandbox by the worker that ran it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From handing the event to the sandbox until its outcome; queueing and cold start are not part of it.
    pub duration: Duration,
    /// Time spent before that on starting and initialising a sandbox; zero for a warm call.
    pub init_duration: Duration,
    /// The sandbox's memory limit, in MiB: duration times this is what is billed.
    pub memory_mib: u32,
}
