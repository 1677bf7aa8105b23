//! Processes and cgroups as the host sees them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroup file systems are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// How deep below it a sandbox's folder may lie.
const CGROUP_DEPTH: usize = 8;
/// The flag of a process that runs no code any more (`PF_EXITING` in the kernel's `sched.h`).
const EXITING: u32 = 4;

/// A process of this machine; its start time tells it from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    start: u64,
}

struct Stat {
    state: char,
    parent: u32,
    flags: u32,
    start: u64,
}

/// Reads `/proc/PID/stat` (proc(5)): the name may hold anything, so fields are counted from its end.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    Some(Stat { state, parent, flags, start })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

impl Process {
    /// The running process of this number. One that has ended is not running, although it is still there until its
    /// parent has noticed, or, if it was the first of a pid namespace, until the parents of all others have.
    #[must_use]
    pub fn running(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        (stat.flags & EXITING == 0 && !matches!(stat.state, 'Z' | 'X'))
            .then_some(Self { pid, start: stat.start })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        Self::running(self.pid) == Some(*self)
    }

    /// A field of `/proc/PID/status`.
    #[must_use]
    pub fn status(&self, field: &str) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// The host's user that it runs as.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.status("Uid")?.split_whitespace().next()?.parse().ok()
    }

    /// Its command line, or its name in brackets.
    #[must_use]
    pub fn command(&self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let name = || format!("[{}]", self.status("Name").unwrap_or_default());
        if line.is_empty() { name() } else { line }
    }

    /// Resident memory, in MiB.
    #[must_use]
    pub fn resident_mib(&self) -> u64 {
        let text = self.status("VmRSS").unwrap_or_default();
        text.trim_end_matches(" kB").trim().parse::<u64>().unwrap_or_default() / 1024
    }

    /// The name of the cgroup folder, common to all hierarchies, of the server that this process of a sandbox
    /// belongs to; `None` without cgroups.
    #[must_use]
    pub fn server_cgroup(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        text.split(['/', '\n']).find(|part| part.starts_with("impuls-")).map(str::to_owned)
    }
}

/// Running processes whose command line has this text.
#[must_use]
pub fn processes_with(text: &str) -> Vec<Process> {
    let has_text = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    pids().filter(has_text).filter_map(Process::running).collect()
}

/// Every running process below this one.
#[must_use]
pub fn descendants(of: u32) -> Vec<Process> {
    let all: Vec<(u32, Stat)> = pids().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut family = HashSet::from([of]);
    loop {
        let before = family.len();
        family.extend(
            all.iter()
                .filter(|(_, stat)| family.contains(&stat.parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    family.into_iter().filter(|pid| *pid != of).filter_map(Process::running).collect()
}

/// Cgroup folders of this name in all hierarchies.
#[must_use]
pub fn cgroup_folders(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    search(Path::new(CGROUPS), name, CGROUP_DEPTH, &mut found);
    found
}

fn search(folder: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 {
            search(&entry.path(), name, depth - 1, found);
        }
    }
}

/// Lines of this mount namespace's table that name a path.
#[must_use]
pub fn mounts_of(path: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.to_string_lossy();
    table.lines().filter(|line| line.contains(path.as_ref())).map(str::to_owned).collect()
}

/// How many descriptors a process has open.
#[must_use]
pub fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What a server of this number has for its containers outside of its data folder: the folder of their roots, and cgroups.
#[must_use]
pub fn run_folders(server: u32) -> Vec<PathBuf> {
    let own = format!("impuls-oci-{server}-");
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    let tops = [PathBuf::from("/run"), PathBuf::from(CGROUPS)].into_iter().chain(hierarchies);
    let entries = tops.flat_map(|top| fs::read_dir(top).into_iter().flatten().flatten());
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own)))
        .collect()
}
