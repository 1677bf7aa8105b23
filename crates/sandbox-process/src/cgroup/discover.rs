//! Finds the cgroup hierarchies of this machine and the place of this process in them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroups, Controller, Hierarchy, PREFIX};

const LIMITS: [&str; 3] = ["memory", "cpu", "pids"];

/// One cgroup file system of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: u8,
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

/// Finds every hierarchy and makes this server's folder in it. Never fails: what cannot be had is named in
/// [`Cgroups::problems`].
pub(crate) fn discover(instance: &str) -> Cgroups {
    let mut cgroups = Cgroups::default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = parse_own(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    for mount in parse_mounts(&mounts) {
        let made = match mount.version {
            1 => version_1(&mount, &own, instance),
            _ => version_2(&mount, &own, instance),
        };
        match made {
            Ok(Some(hierarchy)) => add(&mut cgroups, hierarchy),
            Ok(None) => {}
            Err(error) => cgroups.problems.push(format!("{}: {error}", mount.point.display())),
        }
    }
    cgroups
}

/// The same hierarchy may be mounted twice.
fn add(cgroups: &mut Cgroups, hierarchy: Hierarchy) {
    let known = hierarchy.controllers.iter().any(|&controller| cgroups.with(controller).is_some())
        || hierarchy.version == 2 && cgroups.unified().is_some();
    if !known {
        cgroups.hierarchies.push(hierarchy);
    }
}

/// `/proc/self/mountinfo`: id, parent, device, root, mount point, options, optional fields, `-`, type, source,
/// super options (proc(5)).
fn parse_mounts(text: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, head.next()?);
        let mut tail = tail.split(' ');
        let version = match tail.next()? {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => return None,
        };
        let options = tail.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mount { version, root: root.into(), point: point.into(), options })
    };
    text.lines().filter_map(parse).collect()
}

/// `/proc/self/cgroup`: number, controllers, path; the v2 line has no controllers (cgroups(7)).
fn parse_own(text: &str) -> HashMap<String, PathBuf> {
    let mut own = HashMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            own.extend(controllers.split(',').map(|name| (name.to_owned(), PathBuf::from(path))));
        }
    }
    own
}

/// Where a path of `/proc/self/cgroup` is in the file system.
fn locate(mount: &Mount, path: &Path) -> PathBuf {
    let below = path.strip_prefix(&mount.root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
    mount.point.join(below)
}

fn version_1(mount: &Mount, own: &HashMap<String, PathBuf>, instance: &str) -> io::Result<Option<Hierarchy>> {
    let controller = |name: &String| match name.as_str() {
        "memory" => Some(Controller::Memory),
        "cpu" => Some(Controller::Cpu),
        "cpuacct" => Some(Controller::Cpuacct),
        "pids" => Some(Controller::Pids),
        _ => None,
    };
    let controllers: Vec<Controller> = mount.options.iter().filter_map(controller).collect();
    let Some(path) = mount.options.iter().filter(|name| controller(name).is_some()).find_map(|n| own.get(n))
    else {
        return Ok(None);
    };
    let base = locate(mount, path).join(format!("{PREFIX}{instance}"));
    make(&base)?;
    Ok(Some(Hierarchy { version: 1, base, controllers }))
}

fn make(base: &Path) -> io::Result<()> {
    match fs::create_dir(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn words(folder: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.split_whitespace().filter(|word| LIMITS.contains(word)).map(str::to_owned).collect()
}

/// A v2 group that holds processes cannot hand controllers down, unless it is the root. So the folder goes below
/// the nearest group, from our own upwards, that does hand down all that the machine has.
fn version_2(mount: &Mount, own: &HashMap<String, PathBuf>, instance: &str) -> io::Result<Option<Hierarchy>> {
    let Some(path) = own.get("") else { return Ok(None) };
    let own = locate(mount, path);
    let available = words(&mount.point, "cgroup.controllers");
    let mut fallback: Option<PathBuf> = None;
    let mut refusal = None;
    for folder in own.ancestors().take_while(|folder| folder.starts_with(&mount.point)) {
        if folder == own {
            hand_down(folder, &available);
        }
        let complete = available.iter().all(|name| words(folder, "cgroup.subtree_control").contains(name));
        if !complete && fallback.is_some() {
            continue;
        }
        let base = folder.join(format!("{PREFIX}{instance}"));
        match make(&base) {
            Err(error) => refusal = refusal.or(Some(error)),
            Ok(()) if complete => {
                if let Some(unused) = fallback.take() {
                    let _busy = fs::remove_dir(unused);
                }
                hand_down(&base, &available);
                return Ok(Some(hierarchy_2(base)));
            }
            Ok(()) => fallback = Some(base),
        }
    }
    match (fallback, refusal) {
        (Some(base), _) => {
            hand_down(&base, &available);
            Ok(Some(hierarchy_2(base)))
        }
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// One at a time, so that one that is not to be had does not cost the others.
fn hand_down(folder: &Path, controllers: &[String]) {
    for name in controllers {
        let _refused = fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

fn hierarchy_2(base: PathBuf) -> Hierarchy {
    let mut controllers = Vec::new();
    for name in words(&base, "cgroup.subtree_control") {
        match name.as_str() {
            "memory" => controllers.push(Controller::Memory),
            // v2 counts processor time in the same file.
            "cpu" => controllers.extend([Controller::Cpu, Controller::Cpuacct]),
            _ => controllers.push(Controller::Pids),
        }
    }
    Hierarchy { version: 2, base, controllers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_yields_both_versions() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                    41 31 0:38 /a /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].options, ["rw", "memory"]);
        assert_eq!((mounts[1].version, mounts[1].root.as_path()), (2, Path::new("/a")));
    }

    #[test]
    fn own_groups_are_found_by_controller() {
        let own = parse_own("9:name=systemd:/\n4:cpu,cpuacct:/x/y\n0::/user.slice\n");
        assert_eq!(own["cpuacct"], Path::new("/x/y"));
        assert_eq!(own[""], Path::new("/user.slice"));
    }

    #[test]
    fn a_path_below_the_mounted_root_is_relative_to_it() {
        let mount =
            Mount { version: 2, root: "/docker/1".into(), point: "/sys/fs/cgroup".into(), options: vec![] };
        assert_eq!(locate(&mount, Path::new("/docker/1/a")), Path::new("/sys/fs/cgroup/a"));
        assert_eq!(locate(&mount, Path::new("/")), Path::new("/sys/fs/cgroup"));
    }
}
