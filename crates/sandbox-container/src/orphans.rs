//! The traces that a server leaves if it is killed, and their removal by the next one.
//!
//! Every server has a folder `<pid>-<start time>-<number>` in the run folder, with a folder for each container, the
//! runtime's own state, and the path of the runtime. A server whose process is gone, by pid and start time, is dead; its
//! containers have ended with it, because their process 1 watches it, and what the runtime still knows of them is deleted.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::Command;

use crate::cgroup;

/// What cgroups and folders outside of the data folder are called, before the server's own name.
pub(crate) const PREFIX: &str = "impuls-oci-";
/// The file that says which runtime made a server's containers.
const RUNTIME: &str = "runtime";
/// The folder of the runtime's own state.
pub(crate) const STATE: &str = "state";
/// The folder with one folder for each container.
pub(crate) const BUNDLES: &str = "bundles";
/// How long deleting one container may take.
const PATIENCE: Duration = Duration::from_secs(10);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name for a driver of this process that no other process has, now or later.
pub(crate) fn instance_name() -> String {
    let pid = std::process::id();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{pid}-{}-{number}", start_time(pid).unwrap_or_default())
}

/// When a process started, in clock ticks since boot: field 22 of proc(5)'s `stat`, counted after the name, which may
/// contain anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether the server of this name is dead; false for what is no name.
fn is_dead(instance: &str) -> bool {
    let mut parts = instance.split('-').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(pid)), Some(Ok(start))) => {
            u32::try_from(pid).is_ok_and(|pid| start_time(pid) != Some(start))
        }
        _ => false,
    }
}

/// Makes a server's folder.
pub(crate) fn make_folder(folder: &Path, runtime: &Path) -> io::Result<()> {
    for part in [BUNDLES, STATE] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(part))?;
    }
    fs::write(folder.join(RUNTIME), runtime.as_os_str().as_encoded_bytes())
}

/// Removes what dead servers left in this run folder and returns how many containers there were.
pub(crate) async fn reap(run_dir: &Path, stages: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(run_dir)? {
        let folder = entry?.path();
        if folder.file_name().and_then(|name| name.to_str()).is_some_and(is_dead) {
            count += reap_one(&folder).await?;
        }
    }
    let of_dead = |name: &str| name.strip_prefix(PREFIX).is_some_and(is_dead);
    cgroup::tops(of_dead).iter().for_each(|folder| remove_group(folder));
    for entry in fs::read_dir(stages)?.flatten() {
        if entry.file_name().to_str().is_some_and(of_dead) {
            // What was mounted there was never seen here.
            fs::remove_dir(entry.path())?;
        }
    }
    Ok(count)
}

async fn reap_one(folder: &Path) -> io::Result<usize> {
    let runtime = PathBuf::from(fs::read_to_string(folder.join(RUNTIME)).unwrap_or_default());
    let mut count = 0;
    for entry in fs::read_dir(folder.join(BUNDLES)).into_iter().flatten().flatten() {
        count += 1;
        let delete = Command::new(&runtime)
            .arg("--root")
            .arg(folder.join(STATE))
            .args(["delete", "--force"])
            .arg(entry.file_name())
            .kill_on_drop(true)
            .output();
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, delete).await {
            tracing::warn!(%error, runtime = %runtime.display(), "cannot delete a container of a dead server");
        }
    }
    fs::remove_dir_all(folder)?;
    Ok(count)
}

/// Removes a server's cgroup and what is left of those below.
pub(crate) fn remove_group(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            let _in_use = fs::remove_dir(entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(folder) {
        tracing::warn!(%error, folder = %folder.display(), "a cgroup of containers cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        assert!(!is_dead(&instance_name()));
        assert!(is_dead(&format!("{}-1-0", std::process::id())));
        assert!(!is_dead("lost+found"));
    }

    #[tokio::test]
    async fn the_folder_of_a_dead_server_goes_and_its_containers_are_counted() {
        let (run, stages) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dead = run.path().join("1-1-0");
        make_folder(&dead, Path::new("/bin/true")).unwrap();
        fs::create_dir(dead.join(BUNDLES).join("a")).unwrap();
        make_folder(&run.path().join(instance_name()), Path::new("/bin/true")).unwrap();
        assert_eq!(reap(run.path(), stages.path()).await.unwrap(), 1);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1);
        assert_eq!(reap(run.path(), stages.path()).await.unwrap(), 0);
    }
}
