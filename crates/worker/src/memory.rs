//! How much memory the machine has left, or the container around the server.

mod cgroup;

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long one reading is good for.
const FRESH: Duration = Duration::from_millis(100);

/// The kernel's own estimate of available memory, or less where a cgroup around the server ends before; read at most ten
/// times a second, and anew after each sandbox that was made.
#[derive(Default)]
pub(crate) struct MemoryGauge {
    last: Mutex<Option<(Instant, u64)>>,
}

impl MemoryGauge {
    /// Memory that new processes can have without swapping, in MiB; `None` where the kernel does not say.
    pub(crate) fn available_mib(&self) -> Option<u64> {
        let mut last = self.last.lock();
        let now = Instant::now();
        if let Some((at, value)) = *last
            && now.duration_since(at) < FRESH
        {
            return Some(value);
        }
        let machine = parse(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
        let value = cgroup::left_mib().map_or(machine, |left| left.min(machine));
        *last = Some((now, value));
        Some(value)
    }

    /// Whether sandboxes that need about `mib` together leave the reserve untouched.
    pub(crate) fn has_room(&self, mib: u64, reserved_mib: u64) -> bool {
        self.available_mib().is_none_or(|available| available >= reserved_mib + mib)
    }

    /// Has the kernel asked again next time.
    pub(crate) fn forget(&self) {
        *self.last.lock() = None;
    }
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        assert_eq!(parse("MemTotal: 100 kB\nMemAvailable:   2097152 kB\n"), Some(2048));
        assert_eq!(parse("MemTotal: 100 kB\n"), None);
    }
}
