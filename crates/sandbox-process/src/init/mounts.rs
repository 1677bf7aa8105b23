//! The mounts that every sandbox has of its own.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_change,
    move_mount, open_tree,
};

use crate::failure::{Failure, Step};
use crate::sys;

/// Files and folders that each MiB of `/tmp` may consist of.
const INODES_PER_MIB: u32 = 256;
/// What a sandbox may have of inotify. The kernel counts all of them for the spawner's user too, who has 128 instances on
/// most machines, so a sandbox needs a bound of its own, far below. A Node thread that watches files has one.
const INOTIFY: [(&str, &str); 2] =
    [("/proc/sys/user/max_inotify_instances", "8"), ("/proc/sys/user/max_inotify_watches", "1024")];
const SHM: &CStr = c"size=64m,nr_inodes=1k,mode=1777";
/// Files of `/proc` about the machine or with side effects. Most are root's anyway: a second lock.
const HIDDEN_FILES: [&str; 8] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kallsyms",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/interrupts",
    "/proc/sched_debug",
];
/// Folders of the same kind.
const HIDDEN_FOLDERS: [&str; 7] =
    ["/proc/acpi", "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/tty"];

/// How `/tmp` of this size is mounted. The memory limit counts what is in it, too.
pub(crate) fn tmp_options(mib: u32) -> Result<CString, Failure> {
    let text = format!("size={mib}m,nr_inodes={},mode=1777", mib.saturating_mul(INODES_PER_MIB));
    CString::new(text).map_err(std::io::Error::from).step("describe /tmp")
}

/// Mounts `/proc`, `/tmp` and `/dev/shm`. `/var/empty` and the device nodes of the template must be there.
pub(super) fn mount_all(tmp: &CStr) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let proc_flags = flags | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", proc_flags, c"hidepid=invisible").step("mount /proc")?;
    for path in HIDDEN_FILES.into_iter().filter(|path| Path::new(path).exists()) {
        mount_bind("/dev/null", path).step_with(|| format!("mask {path}"))?;
    }
    for path in HIDDEN_FOLDERS.into_iter().filter(|path| Path::new(path).exists()) {
        mount_bind("/var/empty", path).step_with(|| format!("mask {path}"))?;
    }
    // Where it fails, the isolation report says so.
    let _refused_in_some_containers = limit_inotify();
    let at = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let settings = open_tree(CWD, "/proc/sys", at).step("bind /proc/sys")?;
    sys::set_mount_flags(settings.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
        .step("make /proc/sys read-only")?;
    move_mount(&settings, "", CWD, "/proc/sys", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step("mount /proc/sys")?;
    mount("tmpfs", "/tmp", "tmpfs", flags, tmp).step("mount /tmp")?;
    mount("tmpfs", "/dev/shm", "tmpfs", flags | MountFlags::NOEXEC, SHM).step("mount /dev/shm")
}

/// Bounds what this process's user namespace may have of inotify; its own `/proc` must be mounted.
pub(crate) fn limit_inotify() -> Result<(), Failure> {
    INOTIFY.into_iter().try_for_each(|(path, limit)| std::fs::write(path, limit).step("limit inotify"))
}

/// Mounts a fresh `/proc` over the old one, in a process that exists to find out whether that works.
pub(crate) fn try_proc() -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("make mounts private")?;
    mount("proc", "/proc", "proc", flags, None).step("mount /proc")
}
