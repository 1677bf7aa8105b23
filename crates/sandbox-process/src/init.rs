//! Process 1 of a sandbox: a copy of the spawner that builds the place it finds itself in, starts the runtime's
//! process, reaps whatever is orphaned, and ends the sandbox by ending.
//!
//! It belongs to the same user as the code it watches, so it is not dumpable (its memory, descriptors and
//! environment are then not for that user), and the kernel lets nobody inside send it a deadly signal.

pub(crate) mod mounts;
mod runtime;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

pub(crate) use runtime::resource_limits;

use crate::cgroup::Group;
use crate::failure::{Failure, Step};
use crate::seccomp::Filters;
use crate::sys::{self, CloneArgs};
use crate::transport;

/// The user and group inside every sandbox.
pub(crate) const GUEST_ID: u32 = 1000;
/// What has come up: `Running` for a place whose process runs, `Placed` for one that awaits its process, which
/// then comes with the Landlock rules.
pub(crate) const RUNNING: u8 = b'R';
pub(crate) const PLACED: u8 = b'P';
/// Followed by the error number (4 bytes) and the step's name.
pub(crate) const FAILED: u8 = b'F';
/// Followed by the runtime process's exit code and signal (4 bytes each), -1 for none.
pub(crate) const EXITED: u8 = b'X';

/// What init needs; made before the clone, so that it does nothing but system calls.
pub(crate) struct Plan<'a> {
    /// The socket to the spawner. The first message from there says that the ids are mapped.
    pub(crate) channel: OwnedFd,
    pub(crate) group: &'a Group,
    /// What to execute; `None` if the process comes from a zygote.
    pub(crate) process: Option<Process>,
    pub(crate) filters: &'a Filters,
    pub(crate) pids: u32,
    /// How `/tmp` is mounted.
    pub(crate) tmp: CString,
}

/// A runtime's process to be executed.
pub(crate) struct Process {
    /// Listening socket, standard output, standard error.
    pub(crate) stdio: [OwnedFd; 3],
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
}

/// The life of process 1. Returns its exit status.
pub(crate) fn run(plan: &Plan<'_>) -> i32 {
    let channel = plan.channel.as_fd();
    match build(plan).and_then(|runtime| Ok((runtime, drop_privileges()?))) {
        Ok((runtime, ())) => {
            let keep = [channel];
            if sys::close_all_but(&keep).is_err() {
                return 1;
            }
            reap(channel, runtime)
        }
        Err(failure) => {
            report(channel, &failure);
            1
        }
    }
}

fn report(channel: BorrowedFd<'_>, failure: &Failure) {
    let mut message = vec![FAILED];
    message.extend(failure.errno().to_le_bytes());
    message.extend(failure.step.as_bytes());
    // The spawner that would read this may be gone; then this process is killed anyway.
    let _gone = transport::send_bytes(channel, &message, &[]);
}

fn build(plan: &Plan<'_>) -> Result<Option<Pid>, Failure> {
    let channel = plan.channel.as_fd();
    // While the spawner's end of the channel and its socket to the server are open here as well, neither this process nor
    // the server hears of the spawner's death.
    let mut needed = vec![channel];
    needed.extend(plan.group.tasks());
    needed.extend(plan.process.iter().flat_map(|process| &process.stdio).map(AsFd::as_fd));
    sys::close_all_but(&needed).step("close the spawner's descriptors")?;
    let (go, _) = transport::receive_bytes(channel, &mut [0]).step("await id map")?;
    if go == 0 {
        return Err(Failure::new("await id map", io::Error::from_raw_os_error(libc::EPIPE)));
    }
    plan.group.join()?;
    become_guest()?;
    // After the change of user, which clears it; the check is for a parent that was gone before.
    set_parent_process_death_signal(Some(Signal::KILL)).step("set parent death signal")?;
    if sys::is_hung_up(channel) {
        return Err(Failure::new("await spawner", io::Error::from_raw_os_error(libc::EPIPE)));
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("make init not dumpable")?;
    rustix::system::sethostname(b"sandbox").step("set host name")?;
    sys::loopback_up().step("bring loopback up")?;
    mounts::mount_all(&plan.tmp)?;
    let rules = crate::landlock::rules()?;
    let rules = rules.as_ref().map(AsFd::as_fd);
    let mut keep = vec![channel];
    keep.extend(rules);
    keep.extend(plan.process.iter().flat_map(|process| &process.stdio).map(AsFd::as_fd));
    sys::close_all_but(&keep).step("close descriptors")?;
    let Some(process) = &plan.process else {
        transport::send_bytes(channel, &[PLACED], rules.as_slice()).step("report place")?;
        return Ok(None);
    };
    let runtime = start_runtime(plan, process, rules)?;
    transport::send_bytes(channel, &[RUNNING], &[]).step("report start")?;
    Ok(Some(runtime))
}

fn become_guest() -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::Uid::from_raw(GUEST_ID), rustix::process::Gid::from_raw(GUEST_ID));
    rustix::thread::set_thread_res_gid(gid, gid, gid).step("become guest group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step("become guest user")
}

