//! What is done to a live container from within: giving it its code, by a mount in its mount namespace, so that code is one
//! folder on the host however large it is and a waiting container needs none; and taking hold of its network namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use impuls_sandbox::SandboxError;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use tokio::sync::oneshot;

use crate::driver::setup;
use crate::root::{CODE, take};
use crate::sys;

/// Mounts a folder of the host at [`CODE`], read-only. Nothing in the container may be trusted any more once code is in
/// it, so this is done once, before.
pub(super) async fn code(process: Arc<OwnedFd>, pid: Pid, folder: PathBuf) -> Result<(), SandboxError> {
    let showing = format!("show {} to container {}", folder.display(), pid.as_raw_nonzero());
    apart(&showing, move || enter_and_mount(&process, &folder)).await
}

/// The network namespace of a container. By its descriptor, because the number of a process that has just ended may be
/// another's.
pub(super) async fn network(process: Arc<OwnedFd>) -> Result<OwnedFd, SandboxError> {
    let open = move || -> io::Result<OwnedFd> {
        move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::NETWORK)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    };
    apart("enter the network of a container", open).await
}

/// Does something on a thread for this alone, which stays where it has gone.
async fn apart<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SandboxError> {
    let (answer, done) = oneshot::channel();
    let started = thread::Builder::new().name("impuls-enter".to_owned()).spawn(move || {
        let _nobody_waits = answer.send(work());
    });
    started.map_err(setup(what))?;
    let done = done.await.map_err(|_| setup(what)(io::Error::from_raw_os_error(libc::ESRCH)))?;
    done.map_err(setup(what))
}

fn enter_and_mount(process: &OwnedFd, folder: &Path) -> io::Result<()> {
    let tree = take(folder)?;
    // A thread that shares its working folder with others may not change its mount namespace.
    sys::unshare(UnshareFlags::FS)?;
    move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::MOUNT)?;
    Ok(move_mount(&tree, "", CWD, CODE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
