//! Which system calls code in a sandbox may make, for every driver that filters them. Taken from what node, python and
//! what they load use, and from Docker's default profile for what programs in general need; less whatever reaches deep
//! into the kernel for little use: io_uring, bpf, keys, userfaultfd, perf, tracing, mounts, namespaces, handles, System V
//! and POSIX queues, aio.
//!
//! What is in none of the lists returns `EPERM`. How a filter is made of them is a driver's own.

use std::ops::Range;

/// A system call by name and by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// As the kernel and libseccomp call it.
    pub name: &'static str,
    /// On this processor.
    pub number: i64,
}

impl SystemCall {
    /// `constant` is its name in libc: `SYS_` and the name.
    const fn new(constant: &'static str, number: i64) -> Self {
        const PREFIX: usize = "SYS_".len();
        Self { name: constant.split_at(PREFIX).1, number }
    }
}

macro_rules! calls {
    ($($call:ident),* $(,)?) => { [$(SystemCall::new(stringify!($call), libc::$call)),*] };
}

/// Calls that are allowed whatever their arguments.
pub const ALLOWED: [SystemCall; COMMON.len() + LEGACY.len()] = {
    let mut all = [SystemCall { name: "", number: 0 }; COMMON.len() + LEGACY.len()];
    let (common, legacy) = all.split_at_mut(COMMON.len());
    common.copy_from_slice(&COMMON);
    legacy.copy_from_slice(&LEGACY);
    all
};

#[rustfmt::skip]
const COMMON: [SystemCall; 206] = calls![
    SYS_accept, SYS_accept4, SYS_bind, SYS_brk, SYS_capget, SYS_capset, SYS_chdir, SYS_clock_getres,
    SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_close_range, SYS_connect, SYS_copy_file_range,
    SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2,
    SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_faccessat, SYS_faccessat2, SYS_fadvise64,
    SYS_fallocate, SYS_fchdir, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_fcntl,
    SYS_fdatasync, SYS_fgetxattr, SYS_flistxattr, SYS_flock, SYS_fremovexattr, SYS_fsetxattr, SYS_fstat,
    SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_get_robust_list, SYS_getcpu, SYS_getcwd,
    SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups, SYS_getitimer, SYS_getpeername,
    SYS_getpgid, SYS_getpid, SYS_getppid, SYS_getpriority, SYS_getrandom, SYS_getresgid, SYS_getresuid,
    SYS_getrusage, SYS_getsid, SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_gettimeofday, SYS_getuid,
    SYS_getxattr, SYS_inotify_add_watch, SYS_inotify_init1, SYS_inotify_rm_watch, SYS_kill,
    SYS_landlock_add_rule, SYS_landlock_create_ruleset, SYS_landlock_restrict_self, SYS_lgetxattr,
    SYS_linkat, SYS_listen, SYS_listxattr, SYS_llistxattr, SYS_lremovexattr, SYS_lseek, SYS_lsetxattr,
    SYS_madvise, SYS_membarrier, SYS_memfd_create, SYS_mincore, SYS_mkdirat, SYS_mknodat, SYS_mlock,
    SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_msync, SYS_munlock, SYS_munlockall,
    SYS_munmap, SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_openat2, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_ppoll,
    SYS_pread64, SYS_preadv, SYS_preadv2, SYS_prlimit64, SYS_pselect6, SYS_pwrite64, SYS_pwritev,
    SYS_pwritev2, SYS_read, SYS_readahead, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmmsg,
    SYS_recvmsg, SYS_removexattr, SYS_renameat2, SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction,
    SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo, SYS_rt_sigreturn, SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo, SYS_sched_get_priority_max, SYS_sched_get_priority_min,
    SYS_sched_getaffinity, SYS_sched_getattr, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam,
    SYS_sched_setscheduler, SYS_sched_yield, SYS_seccomp, SYS_sendfile, SYS_sendmmsg, SYS_sendmsg,
    SYS_sendto, SYS_set_robust_list, SYS_set_tid_address, SYS_setfsgid, SYS_setfsuid, SYS_setgid,
    SYS_setgroups, SYS_setitimer, SYS_setpgid, SYS_setpriority, SYS_setregid, SYS_setresgid, SYS_setresuid,
    SYS_setreuid, SYS_setsid, SYS_setsockopt, SYS_setuid, SYS_setxattr, SYS_shutdown, SYS_sigaltstack,
    SYS_signalfd4, SYS_splice, SYS_statfs, SYS_statx, SYS_symlinkat, SYS_sync, SYS_syncfs, SYS_sysinfo,
    SYS_tee, SYS_tgkill, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun, SYS_timer_gettime,
    SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_times, SYS_tkill,
    SYS_truncate, SYS_umask, SYS_uname, SYS_unlinkat, SYS_utimensat, SYS_vmsplice, SYS_wait4, SYS_waitid,
    SYS_write, SYS_writev,
];

