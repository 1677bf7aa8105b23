//! Which system calls a sandbox may make. Taken from what node, python and what they load use, and from Docker's
//! default profile for what programs in general need; less whatever reaches deep into the kernel for little use:
//! io_uring, bpf, keys, userfaultfd, perf, tracing, mounts, namespaces, handles, System V and POSIX queues, aio.

use std::ops::Range;

/// Calls that are allowed whatever their arguments.
pub(super) const ALLOWED: [i64; COMMON.len() + LEGACY.len()] = {
    let mut all = [0; COMMON.len() + LEGACY.len()];
    let (common, legacy) = all.split_at_mut(COMMON.len());
    common.copy_from_slice(&COMMON);
    legacy.copy_from_slice(&LEGACY);
    all
};
#[rustfmt::skip]
const COMMON: [i64; 206] = [
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind, libc::SYS_brk, libc::SYS_capget, libc::SYS_capset,
    libc::SYS_chdir, libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_connect, libc::SYS_copy_file_range, libc::SYS_dup,
    libc::SYS_dup3, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_fadvise64,
    libc::SYS_fallocate, libc::SYS_fchdir, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
    libc::SYS_fchownat, libc::SYS_fcntl, libc::SYS_fdatasync, libc::SYS_fgetxattr, libc::SYS_flistxattr,
    libc::SYS_flock, libc::SYS_fremovexattr, libc::SYS_fsetxattr, libc::SYS_fstat, libc::SYS_fstatfs,
    libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_futex, libc::SYS_get_robust_list, libc::SYS_getcpu,
    libc::SYS_getcwd, libc::SYS_getdents64, libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getgroups, libc::SYS_getitimer, libc::SYS_getpeername, libc::SYS_getpgid, libc::SYS_getpid,
    libc::SYS_getppid, libc::SYS_getpriority, libc::SYS_getrandom, libc::SYS_getresgid,
    libc::SYS_getresuid, libc::SYS_getrusage, libc::SYS_getsid, libc::SYS_getsockname,
    libc::SYS_getsockopt, libc::SYS_gettid, libc::SYS_gettimeofday, libc::SYS_getuid, libc::SYS_getxattr,
    libc::SYS_inotify_add_watch, libc::SYS_inotify_init1, libc::SYS_inotify_rm_watch, libc::SYS_kill,
    libc::SYS_landlock_add_rule, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr, libc::SYS_linkat, libc::SYS_listen, libc::SYS_listxattr, libc::SYS_llistxattr,
    libc::SYS_lremovexattr, libc::SYS_lseek, libc::SYS_lsetxattr, libc::SYS_madvise, libc::SYS_membarrier,
    libc::SYS_memfd_create, libc::SYS_mincore, libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_mlock,
    libc::SYS_mlock2, libc::SYS_mlockall, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_mremap,
    libc::SYS_msync, libc::SYS_munlock, libc::SYS_munlockall, libc::SYS_munmap, libc::SYS_nanosleep,
    libc::SYS_newfstatat, libc::SYS_openat, libc::SYS_openat2, libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal, libc::SYS_pipe2, libc::SYS_pkey_alloc, libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect, libc::SYS_ppoll, libc::SYS_pread64, libc::SYS_preadv, libc::SYS_preadv2,
    libc::SYS_prlimit64, libc::SYS_pselect6, libc::SYS_pwrite64, libc::SYS_pwritev, libc::SYS_pwritev2,
    libc::SYS_read, libc::SYS_readahead, libc::SYS_readlinkat, libc::SYS_readv, libc::SYS_recvfrom,
    libc::SYS_recvmmsg, libc::SYS_recvmsg, libc::SYS_removexattr, libc::SYS_renameat2,
    libc::SYS_restart_syscall, libc::SYS_rseq, libc::SYS_rt_sigaction, libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_sigreturn, libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait, libc::SYS_rt_tgsigqueueinfo, libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min, libc::SYS_sched_getaffinity, libc::SYS_sched_getattr,
    libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity, libc::SYS_sched_setattr, libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler, libc::SYS_sched_yield, libc::SYS_seccomp, libc::SYS_sendfile,
    libc::SYS_sendmmsg, libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_set_robust_list,
    libc::SYS_set_tid_address, libc::SYS_setfsgid, libc::SYS_setfsuid, libc::SYS_setgid,
    libc::SYS_setgroups, libc::SYS_setitimer, libc::SYS_setpgid, libc::SYS_setpriority, libc::SYS_setregid,
    libc::SYS_setresgid, libc::SYS_setresuid, libc::SYS_setreuid, libc::SYS_setsid,
    libc::SYS_setsockopt, libc::SYS_setuid, libc::SYS_setxattr, libc::SYS_shutdown, libc::SYS_sigaltstack,
    libc::SYS_signalfd4, libc::SYS_splice, libc::SYS_statfs, libc::SYS_statx, libc::SYS_symlinkat,
    libc::SYS_sync, libc::SYS_syncfs, libc::SYS_sysinfo, libc::SYS_tee,
    libc::SYS_tgkill, libc::SYS_timer_create, libc::SYS_timer_delete, libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime, libc::SYS_timer_settime, libc::SYS_timerfd_create, libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime, libc::SYS_times, libc::SYS_tkill, libc::SYS_truncate, libc::SYS_umask,
    libc::SYS_uname, libc::SYS_unlinkat, libc::SYS_utimensat, libc::SYS_vmsplice, libc::SYS_wait4,
    libc::SYS_waitid, libc::SYS_write, libc::SYS_writev,
];

