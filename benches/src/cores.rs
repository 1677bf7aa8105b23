//! Cores that this machine does not have: parts of those that it has, each for one program and all that it starts.
//!
//! A control group with a quota: whoever is in it gets so much processor time in each tenth of a second, on whichever core. A
//! server's sandboxes have groups of their own below its own, so the quota is theirs as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Where the hierarchy of version 1 is that has the quota.
const HIERARCHY: &str = "/sys/fs/cgroup/cpu";
/// The length of a period, in microseconds.
const PERIOD: u32 = 100_000;

/// A part of a core; it goes when what ran on it has ended.
pub(crate) struct Core {
    group: PathBuf,
}

impl Core {
    /// So many thousandths of a core, under this name.
    pub(crate) fn make(name: &str, thousandths: u32) -> anyhow::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|controller| controller == "cpu").then(|| path.trim_start_matches('/'))
        });
        let Some(own) = own.filter(|_| Path::new(HIERARCHY).join("cgroup.procs").exists()) else {
            bail!(
                "cores are simulated with the quota of version 1 control groups, and {HIERARCHY} has none; leave this \
                 measurement out with --only"
            );
        };
        let group =
            Path::new(HIERARCHY).join(own).join(format!("impuls-bench-{}-{name}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("cannot make {}; be root", group.display()))?;
        let core = Self { group };
        fs::write(core.group.join("cpu.cfs_period_us"), PERIOD.to_string())?;
        fs::write(core.group.join("cpu.cfs_quota_us"), (PERIOD / 1_000 * thousandths).to_string())?;
        Ok(core)
    }

    /// The beginning of a command that runs there.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.group).arg(program);
        command
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Left behind at worst: an empty group.
        drop(fs::remove_dir(&self.group));
    }
}
