//! The system calls that `rustix` and the standard library do not wrap. All `unsafe` code of the crate is in this file.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::UnshareFlags;
use tokio::io::unix::AsyncFd;

/// Descriptors that are handed on are first moved to numbers from here on, so that none is in another's way.
const OUT_OF_THE_WAY: RawFd = 16;

/// Leaves namespaces, or what this thread shares with others, for its own. Not for `CLONE_FILES`.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: only `CLONE_FILES` can take descriptors from under other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Sets `MOUNT_ATTR_…` flags of the mount that a descriptor stands for and of all below it.
pub(crate) fn set_mount_flags(mount: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a valid empty C string, the structure lives across the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Hands descriptors to the program that a command executes, as 3, 4, …
pub(crate) fn hand_over(command: &mut Command, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let copies: Vec<OwnedFd> = descriptors
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, OUT_OF_THE_WAY).map_err(Into::into))
        .collect::<io::Result<_>>()?;
    let hand = move || -> io::Result<()> {
        for (copy, number) in copies.iter().zip(3..) {
            // SAFETY: takes integers only; in a child that is about to `execve`, nobody else uses these numbers.
            if unsafe { libc::dup2(copy.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and `execve` it makes nothing but `dup2`, which is safe there.
    unsafe { command.pre_exec(hand) };
    Ok(())
}

/// Puts this thread, and whatever it starts, under a system call filter. `PR_SET_NO_NEW_PRIVS` must have been set.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the structure and the program live across the call, and the kernel copies both.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a descriptor that this process was started with.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a number that is no open descriptor only makes the call fail.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and process 1 of a container was started with it for itself alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets a descriptor be inherited by the next program.
pub(crate) fn keep_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: a number that is no open descriptor only makes the call fail.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A descriptor that the runtime watches.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor until it is dropped, and nobody gets `&mut` to it.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_newer_than_the_list_do_not_exist() {
        // The filter ends with its thread.
        let filtered = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            crate::seccomp::answer_as_older().unwrap();
            [452, 479].map(|number| {
                // SAFETY: `fchmodat2` of no folder, and a number that no kernel has: neither reads memory.
                let result = unsafe { libc::syscall(number, -1, 0, 0, 0) };
                (result, io::Error::last_os_error().raw_os_error())
            })
        });
        assert_eq!(filtered.join().unwrap(), [(-1, Some(libc::ENOSYS)); 2]);
    }
}
