//! Cgroups: limits, accounting, killing. Version 1 and 2, also mixed on one machine (limits in v1, life cycle
//! in v2), which is why this is a layer of its own.
//!
//! Every server has a folder `impuls-<instance>` below its own cgroup in each hierarchy, and in it one folder for
//! each sandbox. [`discover`] finds the hierarchies; nothing here runs in a sandbox.

mod discover;
mod group;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Step};
use crate::messages::{Key, Limits, Usage};

pub(crate) use discover::discover;
pub(crate) use group::Group;

/// The prefix of our folders.
pub(crate) const PREFIX: &str = "impuls-";
/// Version 1 counts the buffers of sockets apart from all other memory, and without a limit not at all.
const SOCKETS: &str = "memory.kmem.tcp.limit_in_bytes";
/// What they may be: a part of the memory limit, and no more than this.
const SOCKETS_PART: u64 = 4;
const SOCKETS_MAX: u64 = 64 << 20;
/// Period of the processor quota, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Pids,
}

/// One hierarchy that this server has a folder in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    pub(crate) version: u8,
    /// The server's folder.
    pub(crate) base: PathBuf,
    pub(crate) controllers: Vec<Controller>,
}

impl Hierarchy {
    /// Whether the buffers of sockets are within some limit, where this is the hierarchy of memory.
    pub(crate) fn counts_sockets(&self) -> bool {
        self.version == 2 || self.base.join(SOCKETS).exists()
    }
}

/// All of them, and why what is missing is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    pub(crate) hierarchies: Vec<Hierarchy>,
    pub(crate) problems: Vec<String>,
}

fn write(folder: &Path, file: &'static str, value: impl ToString) -> Result<(), Failure> {
    fs::write(folder.join(file), value.to_string()).step(file)
}

fn read_number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

/// The number after a word at the start of a line.
fn read_field(folder: &Path, file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Cgroups {
    /// The hierarchy that enforces or counts this, if any.
    pub(crate) fn with(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// The version 2 hierarchy, whatever it controls.
    pub(crate) fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == 2)
    }

    fn folders(&self, key: Key) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        let name = folder_name(key);
        self.hierarchies.iter().map(move |hierarchy| (hierarchy, hierarchy.base.join(&name)))
    }

    fn folder(&self, controller: Controller, key: Key) -> Option<(u8, PathBuf)> {
        self.with(controller).map(|hierarchy| (hierarchy.version, hierarchy.base.join(folder_name(key))))
    }

    /// Makes a sandbox's folders with their limits and opens what joining them needs. On `Err` they are gone.
    pub(crate) fn create(&self, key: Key, limits: Limits) -> Result<Group, Failure> {
        let made = self.try_create(key, limits);
        if made.is_err() {
            let _gone = self.remove(key);
        }
        made
    }

    fn try_create(&self, key: Key, limits: Limits) -> Result<Group, Failure> {
        for (_, folder) in self.folders(key) {
            fs::create_dir(&folder).step_with(|| format!("make cgroup {}", folder.display()))?;
        }
        self.set_limits(key, limits, None)?;
        Group::open(self.folders(key))
    }

    /// Sets those limits that differ from `before`.
    pub(crate) fn set_limits(&self, key: Key, limits: Limits, before: Option<Limits>) -> Result<(), Failure> {
        if let Some((version, folder)) = self.folder(Controller::Memory, key)
            && before.is_none_or(|before| before.memory_mib != limits.memory_mib)
        {
            set_memory(version, &folder, u64::from(limits.memory_mib) << 20, before.is_none())?;
        }
        if let Some((version, folder)) = self.folder(Controller::Cpu, key)
            && before.is_none_or(|before| before.milli_vcpu != limits.milli_vcpu)
        {
            set_cpu(version, &folder, u64::from(limits.milli_vcpu))?;
        }
        if let Some((_, folder)) = self.folder(Controller::Pids, key)
            && before.is_none_or(|before| before.pids != limits.pids)
        {
            write(&folder, "pids.max", limits.pids)?;
        }
        Ok(())
    }

    /// Kills everything in a sandbox's folder at once, where the kernel can do that (v2 since 5.14).
    pub(crate) fn kill(&self, key: Key) -> bool {
        self.unified().is_some_and(|unified| {
            fs::write(unified.base.join(folder_name(key)).join("cgroup.kill"), "1").is_ok()
        })
    }

    /// Removes a sandbox's folders. `ResourceBusy` while anything is left in one of them, so success proves that
    /// nothing is.
    pub(crate) fn remove(&self, key: Key) -> io::Result<()> {
        self.folders(key).try_for_each(|(_, folder)| remove_folder(&folder))
    }

    /// The sandboxes that have a folder anywhere.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        let entries = |hierarchy: &Hierarchy| fs::read_dir(&hierarchy.base).into_iter().flatten().flatten();
        let key = |entry: fs::DirEntry| Key::from_str_radix(entry.file_name().to_str()?, 16).ok();
        self.hierarchies.iter().flat_map(entries).filter_map(key).collect()
    }

    /// What a sandbox has used so far.
    pub(crate) fn usage(&self, key: Key) -> Option<Usage> {
        let (version, memory) = self.folder(Controller::Memory, key)?;
        let (current, peak) = match version {
            1 => ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
            _ => ("memory.current", "memory.peak"),
        };
        let memory_bytes = read_number(&memory, current)?;
        let cpu_ns = match self.folder(Controller::Cpuacct, key) {
            Some((1, folder)) => read_number(&folder, "cpuacct.usage"),
            Some((_, folder)) => read_field(&folder, "cpu.stat", "usage_usec").map(|us| us * 1_000),
            None => None,
        };
        Some(Usage {
            cpu_ns: cpu_ns.unwrap_or_default(),
            memory_bytes,
            memory_peak_bytes: read_number(&memory, peak).unwrap_or(memory_bytes),
        })
    }

    /// Whether the kernel killed anything in a sandbox for its memory limit.
    pub(crate) fn out_of_memory(&self, key: Key) -> bool {
        let kills = match self.folder(Controller::Memory, key) {
            Some((1, folder)) => read_field(&folder, "memory.oom_control", "oom_kill"),
            Some((_, folder)) => read_field(&folder, "memory.events", "oom_kill"),
            None => None,
        };
        kills.is_some_and(|kills| kills > 0)
    }

    /// Removes the server's own folders once no sandbox is left in them.
    pub(crate) fn remove_bases(&self) {
        for hierarchy in &self.hierarchies {
            let _busy = remove_folder(&hierarchy.base);
        }
    }
}

