//! The ground on which containers are made: a mount namespace of one thread. The roots of the languages are put together
//! there, so that no mount of ours is ever seen on the host and all of them go with the server, however it ends; and the
//! OCI runtime is executed there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::UnshareFlags;
use tokio::sync::oneshot;

use crate::sys;

/// Where containers' groups of version 2 are mounted beside those of version 1.
const HYBRID: &str = "/sys/fs/cgroup/unified";

type Job = Box<dyn FnOnce() + Send>;

/// The handle of the thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    jobs: mpsc::Sender<Job>,
    stage: PathBuf,
}

impl Ground {
    /// Opens it; `stage` is an empty folder that everybody may enter. In the namespace a file system of its own is
    /// mounted there.
    pub(crate) fn open(stage: &Path) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, opened) = mpsc::channel();
        let folder = stage.to_owned();
        thread::Builder::new().name("impuls-ground".to_owned()).spawn(move || {
            let prepared = prepare(&folder);
            let works = prepared.is_ok();
            let _nobody_waits = ready.send(prepared);
            if works {
                inbox.into_iter().for_each(|job| job());
            }
        })?;
        opened.recv().map_err(io::Error::other)??;
        Ok(Self { jobs, stage: stage.to_owned() })
    }

    /// The folder for roots.
    pub(crate) fn stage(&self) -> &Path {
        &self.stage
    }

    /// Does something short in the namespace.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let (answer, done) = oneshot::channel();
        let job = Box::new(move || {
            let _nobody_waits = answer.send(job());
        });
        self.jobs.send(job).map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

fn prepare(stage: &Path) -> io::Result<()> {
    sys::unshare(UnshareFlags::FS | UnshareFlags::NEWNS)?;
    // What the host mounts later appears here, but nothing of ours there.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount("tmpfs", stage, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755,size=16m")?;
    hide_hybrid()
}

/// crun refuses machines that have controllers in both versions of cgroups at once. Where the limits are those of version
/// 1, it need not see the other.
fn hide_hybrid() -> io::Result<()> {
    let controllers = fs::read_to_string(Path::new(HYBRID).join("cgroup.controllers")).unwrap_or_default();
    if !controllers.trim().is_empty() && Path::new("/sys/fs/cgroup/memory").is_dir() {
        unmount(HYBRID, UnmountFlags::DETACH)?;
    }
    Ok(())
}
