//! The system calls that `rustix` and `nix` do not wrap. All `unsafe` code of the crate is in this file.
//!
//! Everything here may be called in a process that was forked from the spawner, which has only one thread: a
//! copy of it finds every lock free, the allocator's included.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use seccompiler::BpfProgram;
use tokio::io::unix::AsyncFd;

/// `CLONE_INTO_CGROUP` of linux/sched.h; `libc`'s is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `SECCOMP_SET_MODE_FILTER` of linux/seccomp.h.
const SET_MODE_FILTER: libc::c_ulong = 1;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What to clone beside memory and descriptors.
#[derive(Clone, Copy, Default)]
pub(crate) struct CloneArgs<'a> {
    /// `CLONE_NEW…` flags.
    pub(crate) namespaces: libc::c_int,
    /// The cgroup v2 folder that the child is born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Copies this process; returns the child's pid to the parent. In the child `run` is called, and the child ends
/// with the status that it returns, whatever happens in it.
pub(crate) fn clone_process(args: CloneArgs<'_>, run: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: all-zero is a valid `clone_args`: a plain integer structure where zero means "not used".
    let mut raw: libc::clone_args = unsafe { std::mem::zeroed() };
    raw.flags = args.namespaces as u64;
    raw.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of all memory, like after `fork`. The caller has one
    // thread, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut raw, size_of_val(&raw)) })?;
    if pid == 0 {
        // A panic must not unwind into the parent's code, which would then run twice.
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(101);
        exit_now(status);
    }
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Ends this process at once: no destructors, no `atexit` handlers of a parent that it is a copy of.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(status) }
}

/// Leaves namespaces for new ones. Not for `CLONE_FILES`.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: only `CLONE_FILES` can take descriptors from under other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Sets `MOUNT_ATTR_…` flags of the mount that a descriptor stands for, of all below it too if `recursive`.
pub(crate) fn set_mount_flags(mount: BorrowedFd<'_>, flags: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, the structure lives across the call and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Closes every descriptor from 3 on but `keep`.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|&number| number > 2).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if number > first {
            close_range(first, number - 1, 0)?;
        }
        first = number + 1;
    }
    close_range(first, RawFd::MAX, 0)
}

/// Closes a descriptor of a process that has just been cloned and never uses, nor drops, its owner.
pub(crate) fn close_inherited(number: RawFd) -> io::Result<()> {
    close_range(number, number, 0)
}

/// Marks every descriptor from `first` on to be closed by `execve`.
pub(crate) fn close_from_on_exec(first: RawFd) -> io::Result<()> {
    close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC as i32)
}

fn close_range(first: RawFd, last: RawFd, flags: i32) -> io::Result<()> {
    // SAFETY: the processes that call this have just been cloned and never use, nor drop, the owners of the
    // descriptors that they close: they end by `exit_now` or `execve`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Makes `number` another name of `descriptor`, inherited by `execve`.
pub(crate) fn duplicate_onto(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: called in a process that is about to `execve`, which has no owner of the descriptor that may be
    // replaced.
    check(i64::from(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })).map(drop)
}

/// Takes over a descriptor that this process was started with.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a number that is no open descriptor only makes the call fail.
    check(i64::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: it is open, and the caller says that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives every signal its default action and blocks none: `execve` keeps what is ignored or blocked.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of ours. It fails for SIGKILL, SIGSTOP and glibc's own, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _previous = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Installs a system call filter. `PR_SET_NO_NEW_PRIVS` must have been set.
pub(crate) fn install_filter(program: &BpfProgram) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: seccompiler's `sock_filter` has the kernel's layout; the kernel copies the program.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const filter) }).map(drop)
}

/// A program's bytes as the kernel reads them.
pub(crate) fn filter_bytes(program: &BpfProgram) -> Vec<u8> {
    let instruction = |i: &seccompiler::sock_filter| {
        let [a, b] = i.code.to_ne_bytes();
        let [c, d, e, f] = i.k.to_ne_bytes();
        [a, b, i.jt, i.jf, c, d, e, f]
    };
    program.iter().flat_map(instruction).collect()
}

/// Puts this process under a Landlock rule set, for good. `PR_SET_NO_NEW_PRIVS` must have been set.
pub(crate) fn restrict_by_landlock(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// The newest Landlock interface of this kernel, if it has Landlock.
pub(crate) fn landlock_abi() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel reads no memory.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    })
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives across the call.
    check(i64::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }))
        .map(drop)
}

/// Executes a program in place of this one; returns only if that fails.
pub(crate) fn execve(arguments: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(arguments.first().map_or(c"", CString::as_c_str), arguments, environment) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Executes this very program again.
pub(crate) fn execute_self(arguments: &[CString]) -> Result<Infallible, io::Error> {
    nix::unistd::execve(c"/proc/self/exe", arguments, &[] as &[CString]).map_err(Into::into)
}

/// A descriptor that the runtime watches.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nobody gets `&mut` to it.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// Whether the other end of a socket has been closed.
pub(crate) fn is_hung_up(socket: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let socket = socket.as_fd();
    let mut polled = [PollFd::new(&socket, PollFlags::empty())];
    poll(&mut polled, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && polled.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Whether a read of a socket would not wait.
pub(crate) fn is_readable(socket: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let socket = socket.as_fd();
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    poll(&mut polled, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// This process's id.
pub(crate) fn own_pid() -> u32 {
    process::id()
}
