//! What the tests of real sandboxes share: images made by hand, and a way to put questions to code inside.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use impuls_domain::{Deadline, InvocationId, NetworkPolicy, SandboxId, limits};
use impuls_guest_protocol::Init;
use impuls_sandbox::{
    Assignment, BindMount, Call, Connection, Hold, InitReport, Reply, RuntimeImage, Sandbox, SandboxDriver,
    SandboxLimits, SandboxSpec, StartMethod,
};
use impuls_sandbox_process::{Config, NetworkConfig, ProcessDriver};

/// The program that is executed as the spawner.
pub fn spawner_exe() -> PathBuf {
    env!("CARGO_BIN_EXE_impuls-spawner-host").into()
}

pub fn deadline(secs: u64) -> Deadline {
    Deadline::at(Instant::now() + Duration::from_secs(secs))
}

pub const LIMITS: SandboxLimits = SandboxLimits { memory_mib: 256, milli_vcpu: 1_000, pids: 64 };

/// The shared libraries of a program, as `ldd` finds them: where it looks, and what file that is.
fn libraries(program: &Path) -> Vec<BindMount> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|guest| BindMount { host: fs::canonicalize(guest).unwrap(), guest: guest.into() }).collect()
}

fn shims(language: &str, suffix: &str) -> Vec<(PathBuf, &'static str)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/shims").join(language);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|found| found == suffix) {
            let text: &'static str = fs::read_to_string(&path).unwrap().leak();
            let guest = Path::new("/opt/impuls").join(language).join(path.file_name().unwrap());
            files.push((guest, text));
        }
    }
    files
}

fn bind(path: &str) -> BindMount {
    BindMount { host: fs::canonicalize(path).unwrap(), guest: path.into() }
}

pub static NODE: LazyLock<Arc<RuntimeImage>> = LazyLock::new(|| {
    let mut mounts = libraries(Path::new("/usr/bin/node"));
    mounts.push(bind("/usr/bin/node"));
    Arc::new(RuntimeImage {
        name: "nodejs20".parse().unwrap(),
        mounts,
        links: Vec::new(),
        files: shims("node", "js"),
        argv: vec!["/usr/bin/node".into(), "/opt/impuls/node/shim.js".into()],
        steered_argv: vec!["/usr/bin/node".into(), "/opt/impuls/node/shim.js".into()],
        warm_argument: "--warm",
        start: StartMethod::Exec,
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 8,
    })
});

fn python(start: StartMethod) -> Arc<RuntimeImage> {
    let program = Path::new("/usr/bin/python3.11");
    let mut mounts = libraries(program);
    // What modules of the standard library load.
    for entry in fs::read_dir("/usr/lib/python3.11/lib-dynload").unwrap() {
        for library in libraries(&entry.unwrap().path()) {
            if !mounts.contains(&library) {
                mounts.push(library);
            }
        }
    }
    mounts.extend([bind("/usr/bin/python3.11"), bind("/usr/lib/python3.11")]);
    let shim = |file: &str| -> Vec<String> {
        ["/usr/bin/python3.11", "-I", "-S", &format!("/opt/impuls/python/{file}")].map(str::to_owned).into()
    };
    Arc::new(RuntimeImage {
        name: "python311".parse().unwrap(),
        mounts,
        links: Vec::new(),
        files: shims("python", "py"),
        argv: shim("shim.py"),
        steered_argv: ["/usr/bin/python3.11", "-s", "/opt/impuls/python/shim.py"].map(str::to_owned).into(),
        warm_argument: "--warm",
        start: match start {
            StartMethod::Exec => StartMethod::Exec,
            StartMethod::Zygote(_) => StartMethod::Zygote(shim("zygote.py")),
        },
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 2,
    })
}

pub static PYTHON: LazyLock<Arc<RuntimeImage>> = LazyLock::new(|| python(StartMethod::Exec));
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
        let spec = SandboxSpec {
            id: SandboxId::new(),
            image: image.clone(),
            prewarm: true,
            interpreter_environment: BTreeMap::new(),
            limits,
        };
        self.driver.create(spec, deadline(20)).await
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

pub fn init(handler: &str, limits: SandboxLimits) -> Init {
    Init {
        command: Vec::new(),
        function_name: "test".into(),
        function_version: "1".into(),
        function_id: "00000000-0000-7000-8000-000000000000".into(),
        handler: handler.into(),
        contract: "module".into(),
        memory_mb: limits.memory_mib,
        timeout_ms: 30_000,
        concurrency: 1,
        environment: BTreeMap::new(),
        code_dir: "/var/task".into(),
        check: false,
    }
}

/// Calls the handler.
pub async fn call(connection: &Connection, event: &str) -> Result<serde_json::Value, String> {
    let reply = try_reply(connection, event).await.ok_or("sandbox is gone")?;
    match reply.result {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => Err(format!("{}: {}", error.class, error.message)),
    }
}

/// Calls the handler and returns all that came back.
pub async fn reply(connection: &Connection, event: &str) -> Reply {
    try_reply(connection, event).await.unwrap()
}

async fn try_reply(connection: &Connection, event: &str) -> Option<Reply> {
    let call = Call {
        request: InvocationId::new(),
        deadline: deadline(60),
        deadline_unix_ms: u64::MAX / 2,
        context: &[],
        event: event.as_bytes(),
        hold: Hold::new(()),
    };
    connection.call(call).ok()?.await.ok()
}

/// Waits until there is an answer.
pub async fn eventually<T>(question: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(5), question).await
}

/// Waits until there is an answer, at most so long.
pub async fn eventually_within<T>(patience: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < until, "it did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
