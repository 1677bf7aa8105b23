//! The root of a language's containers, put together once on the ground: the files of the host that the image names,
//! read-only, process 1, a synthetic `/etc`, and the places where each container mounts what is its own.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use impuls_sandbox::{BindMount, RuntimeImage, etc};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount,
};

use crate::sys;

/// Process 1 inside a container. With libraries of its own, because a root may be an image's.
pub(crate) const INIT: &str = "/opt/impuls/init";
/// Where code appears in a container.
pub(crate) const CODE: &str = "/var/task";
const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// Folders that something is mounted on later.
const FOLDERS: [&str; 6] = ["proc", "dev", "tmp", "etc", "var/task", "var/empty"];

/// What a root is put together from.
pub(crate) struct Plan {
    pub(crate) image: Arc<RuntimeImage>,
    /// Process 1 and its libraries.
    pub(crate) init: Vec<BindMount>,
    /// The address that containers ask for names.
    pub(crate) resolver: Option<Ipv4Addr>,
}

impl Plan {
    /// Puts it together in a folder that does not exist, and does not exist after an error either. To be called on the
    /// ground.
    pub(crate) fn build(&self, root: &Path) -> io::Result<()> {
        fs::create_dir(root)?;
        self.fill(root).inspect_err(|_| {
            let _not_mounted_yet = unmount(root, UnmountFlags::DETACH);
            if let Err(error) = fs::remove_dir(root) {
                tracing::warn!(%error, root = %root.display(), "half a root of containers cannot be removed");
            }
        })
    }

    fn fill(&self, root: &Path) -> io::Result<()> {
        mount(
            "tmpfs",
            root,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            c"mode=755,size=8m,nr_inodes=4k",
        )?;
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))?;
        }
        // runc gives a file system the mode of the folder that it is mounted on.
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for (path, text) in etc::FILES {
            fs::write(inside(root, Path::new(path))?, text)?;
        }
        fs::write(root.join("etc/resolv.conf"), etc::resolv_conf(self.resolver))?;
        let (zone, local_time) = etc::LOCAL_TIME;
        symlink(zone, inside(root, Path::new(local_time))?)?;
        for (link, target) in &self.image.links {
            let link = inside(root, link)?;
            make_parent(&link)?;
            symlink(target, link)?;
        }
        for (path, text) in &self.image.files {
            let path = inside(root, path)?;
            make_parent(&path)?;
            fs::write(path, text)?;
        }
        // The agent of an image has the same libraries at the same place.
        let known = |mount: &&BindMount| self.image.mounts.iter().any(|known| known.guest == mount.guest);
        let init = self.init.iter().filter(|mount| !known(mount));
        for BindMount { host, guest } in self.image.mounts.iter().chain(init) {
            show(host, &inside(root, guest)?)?;
        }
        let root = open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::set_mount_flags(root.as_fd(), READ_ONLY)
    }
}

/// Where a container's path is below the root: absolute, and no way up.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let named = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let relative = path.strip_prefix("/").ok().filter(|_| named);
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no path", path.display()));
    Ok(root.join(relative.ok_or_else(invalid)?))
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A copy of the mount at a path of the host, read-only, that is attached nowhere.
pub(crate) fn take(host: &Path) -> io::Result<OwnedFd> {
    let at = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, host, at)?;
    sys::set_mount_flags(tree.as_fd(), READ_ONLY)?;
    Ok(tree)
}

/// Shows a file or folder of the host at a place that is made if it is missing.
fn show(host: &Path, place: &Path) -> io::Result<()> {
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot show {}: {error}", host.display()));
    let show = || -> io::Result<()> {
        let tree = take(host)?;
        if !place.exists() {
            make_parent(place)?;
            if host.is_dir() { fs::create_dir(place)? } else { drop(fs::File::create_new(place)?) }
        }
        Ok(move_mount(&tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    };
    show().map_err(failed)
}