/// Starts the runtime's process and waits until it has been executed.
fn start_runtime(plan: &Plan<'_>, process: &Process, rules: Option<BorrowedFd<'_>>) -> Result<Pid, Failure> {
    let (ours, low) = transport::pair().step("make socket pair")?;
    let theirs = runtime::above_stdio(low.as_fd())?;
    // Two names would be two ends to close.
    drop(low);
    let runtime = sys::clone_process(CloneArgs::default(), || {
        let failure = match runtime::execute(plan, process, rules) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        report(theirs.as_fd(), &failure);
        1
    })
    .step("clone runtime process")?;
    drop(theirs);
    let mut buffer = [0; 256];
    let (length, _) = transport::receive_bytes(&ours, &mut buffer).step("await runtime process")?;
    // Nothing but the end of the socket: `execve` closed it.
    match buffer.get(..length) {
        Some(message) if !message.is_empty() => Err(read_failure(message)),
        _ => Ok(runtime),
    }
}

/// Reads what [`report`] wrote.
pub(crate) fn read_failure(message: &[u8]) -> Failure {
    let errno =
        message.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(libc::EIO, i32::from_le_bytes);
    let step = String::from_utf8_lossy(message.get(5..).unwrap_or_default()).into_owned();
    Failure::new(step, io::Error::from_raw_os_error(errno))
}

fn drop_privileges() -> Result<(), Failure> {
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true).step("set no_new_privs")
}

/// Gives up every capability, also for programs executed later.
fn drop_capabilities() -> Result<(), Failure> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know yet.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).step("drop bounding set"),
        }
    }
    rustix::thread::clear_ambient_capability_set().step("drop ambient capabilities")?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).step("drop capabilities")
}

/// Reaps orphans until the runtime process ends, which ends the sandbox. A place whose process comes from
/// outside is ended from outside.
fn reap(channel: BorrowedFd<'_>, runtime: Option<Pid>) -> i32 {
    let mut child = SigSet::empty();
    child.add(NixSignal::SIGCHLD);
    loop {
        // Blocked since the spawner, so none is missed.
        let _signal = child.wait();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == runtime => {
                    let _gone = transport::send_bytes(channel, &exit_message(status), &[]);
                    return 0;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

fn exit_message(status: WaitStatus) -> [u8; 9] {
    let [a, b, c, d] = status.exit_status().unwrap_or(-1).to_le_bytes();
    let [e, f, g, h] = status.terminating_signal().unwrap_or(-1).to_le_bytes();
    [EXITED, a, b, c, d, e, f, g, h]
}

/// Reads what [`exit_message`] wrote: exit code and signal.
pub(crate) fn read_exit(message: &[u8]) -> (Option<i32>, Option<i32>) {
    let number = |from: usize| {
        let bytes = message.get(from..from + 4)?.try_into().ok()?;
        Some(i32::from_le_bytes(bytes)).filter(|&number| number >= 0)
    };
    (number(1), number(5))
}
