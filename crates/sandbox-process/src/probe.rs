//! Finds out, in the spawner, which layers of isolation work here.

use std::os::fd::AsFd as _;

use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::CapabilitySet;

use crate::cgroup::{Cgroups, Controller};
use crate::failure::{Failure, Step};
use crate::init::mounts;
use crate::isolation::{IsolationReport, Layer, LayerName};
use crate::network::yard::Yard;
use crate::network::{nft, pasta, trial};
use crate::seccomp::Filters;
use crate::spawner::{Identity, end_yard, ids, start_yard};
use crate::sys::{self, CloneArgs};
use crate::transport;

/// What is known of a layer: by what it works, or why it does not.
type Finding = Result<String, String>;

/// Tries every layer. Leaves nothing behind.
pub(crate) fn examine(cgroups: &Cgroups, identity: Identity, filters: &Filters) -> IsolationReport {
    let root = identity == Identity::Root;
    let mut layers = Vec::new();
    for (name, flag) in NAMESPACES {
        let finding = attempt(libc::CLONE_NEWUSER | flag, || Ok(()));
        let finding = if flag == 0 { finding.map(|_| inotify()) } else { finding };
        layers.push(layer(name, true, finding));
    }
    layers.push(layer(LayerName::ProcMask, true, attempt(PROC, mount_proc_in_child)));
    layers.push(layer(LayerName::OwnUid, root, own_uid(root)));
    for (name, controller) in LIMITS {
        layers.push(layer(name, root, controlled(cgroups, controller)));
    }
    layers.push(layer(LayerName::CgroupKill, false, cgroup_kill(cgroups)));
    let filter = attempt(0, || {
        rustix::thread::set_no_new_privs(true).step("set no_new_privs")?;
        filters.install().step("install filter")
    });
    layers.push(layer(LayerName::Seccomp, true, filter));
    let landlock = sys::landlock_abi().map(|abi| format!("ABI {abi}")).map_err(|error| error.to_string());
    layers.push(layer(LayerName::Landlock, true, landlock));
    let all = NAMESPACES.iter().fold(libc::CLONE_NEWUSER, |flags, (_, flag)| flags | flag);
    layers.push(layer(LayerName::Zygote, false, attempt(all, || Ok(()))));
    layers.push(layer(LayerName::FunctionNetwork, false, function_network(root)));
    IsolationReport { layers }
}

const PROC: libc::c_int = libc::CLONE_NEWPID | libc::CLONE_NEWNS;

const NAMESPACES: [(LayerName, libc::c_int); 7] = [
    (LayerName::UserNamespace, 0),
    (LayerName::PidNamespace, libc::CLONE_NEWPID),
    (LayerName::MountNamespace, libc::CLONE_NEWNS),
    (LayerName::NetworkNamespace, libc::CLONE_NEWNET),
    (LayerName::IpcNamespace, libc::CLONE_NEWIPC),
    (LayerName::UtsNamespace, libc::CLONE_NEWUTS),
    (LayerName::CgroupNamespace, libc::CLONE_NEWCGROUP),
];

const LIMITS: [(LayerName, Controller); 3] = [
    (LayerName::MemoryLimit, Controller::Memory),
    (LayerName::CpuLimit, Controller::Cpu),
    (LayerName::PidsLimit, Controller::Pids),
];

/// Root's capabilities without which no sandbox of a user id of its own can be made.
const NEEDED: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT"),
    // To enter the namespaces of a sandbox that belongs to another user id.
    (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
];

