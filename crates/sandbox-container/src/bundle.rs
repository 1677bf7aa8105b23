//! What a container is told to be: the `config.json` of the OCI runtime specification.

use std::path::Path;

use impuls_sandbox::{RuntimeImage, SandboxLimits};
use serde_json::{Value, json};

use crate::config::ARGUMENT;

/// The user and group inside every container.
pub(crate) const GUEST_ID: u32 = 1000;
/// Processes and threads of process 1, beside those of the function.
const INIT_TASKS: u32 = 2;
/// Period of the processor quota, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// Files and folders that each MiB of `/tmp` may consist of.
const INODES_PER_MIB: u32 = 256;
const OPEN_FILES: u64 = 4_096;
const LOCKED_MEMORY: u64 = 64 * 1024;
const STACK: u64 = 8 * 1024 * 1024;
/// What every process starts with; the function's own variables come with its code.
const ENVIRONMENT: [&str; 4] =
    ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8"];
/// Files and folders of `/proc` about the machine or with side effects.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/interrupts",
    "/proc/irq",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/tty",
];
/// Everything that the kernel can keep apart but time.
const NAMESPACES: [&str; 7] = ["user", "pid", "ipc", "uts", "mount", "network", "cgroup"];
const READ_ONLY: [&str; 2] = ["/proc/sys", "/proc/sysrq-trigger"];

/// One container to be made.
pub(crate) struct Bundle<'a> {
    pub(crate) image: &'a RuntimeImage,
    /// The root, put together.
    pub(crate) root: &'a Path,
    /// The words that start process 1.
    pub(crate) init: &'a [String],
    /// What process 1 starts.
    pub(crate) arguments: &'a [String],
    /// Variables of the interpreter's own.
    pub(crate) environment: &'a [(String, String)],
    pub(crate) limits: SandboxLimits,
    /// The first of the two ids of the host that are the container's root and its user.
    pub(crate) first_id: u32,
    /// Where its cgroups are, from the root of each hierarchy.
    pub(crate) cgroup: &'a str,
    /// As for [`resources`].
    pub(crate) swap: bool,
}

impl Bundle<'_> {
    /// The whole text.
    pub(crate) fn config(&self) -> Value {
        let namespaces = NAMESPACES.map(|kind| json!({ "type": kind }));
        json!({
            "ociVersion": "1.0.2",
            "hostname": "sandbox",
            "root": { "path": self.root, "readonly": true },
            "process": self.process(),
            "mounts": self.mounts(),
            "linux": {
                "namespaces": namespaces,
                "uidMappings": self.mappings(),
                "gidMappings": self.mappings(),
                "cgroupsPath": self.cgroup,
                "resources": resources(self.limits, self.swap),
                "seccomp": crate::seccomp::profile(),
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
            },
        })
    }

    fn process(&self) -> Value {
        let limit = |(kind, value): (&str, u64)| json!({ "type": kind, "hard": value, "soft": value });
        let limits = [
            ("RLIMIT_NOFILE", OPEN_FILES),
            ("RLIMIT_CORE", 0),
            ("RLIMIT_NPROC", u64::from(tasks(self.limits))),
            ("RLIMIT_MEMLOCK", LOCKED_MEMORY),
            ("RLIMIT_STACK", STACK),
            ("RLIMIT_MSGQUEUE", 0),
        ];
        let own = |text: &&str| {
            let name = text.split_once('=').map(|(name, _)| name);
            self.environment.iter().any(|(own, _)| Some(own.as_str()) == name)
        };
        let fixed = ENVIRONMENT.into_iter().filter(|text| !own(text)).map(str::to_owned);
        let own = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let init = self.init.iter().map(String::as_str).chain([ARGUMENT]);
        let arguments = init.chain(self.arguments.iter().map(String::as_str));
        let none: [&str; 0] = [];
        json!({
            "terminal": false,
            "user": { "uid": GUEST_ID, "gid": GUEST_ID, "umask": 0o022 },
            "args": arguments.collect::<Vec<_>>(),
            "env": fixed.chain(own).collect::<Vec<_>>(),
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none,
            },
            "rlimits": limits.map(limit),
        })
    }

    /// What each container has of its own; all else is part of the root.
    fn mounts(&self) -> Value {
        let mib = self.image.tmp_mib;
        let tmp = [format!("size={mib}m"), format!("nr_inodes={}", mib.saturating_mul(INODES_PER_MIB))];
        let tmp = ["nosuid", "nodev", "mode=1777", &tmp[0], &tmp[1]];
        json!([
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "noexec", "mode=755", "size=64k", "nr_inodes=64"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=64m", "nr_inodes=1k"],
            },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": tmp },
        ])
    }

    /// Nothing of the host's ids but two that no other container has.
    fn mappings(&self) -> Value {
        json!([
            { "containerID": 0, "hostID": self.first_id, "size": 1 },
            { "containerID": GUEST_ID, "hostID": self.first_id.saturating_add(1), "size": 1 },
        ])
    }
}

