//! The last steps of a runtime's process before it becomes the runtime.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, setrlimit, setsid};

use super::{Plan, Process};
use crate::failure::{Failure, Step};
use crate::sys;

/// Open files of one process.
const OPEN_FILES: u64 = 4_096;
/// Locked memory, in bytes.
const LOCKED_MEMORY: u64 = 64 * 1024;
const STACK: u64 = 8 * 1024 * 1024;
/// Signals that wait to be delivered, and timers, which need one each. The kernel counts them for the spawner's user, too.
const PENDING_SIGNALS: u64 = 1_024;
/// The descriptor of the listening socket.
const LISTENER: i32 = 3;
/// Descriptors that are still needed are moved to numbers from here on.
const ABOVE_STDIO: i32 = 16;

/// What every process of a sandbox is limited to, besides cgroups.
pub(crate) fn resource_limits(pids: u32) -> [(Resource, u64); 9] {
    [
        (Resource::Nofile, OPEN_FILES),
        (Resource::Core, 0),
        (Resource::Nproc, u64::from(pids)),
        (Resource::Memlock, LOCKED_MEMORY),
        (Resource::Sigpending, PENDING_SIGNALS),
        (Resource::Stack, STACK),
        (Resource::Msgqueue, 0),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
    ]
}

/// A copy of a descriptor whose number is in nobody's way.
pub(super) fn above_stdio(fd: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    rustix::io::fcntl_dupfd_cloexec(fd, ABOVE_STDIO).step("move descriptor")
}

/// Turns this process into the runtime. Returns only if a step fails.
pub(super) fn execute(
    plan: &Plan<'_>,
    process: &Process,
    rules: Option<BorrowedFd<'_>>,
) -> Result<Infallible, Failure> {
    setsid().step("start session")?;
    let rules = rules.map(above_stdio).transpose()?;
    let [listener, stdout, stderr] = &process.stdio;
    let listener = above_stdio(listener.as_fd())?;
    let (stdout, stderr) = (above_stdio(stdout.as_fd())?, above_stdio(stderr.as_fd())?);
    let stdin = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("open /dev/null")?;
    let stdin = above_stdio(stdin.as_fd())?;
    for (fd, number) in [(&stdin, 0), (&stdout, 1), (&stderr, 2)] {
        sys::duplicate_onto(fd.as_fd(), number).step("set descriptors")?;
    }
    for (resource, limit) in resource_limits(plan.pids) {
        // A hard limit that is lower already stays: raising it is not ours to do.
        let limit = rustix::process::getrlimit(resource).maximum.map_or(limit, |hard| hard.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).step("set limits")?;
    }
    super::drop_privileges()?;
    if let Some(rules) = &rules {
        sys::restrict_by_landlock(rules.as_fd()).step("apply Landlock")?;
    }
    sys::reset_signals();
    rustix::process::umask(Mode::from(0o022));
    rustix::process::chdir("/").step("enter /")?;
    sys::close_from_on_exec(LISTENER).step("mark descriptors")?;
    plan.filters.install().step("apply system call filter")?;
    sys::duplicate_onto(listener.as_fd(), LISTENER).step("set listener")?;
    Err(sys::execve(&process.arguments, &process.environment)).step("execute runtime")
}
