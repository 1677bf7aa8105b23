//! What the kernel says about processes: memory, descriptors, processor time, children.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Context as _;

/// A process id.
pub(crate) type Id = u32;

fn file(id: Id, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/{name}"))
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that are in memory.
    pub(crate) resident: f64,
    /// The same, where a page that n processes share counts as 1/n.
    pub(crate) proportional: f64,
}

/// Memory of a process; `/proc/PID/smaps_rollup` needs the right to look into it.
pub(crate) fn memory(id: Id) -> anyhow::Result<Memory> {
    let path = file(id, "smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).with_context(|| format!("{} has no {name}", path.display()))
    };
    Ok(Memory { resident: of("Rss:")?, proportional: of("Pss:")? })
}

/// Memory of several processes together.
pub(crate) fn memory_of(ids: impl IntoIterator<Item = Id>) -> anyhow::Result<Memory> {
    ids.into_iter().try_fold(Memory::default(), |sum, id| {
        let memory = memory(id)?;
        Ok(Memory {
            resident: sum.resident + memory.resident,
            proportional: sum.proportional + memory.proportional,
        })
    })
}

/// Open descriptors of a process.
pub(crate) fn descriptors(id: Id) -> anyhow::Result<usize> {
    let path = file(id, "fd");
    Ok(std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?.count())
}

/// What one process has to do with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    parent: Id,
    /// Processor time of itself and of those children that it waited for, in ticks of 10 ms.
    ticks: u64,
}

/// The fields of `/proc/PID/stat` that are wanted (`man 5 proc_pid_stat`); the name may hold spaces and brackets.
fn parse(stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // After the name: state is 0, ppid 1, utime 11, stime 12, cutime 13, cstime 14.
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Entry { parent: Id::try_from(number(1)?).ok()?, ticks })
}

fn entries() -> anyhow::Result<HashMap<Id, Entry>> {
    let numbers =
        std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<Id>().ok());
    // A process that ends meanwhile is left out.
    Ok(numbers
        .filter_map(|id| Some((id, parse(&std::fs::read_to_string(file(id, "stat")).ok()?)?)))
        .collect())
}

fn below(entries: &HashMap<Id, Entry>, root: Id) -> HashSet<Id> {
    let mut found = HashSet::from([root]);
    loop {
        let more: Vec<Id> = entries
            .iter()
            .filter(|(id, entry)| found.contains(&entry.parent) && !found.contains(*id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            found.remove(&root);
            return found;
        }
        found.extend(more);
    }
}

/// All processes below this one, itself not included.
pub(crate) fn descendants(root: Id) -> anyhow::Result<HashSet<Id>> {
    Ok(below(&entries()?, root))
}

/// Processor time of a process and all below it, those included that have ended, in seconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are 2,850,000 years")]
pub(crate) fn tree_seconds(root: Id) -> anyhow::Result<f64> {
    let entries = entries()?;
    let ids = below(&entries, root).into_iter().chain([root]);
    let ticks: u64 = ids.filter_map(|id| entries.get(&id)).map(|entry| entry.ticks).sum();
    Ok(ticks as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(Entry { parent: 3, ticks: 127 }));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn children_of_children_are_below() {
        let entry = |parent| Entry { parent, ticks: 0 };
        let entries =
            HashMap::from([(1, entry(0)), (2, entry(1)), (3, entry(2)), (4, entry(1)), (5, entry(0))]);
        assert_eq!(below(&entries, 1), HashSet::from([2, 3, 4]));
        assert_eq!(below(&entries, 5), HashSet::new());
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let own = std::process::id();
        let memory = memory(own).unwrap();
        assert!(memory.resident >= memory.proportional && memory.proportional > 0.0);
        assert!(descriptors(own).unwrap() >= 3);
    }
}
