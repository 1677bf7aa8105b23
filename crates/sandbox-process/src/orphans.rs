//! The traces that a server leaves if it is killed, and their removal by the next one.
//!
//! Every server has a folder `<pid>-<start time>-<number>` in the run folder, for its sockets and a list of its
//! cgroups and of what its network changed. A server whose process is gone, by pid and start time, is dead; processes of its sandboxes have been
//! killed by the kernel, unless something went very wrong, and are killed here otherwise.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use impuls_sandbox::instance;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::{Cgroups, PREFIX, remove_folder};
use crate::network::traces;

/// The file in a server's folder that lists its cgroups.
const GROUPS: &str = "cgroups.json";
/// How long the processes of a dead server may take to go.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a folder with mode 0700.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Notes which cgroups a server uses.
pub(crate) fn note_groups(folder: &Path, cgroups: &Cgroups) -> io::Result<()> {
    fs::write(folder.join(GROUPS), serde_json::to_vec(cgroups)?)
}

/// Removes what dead servers left in this run folder, and beside our own cgroups, and returns how many sandboxes
/// there were. What is called after `own`, and its table of the packet filter, are left alone whatever is known of processes.
pub(crate) fn reap(
    run_dir: &Path,
    groups: &Cgroups,
    (own, own_table): (&str, Option<&str>),
) -> io::Result<usize> {
    let is_left = |folder: &Path, prefix: &str| {
        let name = folder.file_name().and_then(|name| name.to_str()?.strip_prefix(prefix));
        name.is_some_and(|name| name != own && instance::is_dead(name))
    };
    let mut count = 0;
    traces::reap(own_table);
    for entry in fs::read_dir(run_dir)? {
        let folder = entry?.path();
        if is_left(&folder, "") {
            count += reap_one(&folder)?;
        }
    }
    // Of servers with another run folder, which may be gone.
    for hierarchy in &groups.hierarchies {
        let beside = hierarchy.base.parent().map(fs::read_dir).transpose()?;
        for group in beside.into_iter().flatten().flatten().map(|entry| entry.path()) {
            if is_left(&group, PREFIX) {
                empty_group(&group)?;
            }
        }
    }
    Ok(count)
}

fn reap_one(folder: &Path) -> io::Result<usize> {
    let sockets = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|suffix| suffix == "sock");
    let count = match fs::read_dir(folder) {
        Ok(entries) => entries.filter(|entry| entry.as_ref().is_ok_and(sockets)).count(),
        // Another server that tidies up was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if let Ok(text) = fs::read(folder.join(GROUPS)) {
        let cgroups: Cgroups = serde_json::from_slice(&text)?;
        for hierarchy in &cgroups.hierarchies {
            empty_group(&hierarchy.base)?;
        }
    }
    if let Err(error) = traces::restore(folder) {
        tracing::warn!(error = %error, "forwarding that a dead server switched on stays on");
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(count),
    }
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

    /// A server whose number is beyond those that the kernel gives to processes.
    const DEAD: &str = "4194305-1-0";

    #[test]
    fn the_folder_of_a_dead_server_goes_and_its_sockets_are_counted() {
        let run = tempfile::tempdir().unwrap();
        let dead = run.path().join(DEAD);
        private_folder(&dead).unwrap();
        fs::write(dead.join("a.sock"), "").unwrap();
        note_groups(&dead, &Cgroups::default()).unwrap();
        let alive = run.path().join(instance::name().unwrap());
        private_folder(&alive).unwrap();
        assert_eq!(reap(run.path(), &Cgroups::default(), ("", None)).unwrap(), 1);
        assert!(!dead.exists() && alive.exists());
        assert_eq!(reap(run.path(), &Cgroups::default(), ("", None)).unwrap(), 0);
        // Another server was faster.
        assert_eq!(reap_one(&dead).unwrap(), 0);
    }

    #[test]
    fn a_server_never_removes_what_is_its_own() {
        let run = tempfile::tempdir().unwrap();
        let own = run.path().join(DEAD);
        private_folder(&own).unwrap();
        assert_eq!(reap(run.path(), &Cgroups::default(), (DEAD, None)).unwrap(), 0);
        assert!(own.exists());
    }
}
