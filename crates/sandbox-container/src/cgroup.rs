//! The cgroups of a container, which the OCI runtime makes and removes; here they are read, and told what no runtime
//! would tell them everywhere. Version 1 and 2.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use impuls_sandbox::SandboxUsage;

const MOUNT: &str = "/sys/fs/cgroup";
/// Under which names version 1 mounts the controller that counts processor time.
const ACCOUNTING: [&str; 2] = ["cpuacct", "cpu,cpuacct"];

/// The bound on memory and swap together of version 1; absent where the machine does not count swap.
const MEMORY_AND_SWAP: &str = "memory/memory.memsw.limit_in_bytes";
/// What version 2 is told beside the memory limit: no swap, and that all of a container dies when it is out of memory. Their
/// files are absent from version 1, and the first also where the machine does not count swap.
const OF_MEMORY: [(&str, &[u8]); 2] = [("memory.swap.max", b"0"), ("memory.oom.group", b"1")];

/// Whether memory and swap together can be bound when a runtime makes a container, which is so in version 1 only.
pub(crate) fn counts_swap() -> bool {
    Path::new(MOUNT).join(MEMORY_AND_SWAP).exists()
}

/// One container's cgroups.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// From the root of each hierarchy, with a slash in front.
    path: String,
}

impl Group {
    pub(crate) const fn new(path: String) -> Self {
        Self { path }
    }

    fn folder(&self, controllers: &[&str]) -> Option<PathBuf> {
        let path = self.path.trim_start_matches('/');
        let of_version_1 = controllers.iter().map(|controller| Path::new(MOUNT).join(controller).join(path));
        of_version_1.chain([Path::new(MOUNT).join(path)]).find(|folder| folder.is_dir())
    }

    /// Keeps its memory out of swap in version 2, where runtimes fail to do so on machines that do not count swap. Whoever
    /// changes its memory limit leaves that as it is.
    pub(crate) fn bind_memory(&self) -> io::Result<()> {
        self.folder(&["memory"]).map_or(Ok(()), |folder| bind_memory(&folder))
    }

    /// What it has used, but for its network; `None` once it is gone.
    pub(crate) fn usage(&self) -> Option<SandboxUsage> {
        let memory = self.folder(&["memory"])?;
        let number = |files: [&str; 2]| files.iter().find_map(|file| read_number(&memory.join(file)));
        let memory_bytes = number(["memory.current", "memory.usage_in_bytes"])?;
        let peak = number(["memory.peak", "memory.max_usage_in_bytes"]).unwrap_or_default();
        Some(SandboxUsage {
            cpu: self.cpu()?,
            memory_bytes,
            // Linux before 5.19 keeps no peak in version 2.
            memory_peak_bytes: peak.max(memory_bytes),
            traffic: None,
        })
    }

    fn cpu(&self) -> Option<Duration> {
        let folder = self.folder(&ACCOUNTING)?;
        let of_version_1 = read_number(&folder.join("cpuacct.usage")).map(Duration::from_nanos);
        of_version_1.or_else(|| word(&folder.join("cpu.stat"), "usage_usec").map(Duration::from_micros))
    }

    /// Whether a process is in it; true where that cannot be read.
    pub(crate) fn is_populated(&self) -> bool {
        let Some(folder) = self.folder(&["memory"]) else { return false };
        match fs::read_to_string(folder.join("cgroup.procs")) {
            Ok(processes) => !processes.trim().is_empty(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Whether the kernel killed something in it for its memory limit.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let Some(memory) = self.folder(&["memory"]) else { return false };
        let files = ["memory.events", "memory.oom_control"];
        files.iter().any(|file| word(&memory.join(file), "oom_kill").is_some_and(|count| count > 0))
    }
}

fn bind_memory(folder: &Path) -> io::Result<()> {
    for (file, text) in OF_MEMORY {
        match fs::OpenOptions::new().write(true).open(folder.join(file)) {
            Ok(mut file) => file.write_all(text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after a word at the start of a line.
fn word(file: &Path, word: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == word)?.1.trim().parse().ok()
}

/// Folders of this name at the top of any hierarchy.
pub(crate) fn tops(is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let children =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let hierarchies = [PathBuf::from(MOUNT)].into_iter().chain(children(Path::new(MOUNT)));
    let folders = hierarchies.flat_map(|hierarchy| children(&hierarchy).collect::<Vec<_>>());
    let named = |folder: &PathBuf| folder.file_name().and_then(|name| name.to_str()).is_some_and(&is_wanted);
    folders.filter(named).filter(|folder| folder.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bound_by_what_the_machine_has() {
        let folder = tempfile::tempdir().unwrap();
        bind_memory(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let swap = folder.path().join("memory.swap.max");
        fs::write(&swap, "").unwrap();
        bind_memory(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(swap).unwrap(), "0");
    }
}
