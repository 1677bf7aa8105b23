//! Giving a live sandbox its code.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::events::Spawner;
use super::place::Phase;
use crate::failure::{Failure, Step};
use crate::messages::{Key, Limits, Refusal};
use crate::sys;

/// Where code appears in a sandbox.
pub(crate) const CODE: &str = "/var/task";

impl Spawner {
    /// Shows code to a sandbox and sets its limits; at most once, because nothing in the place may be trusted
    /// once code is in it.
    pub(super) fn assign(&mut self, key: Key, code: &Path, limits: Limits) -> Result<(), Refusal> {
        let place = self.places.get_mut(&key).filter(|place| matches!(place.phase, Phase::Live));
        let place = place.filter(|place| place.ended.is_none()).ok_or(Refusal::Gone)?;
        if std::mem::replace(&mut place.assigned, true) {
            return Err(Failure::new("assign twice", io::Error::from_raw_os_error(libc::EBUSY)).into());
        }
        let (init, before) = (place.init, std::mem::replace(&mut place.limits, limits));
        self.cgroups.set_limits(key, limits, Some(before))?;
        Ok(self.show_code(init, code)?)
    }

    /// A sandbox's network namespace, if it is asked for.
    pub(super) fn network_of(&self, key: Key, asked: bool) -> Result<Option<OwnedFd>, Refusal> {
        let place = self.places.get(&key).filter(|place| asked && !place.reaped);
        let Some(place) = place else { return if asked { Err(Refusal::Gone) } else { Ok(None) } };
        // Process 1 is ours to reap and has not been, so its number is still its own.
        let path = format!("/proc/{}/ns/net", place.init.as_raw_nonzero());
        let namespace = std::fs::File::open(path).step("open network namespace")?;
        Ok(Some(namespace.into()))
    }

    fn show_code(&self, init: Pid, code: &Path) -> Result<(), Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = open(code, flags, Mode::empty()).step_with(|| format!("open {}", code.display()))?;
        let at =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&folder, "", at).step("bind code")?;
        let flags = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        sys::set_mount_flags(tree.as_fd(), flags, false).step("make code read-only")?;
        let init = pidfd_open(init, PidfdFlags::empty()).step("open process 1")?;
        move_into_thread_name_spaces(init.as_fd(), ThreadNameSpaceType::MOUNT).step("enter sandbox")?;
        let moved = move_mount(&tree, "", CWD, CODE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        self.go_home();
        moved.step("mount code")
    }
}