/// Older forms that newer processors do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const LEGACY: [i64; 40] = [
    libc::SYS_access, libc::SYS_alarm, libc::SYS_getrlimit, libc::SYS_renameat, libc::SYS_setrlimit, libc::SYS_sync_file_range, libc::SYS_arch_prctl, libc::SYS_chmod, libc::SYS_chown,
    libc::SYS_creat, libc::SYS_dup2, libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd,
    libc::SYS_fork, libc::SYS_futimesat, libc::SYS_getdents, libc::SYS_getpgrp, libc::SYS_inotify_init,
    libc::SYS_lchown, libc::SYS_link, libc::SYS_lstat, libc::SYS_mkdir, libc::SYS_mknod, libc::SYS_open,
    libc::SYS_pause, libc::SYS_pipe, libc::SYS_poll, libc::SYS_readlink, libc::SYS_rename, libc::SYS_rmdir,
    libc::SYS_select, libc::SYS_signalfd, libc::SYS_stat, libc::SYS_symlink, libc::SYS_time,
    libc::SYS_unlink, libc::SYS_utime, libc::SYS_utimes, libc::SYS_vfork,
];

/// `renameat`, `sync_file_range`, `getrlimit`, `setrlimit` of asm-generic/unistd.h, which `libc` does not name.
#[cfg(target_arch = "aarch64")]
const LEGACY: [i64; 4] = [38, 84, 163, 164];

/// Calls that answer as if the kernel were older, because callers then do without.
pub(super) const UNKNOWN: [i64; 5] = [
    // Its flags are behind a pointer, where a filter cannot look; libraries fall back to `clone`.
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_secret,
];

/// What Linux 5.16 and later added (`futex_waitv` on), and a little of what is to come; the numbers are the same
/// on every processor. Every number costs a microsecond per sandbox.
pub(super) const NEWER: Range<i64> = libc::SYS_futex_waitv..480;

/// Families of sockets: no netlink, packet, vsock, …
pub(super) const SOCKET_FAMILIES: [u64; 3] =
    [libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64];

/// Operations of `prctl`: names, signals, privileges to be given up, hints; not `PR_SET_MM`.
#[rustfmt::skip]
pub(super) const PRCTL: [u64; 26] = [
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