const fn tasks(limits: SandboxLimits) -> u32 {
    limits.pids.saturating_add(INIT_TASKS)
}

/// What the kernel enforces: the object `linux.resources`. `swap` says whether memory and swap together are to be bound as
/// well, by the same number, which leaves no room in swap; runtimes fail where the machine does not count them.
pub(crate) fn resources(limits: SandboxLimits, swap: bool) -> Value {
    let quota = u64::from(limits.milli_vcpu) * CPU_PERIOD_US / 1_000;
    let memory = u64::from(limits.memory_mib) << 20;
    json!({
        "memory": if swap { json!({ "limit": memory, "swap": memory }) } else { json!({ "limit": memory }) },
        "cpu": { "quota": quota, "period": CPU_PERIOD_US },
        "pids": { "limit": tasks(limits) },
    })
}

#[cfg(test)]
mod tests {
    use impuls_sandbox::StartMethod;

    use super::*;

    #[test]
    fn a_container_has_nothing_that_it_need_not_have() {
        let image = RuntimeImage {
            name: "nodejs20".parse().unwrap(),
            mounts: Vec::new(),
            links: Vec::new(),
            files: Vec::new(),
            argv: Vec::new(),
            steered_argv: Vec::new(),
            warm_argument: "",
            start: StartMethod::Exec,
            tmp_mib: 64,
            idle_memory_mib: 8,
        };
        let environment = [("PATH".to_owned(), "/own".to_owned())];
        let bundle = Bundle {
            image: &image,
            root: Path::new("/root"),
            init: &["/init".to_owned()],
            arguments: &["/usr/bin/node".to_owned()],
            environment: &environment,
            limits: SandboxLimits { memory_mib: 128, milli_vcpu: 500, pids: 64 },
            first_id: 7,
            cgroup: "/impuls/1",
            swap: true,
        };
        let config = bundle.config();
        assert_eq!(config["process"]["capabilities"]["bounding"], json!([]));
        assert_eq!(config["process"]["noNewPrivileges"], true);
        assert_eq!(config["process"]["args"], json!(["/init", ARGUMENT, "/usr/bin/node"]));
        assert_eq!(config["process"]["env"][3], "PATH=/own");
        assert_eq!(config["root"]["readonly"], true);
        assert_eq!(config["linux"]["namespaces"].as_array().unwrap().len(), 7);
        assert_eq!(config["linux"]["resources"]["cpu"]["quota"], 50_000);
        let bound = 128 << 20;
        assert_eq!(config["linux"]["resources"]["memory"], json!({ "limit": bound, "swap": bound }));
        assert_eq!(config["linux"]["uidMappings"][1]["hostID"], 8);
    }

    #[test]
    fn swap_is_not_bound_where_it_is_not_counted() {
        let limits = SandboxLimits { memory_mib: 1, milli_vcpu: 500, pids: 64 };
        assert_eq!(resources(limits, false)["memory"], json!({ "limit": 1 << 20 }));
    }
}
