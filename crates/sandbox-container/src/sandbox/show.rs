//! Giving a live container its code: a mount that a thread of the server makes in the container's mount namespace, so that
//! code is one folder on the host however large it is, and a waiting container needs none.

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
    let (answer, done) = oneshot::channel();
    // A thread for this alone: it stays where it has gone.
    let started = thread::Builder::new().name("impuls-show".to_owned()).spawn(move || {
        let _nobody_waits = answer.send(enter_and_mount(&process, &folder));
    });
    started.map_err(setup(&showing))?;
    let shown = done.await.map_err(|_| setup(&showing)(io::Error::from_raw_os_error(libc::ESRCH)))?;
    shown.map_err(setup(&showing))
}

fn enter_and_mount(process: &OwnedFd, folder: &Path) -> io::Result<()> {
    let tree = take(folder)?;
    // A thread that shares its working folder with others may not change its mount namespace.
    sys::unshare(UnshareFlags::FS)?;
    move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::MOUNT)?;
    Ok(move_mount(&tree, "", CWD, CODE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
