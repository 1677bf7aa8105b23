//! Children that this process never made. It is the parent of whatever the processes that it starts leave behind, because
//! containers' first processes must be its own; but nobody waits for the others, such as the processes of another driver
//! whose spawner was killed, or of a runtime that was. Without this they would stay as zombies until the server ends.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// How long a child stays unclaimed after its end until it counts as a stray: far longer than anybody who waits for it takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most children that are watched at once; the others have their turn later.
const MOST: usize = 512;

/// Children that have ended and that nobody has waited for yet, by their numbers, with when that was first seen.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    ended: BTreeMap<i32, (OwnedFd, Instant)>,
}

impl Strays {
    /// Buries those of this process's children that have been unclaimed for long; returns how many. To be called again and
    /// again, with the time.
    pub(crate) fn bury(&mut self, children: impl IntoIterator<Item = i32>, now: Instant) -> usize {
        let mut count = 0;
        self.ended.retain(|_, (process, since)| {
            if now.saturating_duration_since(*since) < PATIENCE {
                // Whoever waited for it may have come.
                return has_ended(process, WaitIdOptions::NOWAIT);
            }
            count += usize::from(has_ended(process, WaitIdOptions::empty()));
            false
        });
        for pid in children {
            if self.ended.len() < MOST
                && !self.ended.contains_key(&pid)
                && let Some(pid) = Pid::from_raw(pid)
                && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
                && has_ended(&process, WaitIdOptions::NOWAIT)
            {
                self.ended.insert(pid.as_raw_nonzero().get(), (process, now));
            }
        }
        count
    }
}

/// Whether a child has ended and nobody has waited for it; that is done, too, unless the options say otherwise.
fn has_ended(process: &OwnedFd, options: WaitIdOptions) -> bool {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::PidFd(process.as_fd()), options), Ok(Some(_)))
}

/// This process's children; none where the kernel does not tell (`CONFIG_PROC_CHILDREN`).
pub(crate) fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    texts
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_that_nobody_waits_for_is_buried_after_a_while_and_no_other() {
        let mut unclaimed = Command::new("true").spawn().unwrap();
        let mut running = Command::new("sleep").arg("1000").spawn().unwrap();
        let pids = [&unclaimed, &running].map(|child| i32::try_from(child.id()).unwrap());
        let mut strays = Strays::default();
        let now = Instant::now();
        while strays.ended.is_empty() {
            assert!(children().contains(&pids[0]));
            assert_eq!(strays.bury(pids, now), 0);
        }
        assert_eq!(strays.bury(pids, now + PATIENCE / 2), 0);
        assert_eq!(strays.bury(pids, now + PATIENCE), 1);
        assert!(unclaimed.wait().is_err(), "there is nothing to wait for");
        assert!(running.try_wait().unwrap().is_none());
        running.kill().unwrap();
        running.wait().unwrap();
    }

    #[test]
    fn a_child_that_somebody_waits_for_is_theirs() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut strays = Strays::default();
        let now = Instant::now();
        while strays.ended.is_empty() {
            strays.bury([pid], now);
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(strays.bury([], now + PATIENCE / 2), 0);
        assert!(strays.ended.is_empty());
    }
}