/// What a sandbox's folder is called.
pub(crate) fn folder_name(key: Key) -> String {
    format!("{key:032x}")
}

pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn set_memory(version: u8, folder: &Path, bytes: u64, first: bool) -> Result<(), Failure> {
    if version == 2 {
        if first {
            // Absent where the machine has no swap accounting.
            let _absent = fs::write(folder.join("memory.swap.max"), "0");
            write(folder, "memory.oom.group", 1)?;
        }
        return write(folder, "memory.max", bytes);
    }
    if folder.join(SOCKETS).exists() {
        write(folder, SOCKETS, (bytes / SOCKETS_PART).min(SOCKETS_MAX))?;
    }
    // Memory with swap must never be below memory alone: the order depends on the direction. The same bound on
    // both means no swap; the second file is absent where the machine has no swap accounting.
    let with_swap = folder.join("memory.memsw.limit_in_bytes").exists();
    let lowered = write(folder, "memory.limit_in_bytes", bytes);
    if with_swap {
        write(folder, "memory.memsw.limit_in_bytes", bytes)?;
    }
    lowered.or_else(|_| write(folder, "memory.limit_in_bytes", bytes))
}

fn set_cpu(version: u8, folder: &Path, milli_vcpu: u64) -> Result<(), Failure> {
    let quota = milli_vcpu * CPU_PERIOD_US / 1_000;
    if version == 2 {
        return write(folder, "cpu.max", format!("{quota} {CPU_PERIOD_US}"));
    }
    write(folder, "cpu.cfs_period_us", CPU_PERIOD_US)?;
    match write(folder, "cpu.cfs_quota_us", quota) {
        // More than a group around the server has: the kernel then wants none, and that group's holds.
        Err(refused) if refused.errno() == libc::EINVAL => write(folder, "cpu.cfs_quota_us", -1),
        done => done,
    }
}
