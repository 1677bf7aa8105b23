//! What the tests of real sandboxes share: images made by hand, and a way to put questions to code inside.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use impuls_domain::{NetworkPolicy, limits};
pub use impuls_sandbox::conformance::fixture::{
    LIMITS, PYTHON, call, deadline, eventually, eventually_within, init,
};
use impuls_sandbox::conformance::fixture::{bind, libraries, python, shim, spec};
use impuls_sandbox::{
    Assignment, Connection, InitReport, RuntimeImage, Sandbox, SandboxDriver, SandboxLimits, StartMethod,
};
use impuls_sandbox_process::{Config, NetworkConfig, ProcessDriver};

/// The program that is executed as the spawner.
pub fn spawner_exe() -> PathBuf {
    env!("CARGO_BIN_EXE_impuls-spawner-host").into()
}

pub static NODE: LazyLock<Arc<RuntimeImage>> = LazyLock::new(|| {
    let mut mounts = libraries(Path::new("/usr/bin/node"));
    mounts.push(bind("/usr/bin/node"));
    Arc::new(RuntimeImage {
        name: "nodejs20".parse().unwrap(),
        mounts,
        links: Vec::new(),
        files: shim("node", "js"),
        argv: vec!["/usr/bin/node".into(), "/opt/impuls/node/shim.js".into()],
        steered_argv: vec!["/usr/bin/node".into(), "/opt/impuls/node/shim.js".into()],
        warm_argument: "--warm",
        start: StartMethod::Exec,
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 8,
    })
});

pub static ZYGOTE: LazyLock<Arc<RuntimeImage>> = LazyLock::new(|| python(StartMethod::Zygote(Vec::new())));

/// Tests count what is on the machine, so they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A driver with a run folder of its own.
pub struct Fixture {
    pub driver: Arc<ProcessDriver>,
    pub folder: tempfile::TempDir,
    pub turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Fixture {
    pub async fn new() -> Self {
        let turn = TURN.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            run_dir: folder.path().join("run"),
            exe: spawner_exe(),
            allow_weaker: false,
            network: NetworkConfig::default(),
        };
        Self { driver: ProcessDriver::start(config).await.unwrap(), folder, turn }
    }

    pub async fn over(driver: Arc<ProcessDriver>, folder: tempfile::TempDir) -> Self {
        Self { driver, folder, turn: TURN.lock().await }
    }

    pub async fn create(&self, image: &Arc<RuntimeImage>) -> Arc<dyn Sandbox> {
        self.try_create(image, LIMITS).await.unwrap()
    }

    pub async fn try_create(
        &self,
        image: &Arc<RuntimeImage>,
        limits: SandboxLimits,
    ) -> Result<Arc<dyn Sandbox>, impuls_sandbox::SandboxError> {
        self.driver.create(spec(image.clone(), limits), deadline(20)).await
    }

    /// Writes a function's code and gives it to a sandbox.
    pub async fn assign(&self, sandbox: &Arc<dyn Sandbox>, file: &str, code: &str) -> InitReport {
        self.assign_with(sandbox, file, code, LIMITS).await
    }

    pub async fn assign_with(
        &self,
        sandbox: &Arc<dyn Sandbox>,
        file: &str,
        code: &str,
        limits: SandboxLimits,
    ) -> InitReport {
        let folder = self.folder.path().join(sandbox.id().to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(file), code).unwrap();
        let init = init(&format!("{}.handler", file.split('.').next().unwrap()), limits);
        sandbox
            .assign(Assignment { code: folder, limits, network: NetworkPolicy::Off, init }, deadline(20))
            .await
            .unwrap()
    }

    /// A sandbox with code, and a connection to it.
    pub async fn run(
        &self,
        image: &Arc<RuntimeImage>,
        file: &str,
        code: &str,
    ) -> (Arc<dyn Sandbox>, Connection) {
        let sandbox = self.create(image).await;
        self.assign(&sandbox, file, code).await.unwrap();
        let connection = sandbox.connect().await.unwrap();
        (sandbox, connection)
    }
}

pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|task| {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        })
        .collect()
}

/// The spawner whose server has this pid; tests of this program run one at a time.
pub fn spawner_of(pid: u32) -> Option<u32> {
    children(pid).into_iter().find(|child| {
        fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.starts_with(b"impuls-spawner"))
    })
}

pub fn count_fds(pid: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

pub fn mounts(pid: u32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap().lines().count()
}

/// Folders of sandboxes of this process in all cgroup hierarchies.
pub fn groups() -> usize {
    bases()
        .iter()
        .flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten())
        .filter(|e| e.path().is_dir())
        .count()
}

pub fn bases() -> Vec<PathBuf> {
    let prefix = format!("impuls-{}-", std::process::id());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap().trim_start_matches('/'));
        let mount = match controllers {
            "" => "unified",
            name => name.trim_start_matches("name="),
        };
        for root in [Path::new("/sys/fs/cgroup").join(mount), PathBuf::from("/sys/fs/cgroup")] {
            let folders = fs::read_dir(root.join(path)).into_iter().flatten().flatten();
            found.extend(
                folders
                    .map(|e| e.path())
                    .filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with(&prefix)),
            );
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Sockets of live sandboxes below the folder of a fixture.
pub fn sockets(folder: &Path) -> usize {
    let run = folder.join("run");
    let folders = fs::read_dir(run).unwrap().flatten();
    folders
        .flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten())
        .filter(|e| e.path().extension().is_some_and(|x| x == "sock"))
        .count()
}

/// Processes in cgroups whose path has this in it.
pub fn members(name: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(name)))
        .collect()
}
