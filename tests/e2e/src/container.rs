//! Containers of the test's own, by `runc`: the program in a root file system that has the host's `/usr` and little else.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::data::Data;
use crate::functions::unique;
use crate::launch::{Launch, program};

/// The user and group of the image.
pub const USER: u32 = 10_001;
/// The seccomp profile of the compose file and the manifests, in the form of the OCI runtime specification.
pub const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kubernetes/seccomp.json");
/// Where Debian puts it, which is on no ordinary user's PATH.
const RUNC: &str = "/usr/sbin/runc";
/// What container engines hide in `/proc` unless they are told not to.
const MASKED: [&str; 5] =
    ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"];
/// What they make read-only there.
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

/// What a container is allowed. No container has a capability, and none can get one.
#[derive(Clone, Debug)]
pub struct Privileges {
    /// The user and group.
    pub user: u32,
    /// The seccomp profile.
    pub profile: Value,
    /// Whether parts of `/proc` are hidden and read-only, as is usual.
    pub masks_proc: bool,
}

impl Privileges {
    /// What the compose file and the manifests of workers ask for.
    #[must_use]
    pub fn of_workers() -> Self {
        let text = fs::read_to_string(PROFILE).expect("the profile is there");
        Self { user: USER, profile: serde_json::from_str(&text).expect("it is JSON"), masks_proc: false }
    }
}

/// A container that has not been started yet; dropped, it is removed with everything in it.
pub struct Container {
    data: Data,
    name: String,
}

impl Container {
    /// Prepares one with a folder for the server's data.
    #[must_use]
    pub fn prepare(privileges: &Privileges) -> Self {
        let container = Self { data: Data::new(), name: unique("container") };
        let scratch = container.data.scratch();
        let root = scratch.join("rootfs");
        for folder in ["usr", "etc", "proc", "dev", "sys", "tmp", "var/lib/impuls"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(link), root.join(link)).expect("a link");
        }
        fs::create_dir(container.data.folder()).expect("a folder");
        chown(container.data.folder(), Some(privileges.user), Some(privileges.user)).expect("root may");
        let config = container.config(privileges).to_string();
        fs::write(scratch.join("config.json"), config).expect("a file");
        container
    }

    /// The server in it, about to start.
    #[must_use]
    pub fn launch(&self) -> Launch {
        let launch = Launch::bare(&self.data, RUNC.into()).argument("--root").argument(self.state());
        launch.arguments(["run", "--bundle"]).argument(self.data.scratch()).argument(&self.name)
    }

    fn state(&self) -> PathBuf {
        self.data.scratch().join("runc")
    }

    fn config(&self, privileges: &Privileges) -> Value {
        let none: [&str; 0] = [];
        let masked = if privileges.masks_proc { &MASKED[..] } else { &none[..] };
        let read_only = if privileges.masks_proc { &READ_ONLY[..] } else { &none[..] };
        // The host's network, so that the test reaches the server.
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs", "readonly": true },
            "process": {
                "user": { "uid": privileges.user, "gid": privileges.user },
                "args": ["/impuls", "serve", "--listen", "127.0.0.1:0", "--data-dir", "/var/lib/impuls"],
                "env": ["PATH=/usr/local/bin:/usr/bin", "HOME=/var/lib/impuls"],
                "cwd": "/",
                "noNewPrivileges": true,
            },
            "mounts": self.mounts(),
            "linux": {
                "namespaces": namespaces,
                "seccomp": privileges.profile,
                "maskedPaths": masked,
                "readonlyPaths": read_only,
                "cgroupsPath": format!("/{}", self.name),
            },
        })
    }

    fn mounts(&self) -> Vec<Value> {
        let fresh = |kind: &str, at: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
        let shown = |host: &Path, at: &str, access: &str| json!({ "destination": at, "type": "bind", "source": host, "options": ["rbind", access] });
        vec![
            fresh("proc", "/proc", &[]),
            fresh("tmpfs", "/dev", &["nosuid", "mode=755"]),
            fresh("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
            fresh("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            fresh("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777"]),
            shown(Path::new("/usr"), "/usr", "ro"),
            shown(Path::new("/etc"), "/etc", "ro"),
            shown(&program(), "/impuls", "ro"),
            shown(&self.data.folder(), "/var/lib/impuls", "rw"),
        ]
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut command = Command::new(RUNC);
        command.arg("--root").arg(self.state()).args(["delete", "--force", &self.name]);
        // It is gone already if its server has ended.
        let _gone = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