/// Older forms that newer processors do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const LEGACY: [SystemCall; 40] = calls![
    SYS_access, SYS_alarm, SYS_getrlimit, SYS_renameat, SYS_setrlimit, SYS_sync_file_range, SYS_arch_prctl,
    SYS_chmod, SYS_chown, SYS_creat, SYS_dup2, SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_fork,
    SYS_futimesat, SYS_getdents, SYS_getpgrp, SYS_inotify_init, SYS_lchown, SYS_link, SYS_lstat, SYS_mkdir,
    SYS_mknod, SYS_open, SYS_pause, SYS_pipe, SYS_poll, SYS_readlink, SYS_rename, SYS_rmdir, SYS_select,
    SYS_signalfd, SYS_stat, SYS_symlink, SYS_time, SYS_unlink, SYS_utime, SYS_utimes, SYS_vfork,
];

/// Of asm-generic/unistd.h, which `libc` does not name.
#[cfg(target_arch = "aarch64")]
const LEGACY: [SystemCall; 4] = [
    SystemCall { name: "renameat", number: 38 },
    SystemCall { name: "sync_file_range", number: 84 },
    SystemCall { name: "getrlimit", number: 163 },
    SystemCall { name: "setrlimit", number: 164 },
];

/// Calls that answer as if the kernel were older (`ENOSYS`), because callers then do without.
pub const UNKNOWN: [SystemCall; 5] = calls![
    // Its flags are behind a pointer, where a filter cannot look; libraries fall back to `clone`.
    SYS_clone3,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_memfd_secret,
];

/// What Linux 5.16 and later added (`futex_waitv` on), and a little of what is to come; the numbers are the same
/// on every processor. They answer as if the kernel were older, too. Every number costs a microsecond per sandbox.
pub const NEWER: Range<i64> = libc::SYS_futex_waitv..480;

/// Namespaces that `clone` must not make. `CLONE_NEWTIME` is part of the signal number there and means nothing.
pub const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// What `personality` may be called with: the normal one, and the value that only asks.
pub const PERSONALITIES: [u64; 2] = [0, 0xffff_ffff];

/// Families of sockets: no netlink, packet, vsock, …
pub const SOCKET_FAMILIES: [u64; 3] = [libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64];

/// Requests of `ioctl` that put characters into somebody's terminal: the only ones that are refused.
pub const REFUSED_IOCTLS: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Operations of `prctl`: names, signals, privileges to be given up, hints; not `PR_SET_MM`.
#[rustfmt::skip]
pub const PRCTL: [u64; 26] = [
    libc::PR_SET_PDEATHSIG as u64, libc::PR_GET_PDEATHSIG as u64, libc::PR_GET_DUMPABLE as u64,
    libc::PR_SET_DUMPABLE as u64, libc::PR_GET_KEEPCAPS as u64, libc::PR_SET_KEEPCAPS as u64,
    libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, libc::PR_GET_SECCOMP as u64,
    libc::PR_SET_SECCOMP as u64, libc::PR_CAPBSET_READ as u64, libc::PR_CAPBSET_DROP as u64,
    libc::PR_GET_SECUREBITS as u64, libc::PR_SET_TIMERSLACK as u64, libc::PR_GET_TIMERSLACK as u64,
    libc::PR_SET_CHILD_SUBREAPER as u64, libc::PR_GET_CHILD_SUBREAPER as u64,
    libc::PR_SET_NO_NEW_PRIVS as u64, libc::PR_GET_NO_NEW_PRIVS as u64, libc::PR_GET_TID_ADDRESS as u64,
    libc::PR_SET_THP_DISABLE as u64, libc::PR_GET_THP_DISABLE as u64, libc::PR_CAP_AMBIENT as u64,
    libc::PR_GET_SPECULATION_CTRL as u64, libc::PR_SET_SPECULATION_CTRL as u64,
    libc::PR_SET_VMA as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        let read = ALLOWED.iter().find(|call| call.number == libc::SYS_read).unwrap();
        assert_eq!(read.name, "read");
        assert!(ALLOWED.iter().all(|call| !call.name.is_empty() && !call.name.starts_with("SYS_")));
    }

    #[test]
    fn no_call_is_both_allowed_and_unknown() {
        for call in UNKNOWN {
            assert!(!ALLOWED.contains(&call), "{call:?}");
        }
        assert!(ALLOWED.iter().all(|call| !NEWER.contains(&call.number)));
    }
}
