//! What an operator may set.

use std::time::Duration;

use impuls_domain::NetworkPolicy;

/// Bounds of one worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Front threads, each of which has its own connection to a sandbox. Default: as many as cores, at most 4.
    pub fronts: usize,
    /// Live sandboxes, prewarmed ones included. Default 10,000.
    pub max_sandboxes: usize,
    /// Memory that is never given to sandboxes, in MiB, as the kernel counts available memory. Default 512.
    pub reserved_memory_mib: u64,
    /// Calls of one revision that may wait for a sandbox. Default 10,000.
    pub queue_limit: usize,
    /// Prewarmed sandboxes of each runtime that are kept ready at rest; 0 turns prewarming off. Default 4.
    pub prewarm: usize,
    /// The most prewarmed sandboxes of one runtime, however often cold starts come. Default 24.
    pub prewarm_max: usize,
    /// How long a deploy's check and a warm-up may take. Default 10 s.
    pub init_timeout: Duration,
    /// Bytes of unpacked code that are kept for sandboxes to come; what is in use stays even if it is more. Default 10 GiB.
    pub unpacked_limit: u64,
    /// The network of commands that run in a sandbox of their own. Default: none.
    pub command_network: NetworkPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fronts: 1,
            max_sandboxes: 10_000,
            reserved_memory_mib: 512,
            queue_limit: 10_000,
            prewarm: 4,
            prewarm_max: 24,
            init_timeout: Duration::from_secs(10),
            unpacked_limit: 10 << 30,
            command_network: NetworkPolicy::Off,
        }
    }
}
