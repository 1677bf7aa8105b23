//! The traces that a server leaves if it is killed, and their removal by the next one.
//!
//! Every server has a folder `<pid>-<start time>-<number>` in the run folder, with a folder for each container, the
//! runtime's own state, and the path of the runtime. A server whose process is gone, by pid and start time, is dead; its
//! containers have ended with it, because their process 1 watches it, and what the runtime still knows of them is deleted.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use impuls_sandbox::instance;
use tokio::process::Command;

use crate::cgroup::{self, Group};
use crate::oci::PATH;

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

/// Where the cgroups of a server's container are, from the root of each hierarchy.
pub(crate) fn group_path(instance: &str, container: &str) -> String {
    format!("/{PREFIX}{instance}/{container}")
}

/// Makes a server's folder.
pub(crate) fn make_folder(folder: &Path, runtime: &Path) -> io::Result<()> {
    for part in [BUNDLES, STATE] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(part))?;
    }
    fs::write(folder.join(RUNTIME), runtime.as_os_str().as_encoded_bytes())
}

/// Removes what dead servers left in this run folder and returns how many containers there were. What is called after
/// `own` is left alone whatever is known of processes. What cannot be removed is told and stays for the next time; what
/// another server removes at the same time is no error.
pub(crate) async fn reap(run_dir: &Path, stages: &Path, own: &str) -> io::Result<usize> {
    let is_dead = |name: &str| name != own && instance::is_dead(name);
    let mut count = 0;
    for entry in fs::read_dir(run_dir)? {
        let folder = entry?.path();
        let Some(name) = folder.file_name().and_then(OsStr::to_str).filter(|name| is_dead(name)) else {
            continue;
        };
        let is_running = |container: &str| Group::new(group_path(name, container)).is_populated();
        match reap_one(&folder, is_running).await {
            Ok(containers) => count += containers,
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "what a dead server left cannot be removed");
            }
        }
    }
    let of_dead = |name: &str| name.strip_prefix(PREFIX).is_some_and(is_dead);
    cgroup::tops(of_dead).iter().for_each(|folder| remove_group(folder));
    for entry in fs::read_dir(stages)?.flatten() {
        if entry.file_name().to_str().is_some_and(of_dead) {
            // What was mounted there was never seen here.
            let removed = unless_gone(fs::remove_dir(entry.path()));
            if let Err(error) = removed {
                let folder = entry.path();
                tracing::warn!(%error, folder = %folder.display(), "a dead server's folder cannot be removed");
            }
        }
    }
    Ok(count)
}

/// Removes what one dead server left and returns how many containers there were. While a container that cannot be deleted
/// runs, the folder stays, because the runtime knows it by what is in there.
async fn reap_one(folder: &Path, is_running: impl Fn(&str) -> bool) -> io::Result<usize> {
    let runtime = PathBuf::from(fs::read_to_string(folder.join(RUNTIME)).unwrap_or_default());
    let mut count = 0;
    for container in names_in(&folder.join(BUNDLES))? {
        count += 1;
        if let Err(error) = delete(&runtime, &folder.join(STATE), &container).await {
            if is_running(&container) {
                let reason =
                    format!("container {container} of a dead server runs and is not deleted: {error}");
                return Err(io::Error::new(error.kind(), reason));
            }
            tracing::warn!(%error, runtime = %runtime.display(), "cannot delete a container of a dead server");
        }
    }
    unless_gone(fs::remove_dir_all(folder))?;
    Ok(count)
}

/// Whoever is faster may remove it.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// What is in a folder; nothing if it is missing.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn delete(runtime: &Path, state: &Path, container: &str) -> io::Result<()> {
    let mut command = Command::new(runtime);
    // Nothing that this server was told is anything to the runtime.
    command.env_clear().env("PATH", PATH).current_dir("/").stdin(Stdio::null());
    command.arg("--root").arg(state).args(["delete", "--force", container]).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await??;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{} ends with {}", runtime.display(), output.status)))
}

/// Removes a server's cgroup and what is left of those below.
pub(crate) fn remove_group(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            let _in_use = fs::remove_dir(entry.path());
        }
    }
    if let Err(error) = unless_gone(fs::remove_dir(folder)) {
        tracing::warn!(%error, folder = %folder.display(), "a cgroup of containers cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers whose numbers are beyond those that the kernel gives to processes.
    const DEAD: [&str; 2] = ["4194305-1-0", "4194306-1-0"];

    /// A server's folder with one container that a program deletes.
    fn make_with_container(folder: &Path, runtime: &str) {
        make_folder(folder, Path::new(runtime)).unwrap();
        fs::create_dir(folder.join(BUNDLES).join("a")).unwrap();
    }

    #[tokio::test]
    async fn the_folder_of_a_dead_server_goes_and_its_containers_are_counted() {
        let (run, stages) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dead = run.path().join(DEAD[0]);
        make_with_container(&dead, "/bin/true");
        let alive = run.path().join(instance::name().unwrap());
        make_folder(&alive, Path::new("/bin/true")).unwrap();
        assert_eq!(reap(run.path(), stages.path(), "").await.unwrap(), 1);
        assert!(!dead.exists() && alive.exists());
        assert_eq!(reap(run.path(), stages.path(), "").await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_server_never_removes_what_is_its_own() {
        let (run, stages) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = run.path().join(DEAD[0]);
        make_with_container(&own, "/bin/true");
        assert_eq!(reap(run.path(), stages.path(), DEAD[0]).await.unwrap(), 0);
        assert!(own.join(BUNDLES).join("a").exists());
    }

    #[tokio::test]
    async fn a_folder_stays_while_a_container_runs_that_cannot_be_deleted() {
        let run = tempfile::tempdir().unwrap();
        let dead = run.path().join(DEAD[0]);
        make_with_container(&dead, "/bin/false");
        assert!(reap_one(&dead, |_| true).await.is_err());
        assert!(dead.join(STATE).exists());
        assert_eq!(reap_one(&dead, |_| false).await.unwrap(), 1);
        assert!(!dead.exists());
    }

    #[tokio::test]
    async fn the_runtime_hears_nothing_of_the_servers_environment() {
        let run = tempfile::tempdir().unwrap();
        let (dead, runtime) = (run.path().join(DEAD[0]), run.path().join("runtime"));
        // Written by somebody else, so that nobody who is started meanwhile has it open.
        let write = "printf '#!/bin/sh\ntest -z \"$CARGO_MANIFEST_DIR\"\n' >\"$0\" && chmod 700 \"$0\"";
        assert!(
            std::process::Command::new("sh").args(["-c", write]).arg(&runtime).status().unwrap().success()
        );
        assert!(!std::process::Command::new(&runtime).status().unwrap().success(), "with the tests' own");
        make_with_container(&dead, runtime.to_str().unwrap());
        assert_eq!(reap_one(&dead, |_| true).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_holds_up_nothing_else() {
        let (run, stages) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(run.path().join(DEAD[0]), "no folder").unwrap();
        make_with_container(&run.path().join(DEAD[1]), "/bin/true");
        fs::create_dir_all(stages.path().join(format!("{PREFIX}{}", DEAD[0])).join("in use")).unwrap();
        assert_eq!(reap(run.path(), stages.path(), "").await.unwrap(), 1);
        assert!(!run.path().join(DEAD[1]).exists());
        // Another server was faster.
        assert_eq!(reap_one(&run.path().join(DEAD[1]), |_| false).await.unwrap(), 0);
    }
}
