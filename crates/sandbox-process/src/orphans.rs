//! The traces that a server leaves if it is killed, and their removal by the next one.
//!
//! Every server has a folder `<pid>-<start time>-<number>` in the run folder, for its sockets and a list of its
//! cgroups and of what its network changed. A server whose process is gone, by pid and start time, is dead; processes of its sandboxes have been
//! killed by the kernel, unless something went very wrong, and are killed here otherwise.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::{Cgroups, PREFIX, remove_folder};
use crate::network::traces;

/// The file in a server's folder that lists its cgroups.
const GROUPS: &str = "cgroups.json";
/// How long the processes of a dead server may take to go.
const PATIENCE: Duration = Duration::from_secs(2);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name for a driver of this process that no other process has, now or later.
pub(crate) fn instance_name() -> String {
    let pid = crate::sys::own_pid();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{pid}-{}-{number}", start_time(pid).unwrap_or_default())
}

/// When a process started, in clock ticks since boot: field 22 of proc(5)'s `stat`, counted after the name, which
/// may contain anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_alive(instance: &str) -> Option<bool> {
    let mut parts = instance.split('-');
    let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(start_time(pid) == Some(start))
}

/// Makes a folder with mode 0700.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Notes which cgroups a server uses.
pub(crate) fn note_groups(folder: &Path, cgroups: &Cgroups) -> io::Result<()> {
    fs::write(folder.join(GROUPS), serde_json::to_vec(cgroups)?)
}

/// Removes what dead servers left in this run folder, and beside our own cgroups, and returns how many sandboxes
/// there were.
pub(crate) fn reap(run_dir: &Path, own: &Cgroups, own_table: Option<&str>) -> io::Result<usize> {
    let mut count = 0;
    traces::reap(own_table);
    for entry in fs::read_dir(run_dir)? {
        let folder = entry?.path();
        if is_dead(&folder, "") {
            count += reap_one(&folder)?;
        }
    }
    // Of servers with another run folder, which may be gone.
    for hierarchy in &own.hierarchies {
        let beside = hierarchy.base.parent().map(fs::read_dir).transpose()?;
        for group in beside.into_iter().flatten().flatten().map(|entry| entry.path()) {
            if is_dead(&group, PREFIX) {
                empty_group(&group)?;
            }
        }
    }
    Ok(count)
}

/// Whether a folder is called after a server that is dead.
fn is_dead(folder: &Path, prefix: &str) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()?.strip_prefix(prefix));
    name.and_then(is_alive) == Some(false)
}

fn reap_one(folder: &Path) -> io::Result<usize> {
    let sockets = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|suffix| suffix == "sock");
    let count = fs::read_dir(folder)?.filter(|entry| entry.as_ref().is_ok_and(sockets)).count();
    if let Ok(text) = fs::read(folder.join(GROUPS)) {
        let cgroups: Cgroups = serde_json::from_slice(&text)?;
        for hierarchy in &cgroups.hierarchies {
            empty_group(&hierarchy.base)?;
        }
    }
    if let Err(error) = traces::restore(folder) {
        tracing::warn!(error = %error, "forwarding that a dead server switched on stays on");
    }
    fs::remove_dir_all(folder)?;
    Ok(count)
}

/// Removes a server's cgroup and those of its sandboxes, killing whatever is in them.
fn empty_group(base: &Path) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let children: Vec<PathBuf> = match fs::read_dir(base) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for group in children.iter().map(PathBuf::as_path).chain([base]) {
        while let Err(error) = remove_folder(group) {
            if Instant::now() > until {
                return Err(error);
            }
            kill_members(group);
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Kills the processes of a group. Each is held by a pidfd while its membership is looked up again, so that a
/// number that has passed to another process kills nobody.
fn kill_members(group: &Path) {
    let members = || -> Vec<i32> {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    for pid in members() {
        let Some(process) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            continue;
        };
        if members().contains(&pid) {
            let _dead_already = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        let own = instance_name();
        assert_eq!(is_alive(&own), Some(true));
        let pid = crate::sys::own_pid();
        assert_eq!(is_alive(&format!("{pid}-1-0")), Some(false));
        assert_eq!(is_alive("lost+found"), None);
    }

    #[test]
    fn the_folder_of_a_dead_server_goes_and_its_sockets_are_counted() {
        let run = tempfile::tempdir().unwrap();
        let dead = run.path().join("1-1-0");
        private_folder(&dead).unwrap();
        fs::write(dead.join("a.sock"), "").unwrap();
        note_groups(&dead, &Cgroups::default()).unwrap();
        private_folder(&run.path().join(instance_name())).unwrap();
        assert_eq!(reap(run.path(), &Cgroups::default(), None).unwrap(), 1);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1);
        assert_eq!(reap(run.path(), &Cgroups::default(), None).unwrap(), 0);
    }
}
