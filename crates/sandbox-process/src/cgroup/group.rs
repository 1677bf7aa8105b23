//! What joining a sandbox's cgroups takes.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::Hierarchy;
use crate::failure::{Failure, Step};

/// The open files of one sandbox's cgroups, used while it is made.
#[derive(Debug)]
pub(crate) struct Group {
    tasks: Vec<File>,
    unified: Option<OwnedFd>,
}

impl Group {
    pub(super) fn open<'a>(folders: impl Iterator<Item = (&'a Hierarchy, PathBuf)>) -> Result<Self, Failure> {
        let mut group = Self { tasks: Vec::new(), unified: None };
        for (hierarchy, folder) in folders {
            if hierarchy.version == 2 {
                let file = File::open(&folder).step("open cgroup")?;
                group.unified = Some(file.into());
            } else {
                let file = OpenOptions::new().write(true).open(folder.join("tasks"));
                group.tasks.push(file.step("open cgroup tasks")?);
            }
        }
        Ok(group)
    }

    /// The v2 folder, for a process to be born in.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// The v1 `tasks` files.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tasks.iter().map(AsFd::as_fd)
    }

    /// Moves the calling process, which must have one thread, into the v1 groups. A task that moves itself
    /// through `tasks` needs no lock of the whole machine, unlike any other way, which may wait milliseconds.
    pub(crate) fn join(&self) -> Result<(), Failure> {
        self.tasks().try_for_each(|tasks| rustix::io::write(tasks, b"0").map(drop)).step("join cgroups")
    }
}
