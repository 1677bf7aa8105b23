//! The process of the network's yard: the program executed again, see `crate::network::yard`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};

use super::events::Spawner;
use super::{ARGUMENT, YARD};
use crate::failure::{Failure, Step};
use crate::messages::Refusal;
use crate::sys::{self, CloneArgs};

/// Starts it in a pid namespace of its own, so that the kernel kills with it whatever it has started. `socket` becomes
/// its descriptor 0.
pub(crate) fn start(socket: BorrowedFd<'_>) -> Result<Pid, Failure> {
    let arguments = ["impuls-spawner", ARGUMENT, YARD].map(|text| CString::new(text).unwrap_or_default());
    let args = CloneArgs { namespaces: libc::CLONE_NEWPID, cgroup: None };
    let run = || {
        let prepared = set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(io::Error::from)
            .and_then(|()| sys::duplicate_onto(socket, 0))
            .and_then(|()| sys::close_from_on_exec(3));
        sys::reset_signals();
        match prepared.and_then(|()| sys::execute_self(&arguments)) {
            Ok(never) => match never {},
            Err(_) => 1,
        }
    };
    sys::clone_process(args, run).step("clone the yard's process")
}

/// Ends it, and waits until nothing of its pid namespace is left.
pub(crate) fn end(process: Pid) {
    let _ended_already = kill_process(process, Signal::KILL);
    let _status = waitpid(Some(process), WaitOptions::empty());
}

impl Spawner {
    /// Starts a yard. There is one at a time.
    pub(super) fn open_yard(&mut self, fds: Vec<OwnedFd>) -> Result<(), Refusal> {
        self.end_yard();
        let missing = || Failure::new("receive yard", io::Error::from_raw_os_error(libc::EBADF));
        let socket = fds.into_iter().next().ok_or_else(missing)?;
        self.yard = Some(start(socket.as_fd())?);
        Ok(())
    }

    /// Ends the yard, if there is one.
    pub(super) fn end_yard(&mut self) {
        if let Some(process) = self.yard.take() {
            end(process);
        }
    }
}
