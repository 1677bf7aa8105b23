//! What the cgroups around this process leave: the limit of a container, of a pod or of a systemd service, which
//! `/proc/meminfo` knows nothing of.

use std::path::{Path, PathBuf};

const MOUNTS: &str = "/sys/fs/cgroup";
const MIB: u64 = 1024 * 1024;

/// The files of a group that say what may be used, what is, and of the latter what the kernel gives up by itself.
struct Files {
    limit: &'static str,
    usage: &'static str,
    reclaimable: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file ",
};
const V2: Files = Files { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file " };

/// Memory that processes can still have below every limit from our own group upwards, in MiB; `None` without limits.
pub(super) fn left_mib() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let (mount, path, files) = place(Path::new(MOUNTS), &own)?;
    left(&mount, &path, &files).map(|bytes| bytes / MIB)
}

/// Where the memory controller is mounted, and our own group below it. A line is number, controllers, path; that of
/// version 2 has no controllers (cgroups(7)).
fn place(mounts: &Path, own: &str) -> Option<(PathBuf, PathBuf, Files)> {
    let group = |controller: &str| {
        let fields = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let mut paths = fields.filter(|(names, _)| names.split(',').any(|name| name == controller));
        paths.next().map(|(_, path)| PathBuf::from(path.trim_start_matches('/')))
    };
    match group("memory") {
        Some(path) => Some((mounts.join("memory"), path, V1)),
        None => Some((mounts.to_owned(), group("")?, V2)),
    }
}

/// The least of what the groups leave. In a container the path may be one of the host's: then the mount is the group.
fn left(mount: &Path, path: &Path, files: &Files) -> Option<u64> {
    let own = mount.join(path);
    let own = if own.is_dir() { own } else { mount.to_owned() };
    own.ancestors()
        .take_while(|group| group.starts_with(mount))
        .filter_map(|group| left_in(group, files))
        .min()
}

fn left_in(group: &Path, files: &Files) -> Option<u64> {
    let number =
        |file: &str| -> Option<u64> { std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok() };
    // Without a limit version 2 has the word `max` there, and version 1 a number near the largest.
    let limit = number(files.limit).filter(|&limit| limit < u64::MAX / 4)?;
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix(files.reclaimable)?.trim().parse().ok());
    let used = number(files.usage)?.saturating_sub(reclaimable.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_controller_is_found_in_either_version() {
        let (mount, path, files) = place(Path::new("/m"), "4:memory:/docker/1\n0::/x\n").unwrap();
        assert_eq!((mount.as_path(), path.as_path()), (Path::new("/m/memory"), Path::new("docker/1")));
        assert_eq!(files.limit, V1.limit);
        let (mount, path, files) = place(Path::new("/m"), "0::/\n").unwrap();
        assert_eq!((mount.as_path(), path.as_path()), (Path::new("/m"), Path::new("")));
        assert_eq!(files.limit, V2.limit);
        assert!(place(Path::new("/m"), "").is_none());
    }

    #[test]
    fn the_tightest_group_counts_and_caches_do_not() {
        let mount = tempfile::tempdir().unwrap();
        let stat = ("memory.stat", "anon 5\ninactive_file 40\n");
        group(mount.path(), &[("memory.max", "1000\n"), ("memory.current", "900\n"), stat]);
        group(&mount.path().join("a"), &[("memory.max", "max\n"), ("memory.current", "10\n")]);
        assert_eq!(left(mount.path(), Path::new("a"), &V2), Some(140));
        group(&mount.path().join("a"), &[("memory.max", "70\n")]);
        assert_eq!(left(mount.path(), Path::new("a"), &V2), Some(60));
    }

    #[test]
    fn a_path_of_the_host_means_the_group_that_is_mounted() {
        let mount = tempfile::tempdir().unwrap();
        let files = [("memory.limit_in_bytes", "500\n"), ("memory.usage_in_bytes", "100\n")];
        group(mount.path(), &files);
        assert_eq!(left(mount.path(), Path::new("docker/1"), &V1), Some(400));
        group(mount.path(), &[("memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(left(mount.path(), Path::new("docker/1"), &V1), None);
    }
}