fn layer(name: LayerName, expected: bool, finding: Finding) -> Layer {
    let (works, detail) = match finding {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    let (cost, fix) = advice(name);
    let fix = if works { String::new() } else { fix.to_owned() };
    Layer { name, works, expected, detail, cost: cost.to_owned(), fix }
}

/// Tries something in a child with new namespaces.
fn attempt(namespaces: libc::c_int, work: impl FnOnce() -> Result<(), Failure>) -> Finding {
    let (ours, theirs) = transport::pair().map_err(|error| error.to_string())?;
    let child = sys::clone_process(CloneArgs { namespaces, cgroup: None }, || {
        let result = work().map_err(|failure| format!("{}: {}", failure.step, failure.source));
        let _parent_gone = transport::send(&theirs, &result, &[]);
        0
    })
    .map_err(|error| error.to_string())?;
    drop(theirs);
    let result = transport::receive::<Result<(), String>>(&ours);
    let _ended = kill_process(child, Signal::KILL);
    let _status = waitpid(Some(child), WaitOptions::empty());
    match result {
        Ok(Some((result, _))) => result.map(|()| String::new()),
        Ok(None) => Err("the process that tried it died".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What there is to say of a user namespace that works: whether it bounds what a sandbox takes of inotify.
fn inotify() -> String {
    let limit = || {
        mounts::try_proc()?;
        mounts::limit_inotify()
    };
    let in_child = || {
        mounts::try_proc()?;
        let inner = attempt(libc::CLONE_NEWUSER | PROC, limit);
        inner.map(drop).map_err(|reason| Failure::new(reason, std::io::Error::from_raw_os_error(libc::EPERM)))
    };
    match attempt(PROC, in_child) {
        Ok(_) => String::new(),
        Err(reason) => format!("one sandbox can use up the inotify instances of all: {reason}"),
    }
}

/// As it is done for real: a `/proc` for the template, and in a user namespace below it another.
fn mount_proc_in_child() -> Result<(), Failure> {
    mounts::try_proc()?;
    let inner = attempt(libc::CLONE_NEWUSER | PROC, mounts::try_proc);
    inner.map(drop).map_err(|reason| Failure::new(reason, std::io::Error::from_raw_os_error(libc::EPERM)))
}

/// Root of a container may lack what it takes, and root of a user namespace has only the user ids that are mapped there.
fn own_uid(root: bool) -> Finding {
    if !root {
        return Err("the server does not run as root".to_owned());
    }
    let held = rustix::thread::capabilities(None).map_err(|error| error.to_string())?.effective;
    let lacking: Vec<&str> =
        NEEDED.iter().filter(|(capability, _)| !held.contains(*capability)).map(|(_, name)| *name).collect();
    if !lacking.is_empty() {
        return Err(format!("root without {}", lacking.join(", ")));
    }
    for map in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        if !ids::are_mapped(&std::fs::read_to_string(map).unwrap_or_default()) {
            return Err(format!("{map} of this container has too few ids for sandboxes"));
        }
    }
    Ok(String::new())
}

fn controlled(cgroups: &Cgroups, controller: Controller) -> Finding {
    match cgroups.with(controller) {
        Some(hierarchy) if controller == Controller::Memory && !hierarchy.counts_sockets() => {
            Ok("cgroup v1, which does not count the buffers of sockets here".to_owned())
        }
        Some(hierarchy) => Ok(format!("cgroup v{}", hierarchy.version)),
        None if cgroups.problems.is_empty() => Err("this machine has no such cgroup controller".to_owned()),
        None => Err(cgroups.problems.join("; ")),
    }
}

/// With root by links of the machine, as an ordinary user through pasta.
fn function_network(root: bool) -> Finding {
    if nft::find("nft").is_none() {
        return Err("nft is not installed (Debian package nftables); `off` works".to_owned());
    }
    if root {
        return attempt(libc::CLONE_NEWNET, trial::run).map(|_| "veth and nftables".to_owned());
    }
    if let Some(missing) = pasta::missing() {
        return Err(format!("{missing}; `off` works"));
    }
    try_yard().map(|()| "pasta and nftables".to_owned()).map_err(|failure| failure.to_string())
}

/// As it is done for real, in a yard that ends at once.
fn try_yard() -> Result<(), Failure> {
    let (yard, theirs) = Yard::new().step("make socket pair")?;
    let process = start_yard(theirs.as_fd())?;
    drop(theirs);
    let tried = yard.wire().step("reach the yard").and_then(|mut wire| wire.try_all());
    end_yard(process);
    tried
}

fn cgroup_kill(cgroups: &Cgroups) -> Finding {
    match cgroups.unified() {
        None => Err("no cgroup v2; sandboxes are killed through their pid namespace".to_owned()),
        Some(unified) if unified.base.join("cgroup.kill").exists() => Ok("cgroup v2".to_owned()),
        Some(_) => Err("Linux 5.14 has it; sandboxes are killed through their pid namespace".to_owned()),
    }
}

/// What the absence of a layer costs, and how to get it.
const fn advice(name: LayerName) -> (&'static str, &'static str) {
    const NAMESPACES: &str = "set the sysctls user.max_user_namespaces above 0 and kernel.apparmor_restrict_unprivileged_userns to 0, \
         or run as root; in a container, allow clone and unshare";
    const CGROUPS: &str = "run as root, or as a systemd service with Delegate=yes";
    match name {
        LayerName::UserNamespace => ("no sandbox can be made", NAMESPACES),
        LayerName::PidNamespace => {
            ("functions would see other processes; no sandbox can be made", NAMESPACES)
        }
        LayerName::MountNamespace => {
            ("functions would see the host's files; no sandbox can be made", NAMESPACES)
        }
        LayerName::NetworkNamespace => {
            ("functions would reach the network; no sandbox can be made", NAMESPACES)
        }
        LayerName::IpcNamespace => {
            ("functions would share memory with others; no sandbox can be made", NAMESPACES)
        }
        LayerName::UtsNamespace => {
            ("functions would see the host's name; no sandbox can be made", NAMESPACES)
        }
        LayerName::CgroupNamespace => {
            ("functions would see their place in the host; no sandbox can be made", NAMESPACES)
        }
        LayerName::ProcMask => (
            "no sandbox can be made without a /proc of its own",
            "in a container, unmask /proc (Docker: --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked)",
        ),
        LayerName::OwnUid => (
            "all sandboxes run as the server's user: one that breaks out can signal the server and read its files",
            "run the server as root; sandboxes then get a user id each. In a container whose root lacks rights or \
             user ids, run it as an ordinary user",
        ),
        LayerName::MemoryLimit => ("one function can use up the machine's memory", CGROUPS),
        LayerName::CpuLimit => ("one function can use up the machine's processors", CGROUPS),
        LayerName::PidsLimit => ("processes are limited by RLIMIT_NPROC alone", CGROUPS),
        LayerName::CgroupKill => ("none: pid namespaces do it too", "Linux 5.14 or later with cgroup v2"),
        LayerName::Seccomp => (
            "functions can make every system call, so a fault of the kernel is within their reach",
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
        LayerName::Landlock => (
            "files are protected by mounts and permissions alone",
            "Linux 5.13 or later with landlock in the lsm= list of the kernel's command line",
        ),
        LayerName::FunctionNetwork => (
            "none: functions whose network policy is not `off` cannot start",
            "run as root with nftables installed (in a container, allow NET_ADMIN), or as an ordinary user with nftables and \
             pasta (Debian packages nftables and passt) and a /dev/net/tun that everybody may open (mode 0666)",
        ),
        LayerName::Zygote => ("none: Python sandboxes start in about 15 ms instead of 4", NAMESPACES),
    }
}
