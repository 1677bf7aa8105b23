//! The root of a runtime's sandboxes, made once: a small read-only file system that holds the runtime, the shims,
//! a synthetic `/etc` and little else. It is kept as a mount namespace; a sandbox starts with a copy of it, which
//! is a copy of a few mounts.
//!
//! It is made by a helper process in a new mount and pid namespace. The pid namespace is why: the template must
//! hold a whole `/proc` for sandboxes to be allowed one of their own (the kernel's rule for user namespaces), and
//! that of a pid namespace whose processes are all gone shows nobody.

mod build;
mod files;

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use rustix::process::{Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};

use crate::failure::{Failure, Step};
use crate::messages::Image;
use crate::sys::{self, CloneArgs};
use crate::transport;

/// A runtime's root.
#[derive(Debug)]
pub(crate) struct Template {
    /// Its mount namespace.
    pub(crate) namespace: OwnedFd,
}

impl Template {
    /// Makes it. On `Err` nothing is left behind.
    pub(crate) fn build(image: &Image) -> Result<Self, Failure> {
        let (ours, theirs) = transport::pair().step("make socket pair")?;
        let args = CloneArgs { namespaces: libc::CLONE_NEWNS | libc::CLONE_NEWPID, cgroup: None };
        let parents_end = ours.as_raw_fd();
        let helper = sys::clone_process(args, || {
            // While the spawner's end is open here as well, its death is never heard.
            if let Err(failure) = prepare(parents_end) {
                let answer: Result<(), _> = Err((failure.errno(), failure.step.into_owned()));
                let _spawner_gone = transport::send(&theirs, &answer, &[]);
                return 1;
            }
            let answer = build::build(image).map_err(|failure| (failure.errno(), failure.step.into_owned()));
            let _spawner_gone = transport::send(&theirs, &answer, &[]);
            // Lives until it is killed or the spawner is gone, so that the namespace can be opened.
            let _end = transport::receive_bytes(&theirs, &mut [0]);
            0
        })
        .step("clone root builder")?;
        drop(theirs);
        let answer = transport::receive::<Result<(), (i32, String)>>(&ours).step("await root builder");
        let namespace = File::open(format!("/proc/{}/ns/mnt", helper.as_raw_nonzero()));
        let _ended = kill_process(helper, Signal::KILL);
        let _status = waitpid(Some(helper), WaitOptions::empty());
        match answer? {
            None => Err(Failure::new("build root", std::io::Error::from_raw_os_error(libc::ECHILD))),
            Some((Err((errno, step)), _)) => {
                Err(Failure::new(format!("build root: {step}"), std::io::Error::from_raw_os_error(errno)))
            }
            Some((Ok(()), _)) => Ok(Self { namespace: namespace.step("open root namespace")?.into() }),
        }
    }
}

/// Has the process that makes a root end with the spawner, whichever of its steps the spawner dies in.
fn prepare(parents_end: RawFd) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("set parent death signal")?;
    sys::close_inherited(parents_end).step("close the spawner's end")
}
