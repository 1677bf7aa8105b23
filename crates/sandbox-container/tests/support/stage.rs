//! A container driver with a run folder of its own, alone on the machine as far as its tests go.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use impuls_sandbox::SandboxDriver;
use impuls_sandbox::conformance::{Stage, fixture};
use impuls_sandbox_container::{Config, ContainerDriver, OciRuntime};

/// Tests count what is on the machine, so they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub struct ContainerStage {
    pub driver: Arc<ContainerDriver>,
    pub folder: tempfile::TempDir,
    turn: tokio::sync::MutexGuard<'static, ()>,
}

/// The OCI runtime of this name on the machine.
pub async fn runtime(name: &str) -> OciRuntime {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let path = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    OciRuntime::examine(&path.unwrap()).await.unwrap()
}

pub fn config(run_dir: PathBuf, runtime: OciRuntime) -> Config {
    let init = PathBuf::from(env!("CARGO_BIN_EXE_impuls-container-init"));
    // What Debian has is what the tests have; whether it is safe is the operator's question.
    let init_libraries = fixture::libraries(&init);
    Config { run_dir, runtime, init_libraries, init, network: None, allow_unsafe: true }
}

impl ContainerStage {
    pub async fn open(name: &str) -> Self {
        let turn = TURN.lock().await;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let config = config(folder.path().join("run"), runtime(name).await);
        Self { driver: ContainerDriver::start(config).await.unwrap(), folder, turn }
    }
}

/// Folders called after this process in the cgroup hierarchies and those below.
pub fn groups() -> Vec<PathBuf> {
    let own = format!("impuls-oci-{}-", std::process::id());
    let children = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = [root.to_owned()].into_iter().chain(children(root));
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&own);
    let tops = hierarchies.flat_map(|hierarchy| children(&hierarchy)).filter(named);
    tops.flat_map(|top| children(&top)).collect()
}

/// Processes in this process's containers.
pub fn processes() -> usize {
    let own = format!("impuls-oci-{}-", std::process::id());
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&own)))
        .count()
}

/// Files and folders below a folder.
pub fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| 1 + if entry.path().is_dir() { files(&entry.path()) } else { 0 }).sum()
}

#[async_trait]
impl Stage for ContainerStage {
    fn driver(&self) -> &dyn SandboxDriver {
        self.driver.as_ref()
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn leftovers(&self) -> BTreeMap<&'static str, usize> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
        BTreeMap::from([
            ("groups", groups().len()),
            ("processes", processes()),
            ("files", files(&self.folder.path().join("run"))),
            ("mounts", mounts),
        ])
    }

    async fn close(&self) {
        self.driver.shutdown().await;
        let own = format!("impuls-oci-{}-", std::process::id());
        let left = fs::read_dir("/run").unwrap().flatten();
        assert_eq!(left.filter(|entry| entry.file_name().to_str().unwrap().starts_with(&own)).count(), 0);
        assert_eq!(processes(), 0);
    }
}
