//! Building the root, in the helper process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path};

use impuls_sandbox::etc;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, makedev, mknodat, open};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};

use super::files::{DEVICE_LINKS, DEVICES, FOLDERS};
use crate::failure::{Failure, Step};
use crate::messages::Image;
use crate::sys;

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// Folders of the host that the root may be put on while it is built; nobody else sees that.
const STAGING: [&str; 4] = ["/tmp", "/mnt", "/run", "/var"];

/// A mount that has not been attached yet.
struct Detached {
    tree: OwnedFd,
    is_folder: bool,
}

/// Builds the root in this process's mount namespace, which must be its own, and makes it the root.
pub(super) fn build(image: &Image) -> Result<(), Failure> {
    let recursive = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", recursive).step("make mounts private")?;
    // Everything of the host is taken hold of before the host's root is left.
    let mut mounts = Vec::with_capacity(image.mounts.len());
    for (host, guest) in &image.mounts {
        check_path(guest)?;
        let tree = take(host, READ_ONLY).step_with(|| format!("bind {}", host.display()))?;
        mounts.push((tree, guest));
    }
    let devices = take_devices();
    enter_new_root()?;
    for folder in FOLDERS {
        fs::create_dir_all(folder).step("make folder")?;
    }
    for (link, target) in &image.links {
        check_path(link)?;
        make_parent(link)?;
        symlink(target, link).step_with(|| format!("link {}", link.display()))?;
    }
    for (path, content) in etc::FILES {
        fs::write(path, content).step("write /etc")?;
    }
    fs::write("/etc/resolv.conf", etc::resolv_conf(image.resolver)).step("write /etc")?;
    let (zone, local_time) = etc::LOCAL_TIME;
    symlink(zone, local_time).step("link /etc/localtime")?;
    for (path, content) in &image.files {
        check_path(path)?;
        make_parent(path)?;
        fs::write(path, content).step_with(|| format!("write {}", path.display()))?;
    }
    for (tree, guest) in mounts {
        attach(&tree, guest).step_with(|| format!("mount {}", guest.display()))?;
    }
    make_devices(devices)?;
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open root")?;
    sys::set_mount_flags(root.as_fd(), READ_ONLY, false).step("make root read-only")
}

/// Absolute, and no way up.
fn check_path(path: &Path) -> Result<(), Failure> {
    let ok = path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let invalid =
        || Failure::new(format!("path {}", path.display()), io::Error::from_raw_os_error(libc::EINVAL));
    if ok { Ok(()) } else { Err(invalid()) }
}

/// A copy of the mount at a path of the host, with these flags. In a user namespace the kernel refuses to
/// uncover what is below a folder with other mounts in it: those come along then.
fn take(host: &Path, flags: u64) -> io::Result<Detached> {
    let at = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut recursive = false;
    let tree = match open_tree(CWD, host, at) {
        Err(rustix::io::Errno::INVAL) => {
            recursive = true;
            open_tree(CWD, host, at | OpenTreeFlags::AT_RECURSIVE)?
        }
        other => other?,
    };
    sys::set_mount_flags(tree.as_fd(), flags, recursive)?;
    let is_folder = FileType::from_raw_mode(fstat(&tree)?.st_mode) == FileType::Directory;
    Ok(Detached { tree, is_folder })
}

fn attach(mount: &Detached, guest: &Path) -> io::Result<()> {
    if !guest.exists() {
        if mount.is_folder {
            fs::create_dir_all(guest)?;
        } else {
            if let Some(parent) = guest.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::File::create_new(guest)?;
        }
    }
    Ok(move_mount(&mount.tree, "", CWD, guest, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .step_with(|| format!("make folder of {}", path.display()))
}

/// The host's device nodes, for users who cannot make nodes of their own.
fn take_devices() -> Vec<(&'static str, u32, Option<Detached>)> {
    let flags = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    DEVICES.map(|(name, minor)| (name, minor, take(&Path::new("/dev").join(name), flags).ok())).into()
}

fn tmpfs(target: &str, flags: MountFlags, options: &std::ffi::CStr) -> io::Result<()> {
    Ok(mount("tmpfs", target, "tmpfs", flags | MountFlags::NOSUID, options)?)
}

/// Makes a new file system the root of this namespace and lets go of the host's.
fn enter_new_root() -> Result<(), Failure> {
    let staging = STAGING.into_iter().find(|folder| Path::new(folder).is_dir());
    let staging = staging.ok_or(io::Error::from_raw_os_error(libc::ENOENT)).step("find staging folder")?;
    tmpfs(staging, MountFlags::empty(), c"mode=755,size=8m,nr_inodes=4k").step("mount root")?;
    rustix::process::chdir(staging).step("enter root")?;
    fs::create_dir("proc").step("make /proc")?;
    // While the host's own is still visible: the kernel asks for that in a user namespace.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", flags, None).step("mount /proc")?;
    rustix::process::pivot_root(".", ".").step("pivot root")?;
    unmount(".", UnmountFlags::DETACH).step("leave the host's root")?;
    rustix::process::chdir("/").step("enter root")
}

fn make_devices(devices: Vec<(&'static str, u32, Option<Detached>)>) -> Result<(), Failure> {
    fs::create_dir("/dev").step("make /dev")?;
    tmpfs("/dev", MountFlags::NOEXEC, c"mode=755,size=64k,nr_inodes=64").step("mount /dev")?;
    for (name, minor, host) in devices {
        let path = Path::new("/dev").join(name);
        // Node by node: a container may allow neither, or only one.
        let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::from(0o666), makedev(1, minor));
        let usable = made.is_ok() && rustix::fs::chmod(&path, Mode::from(0o666)).is_ok() && opens(&path);
        if !usable {
            let _unusable = fs::remove_file(&path);
            let host = host.ok_or(io::Error::from_raw_os_error(libc::ENOENT));
            host.and_then(|host| attach(&host, &path)).step_with(|| format!("make /dev/{name}"))?;
        }
    }
    for (target, link) in DEVICE_LINKS {
        symlink(target, link).step("make links in /dev")?;
    }
    fs::create_dir("/dev/shm").step("make /dev/shm")?;
    let dev = open("/dev", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open /dev")?;
    let flags = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    sys::set_mount_flags(dev.as_fd(), flags, false).step("make /dev read-only")
}

/// A node made in a user namespace exists but does not open.
fn opens(path: &Path) -> bool {
    fs::File::open(path).is_ok()
}
