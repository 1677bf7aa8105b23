//! What the cases play on: a driver, runtimes made by hand from the machine's programs, and a way to put questions to code
//! inside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use impuls_domain::{Deadline, InvocationId, NetworkPolicy, SandboxId, limits};
use impuls_guest_protocol::Init;

use crate::{
    Assignment, BindMount, Call, Connection, Hold, InitReport, Lost, Reply, RuntimeImage, Sandbox,
    SandboxDriver, SandboxError, SandboxLimits, SandboxSpec, StartMethod,
};

/// How long what the kernel does by itself may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What sandboxes of the suites are limited to.
pub const LIMITS: SandboxLimits = SandboxLimits { memory_mib: 256, milli_vcpu: 1_000, pids: 64 };

/// A driver to be tried, alone on its part of the machine.
#[async_trait]
pub trait Stage: Send + Sync {
    /// The driver.
    fn driver(&self) -> &dyn SandboxDriver;

    /// A folder for code, that the driver can show to sandboxes.
    fn folder(&self) -> &Path;

    /// A Python with its shim, as this driver's sandboxes can hold it.
    fn python(&self) -> Arc<RuntimeImage> {
        PYTHON.clone()
    }

    /// Counts what there is of this driver's sandboxes on the machine, by what it is: processes, groups, mounts, files.
    fn leftovers(&self) -> BTreeMap<&'static str, usize>;

    /// Ends the driver.
    async fn close(&self);
}

/// Python of this machine, executed.
pub static PYTHON: LazyLock<Arc<RuntimeImage>> = LazyLock::new(|| python(StartMethod::Exec));

/// So many seconds from now.
#[must_use]
pub fn deadline(secs: u64) -> Deadline {
    Deadline::at(Instant::now() + Duration::from_secs(secs))
}

/// The shared libraries of a program, as `ldd` finds them: where it looks, and what file that is.
#[must_use]
pub fn libraries(program: &Path) -> Vec<BindMount> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("ldd prints text");
    text.split_whitespace().filter(|word| word.starts_with('/')).map(bind).collect()
}

/// A file or folder of the machine at its own place.
#[must_use]
pub fn bind(path: &str) -> BindMount {
    BindMount { host: fs::canonicalize(path).expect("the file is there"), guest: path.into() }
}

/// The files of a language's shim.
#[must_use]
pub fn shim(language: &str, suffix: &str) -> Vec<(PathBuf, &'static str)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/shims").join(language);
    let files = fs::read_dir(folder).expect("the shim is there");
    let paths = files.map(|entry| entry.expect("the folder is read").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == suffix))
        .map(|path| {
            let text: &'static str = fs::read_to_string(&path).expect("the shim is read").leak();
            let name = path.file_name().expect("a file has a name");
            (Path::new("/opt/impuls").join(language).join(name), text)
        })
        .collect()
}

/// Debian's Python with its shim, started as `start` says; a zygote's command is the shim's own.
#[must_use]
pub fn python(start: StartMethod) -> Arc<RuntimeImage> {
    let program = Path::new("/usr/bin/python3.11");
    let mut mounts = libraries(program);
    // What modules of the standard library load.
    for entry in fs::read_dir("/usr/lib/python3.11/lib-dynload").expect("Python has its modules") {
        for library in libraries(&entry.expect("the folder is read").path()) {
            if !mounts.contains(&library) {
                mounts.push(library);
            }
        }
    }
    mounts.extend([bind("/usr/bin/python3.11"), bind("/usr/lib/python3.11")]);
    let shim_of = |file: &str| -> Vec<String> {
        ["/usr/bin/python3.11", "-I", "-S", &format!("/opt/impuls/python/{file}")].map(str::to_owned).into()
    };
    Arc::new(RuntimeImage {
        name: "python311".parse().expect("a name"),
        mounts,
        links: Vec::new(),
        files: shim("python", "py"),
        argv: shim_of("shim.py"),
        steered_argv: ["/usr/bin/python3.11", "-s", "/opt/impuls/python/shim.py"].map(str::to_owned).into(),
        warm_argument: "--warm",
        start: match start {
            StartMethod::Exec => StartMethod::Exec,
            StartMethod::Zygote(_) => StartMethod::Zygote(shim_of("zygote.py")),
        },
        tmp_mib: limits::TMP_MIB,
        idle_memory_mib: 2,
    })
}

/// What a function called `test` is told.
#[must_use]
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

/// A sandbox to be made.
#[must_use]
pub fn spec(image: Arc<RuntimeImage>, limits: SandboxLimits) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::new(),
        image,
        prewarm: true,
        interpreter_environment: BTreeMap::new(),
        limits,
    }
}

/// A sandbox without code.
pub async fn create(stage: &impl Stage) -> Arc<dyn Sandbox> {
    try_create(stage, stage.python(), LIMITS).await.expect("the sandbox comes up")
}

/// A sandbox without code, if there is one.
pub async fn try_create(
    stage: &impl Stage,
    image: Arc<RuntimeImage>,
    limits: SandboxLimits,
) -> Result<Arc<dyn Sandbox>, SandboxError> {
    stage.driver().create(spec(image, limits), deadline(60)).await
}

/// What gives a sandbox this code, as the handler of `index.py`.
pub fn assignment(
    stage: &impl Stage,
    sandbox: &dyn Sandbox,
    code: &str,
    limits: SandboxLimits,
) -> Assignment {
    let folder = stage.folder().join(sandbox.id().to_string());
    fs::create_dir(&folder).expect("the folder is made");
    fs::write(folder.join("index.py"), code).expect("the code is written");
    Assignment { code: folder, limits, network: NetworkPolicy::Off, init: init("index.handler", limits) }
}

/// Gives a sandbox code.
pub async fn assign(stage: &impl Stage, sandbox: &dyn Sandbox, code: &str) -> InitReport {
    let assignment = assignment(stage, sandbox, code, LIMITS);
    sandbox.assign(assignment, deadline(60)).await.expect("the code is taken")
}

/// A sandbox with code, and a connection to it.
pub async fn run(stage: &impl Stage, code: &str) -> (Arc<dyn Sandbox>, Connection) {
    run_with(stage, code, LIMITS).await
}

/// The same with limits of its own, from the beginning.
pub async fn run_with(
    stage: &impl Stage,
    code: &str,
    limits: SandboxLimits,
) -> (Arc<dyn Sandbox>, Connection) {
    let sandbox = try_create(stage, stage.python(), limits).await.expect("the sandbox comes up");
    let assignment = assignment(stage, sandbox.as_ref(), code, limits);
    let report = sandbox.assign(assignment, deadline(60)).await.expect("the code is taken");
    assert_eq!(report, Ok(()));
    let connection = sandbox.connect().await.expect("it is alive");
    (sandbox, connection)
}

/// Calls the handler and returns what came of it; `None` if the sandbox was gone before.
pub async fn try_reply(connection: &Connection, event: &str, by: Deadline) -> Option<Result<Reply, Lost>> {
    let call = Call {
        request: InvocationId::new(),
        deadline: by,
        deadline_unix_ms: u64::MAX / 2,
        context: &[],
        event: event.as_bytes(),
        hold: Hold::new(()),
    };
    Some(connection.call(call).ok()?.await)
}

/// Calls the handler and returns all that came back.
pub async fn reply(connection: &Connection, event: &str) -> Reply {
    let reply = try_reply(connection, event, deadline(60)).await;
    reply.and_then(Result::ok).expect("there is a reply")
}

/// Calls the handler: what it returned, or why there is nothing.
pub async fn call(connection: &Connection, event: &str) -> Result<serde_json::Value, String> {
    let reply = try_reply(connection, event, deadline(60)).await;
    match reply.and_then(Result::ok).ok_or("sandbox is gone")?.result {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).expect("a result is JSON")),
        Err(error) => Err(format!("{}: {}", error.class, error.message)),
    }
}

/// Waits until there is an answer, at most ten seconds.
pub async fn eventually<T>(question: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, question).await
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
