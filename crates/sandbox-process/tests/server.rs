//! A server in a process of its own: killed without warning, and as an ordinary user.
//!
//! This program is three: the tests, the server (argument `server`) and the spawner (argument `spawner`), so it
//! has a `main` of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use fixture::{NODE, PYTHON, ZYGOTE, call};
use impuls_sandbox::SandboxDriver;
use impuls_sandbox_process::{Config, LayerName, NetworkConfig, ProcessDriver, probe, spawner_main};
use serde_json::{Value, json};

/// `nobody` of Debian.
const ORDINARY: u32 = 65_534;

type Test = (&'static str, fn());

const TESTS: [Test; 4] = [
    ("a_killed_server_leaves_no_process_and_the_next_removes_the_rest", killed),
    ("an_ordinary_user_has_sandboxes_too", ordinary),
    ("the_spawner_has_no_environment", environment),
    ("isolation_can_be_probed_without_a_server", probed),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("spawner") => spawner_main(),
        Some("server") => {
            serve(Path::new(&arguments[1]));
            ExitCode::SUCCESS
        }
        _ => run_tests(&arguments),
    }
}

fn run_tests(arguments: &[String]) -> ExitCode {
    let flags = ["--ignored", "--include-ignored"];
    let privileged = arguments.iter().any(|argument| flags.contains(&argument.as_str()));
    let chosen = |name: &str| {
        // A number is the value of `--test-threads`.
        let is_filter = |argument: &&String| !argument.starts_with('-') && argument.parse::<u32>().is_err();
        let filters: Vec<&String> = arguments.iter().filter(is_filter).collect();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    for (name, test) in TESTS.into_iter().filter(|(name, _)| chosen(name)) {
        if privileged {
            test();
            println!("test {name} ... ok");
        } else {
            println!("test {name} ... ignored, needs root");
        }
    }
    ExitCode::SUCCESS
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Starts a driver, reaps, makes three sandboxes, says so and waits for the end of standard input.
fn serve(folder: &Path) {
    runtime().block_on(async {
        let config =
            Config { run_dir: folder.join("run"), exe: "/proc/self/exe".into(), allow_weaker: false, network: NetworkConfig::default() };
        let driver = ProcessDriver::start(config).await.unwrap();
        let reaped = driver.reap_orphans().await.unwrap();
        let missing: Vec<LayerName> = driver.isolation().missing().map(|layer| layer.name).collect();
        let fixture = fixture::Fixture::over(driver, tempfile::tempdir_in(folder).unwrap()).await;
        fs::set_permissions(fixture.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let python = "import os\ndef handler(event, context):\n    return [os.getuid(), sorted(os.listdir('/')), open('/proc/self/status').read()]\n";
        let node = "exports.handler = async e => [process.getuid(), require('fs').readdirSync('/'), require('fs').readFileSync('/proc/self/status').toString()]";
        let mut kept = Vec::new();
        let mut answers = Vec::new();
        for (image, file, code) in [(&NODE, "index.js", node), (&PYTHON, "index.py", python), (&ZYGOTE, "index.py", python)] {
            let (sandbox, connection) = fixture.run(image, file, code).await;
            answers.push(call(&connection, "1").await.unwrap());
            kept.push((sandbox, connection));
        }
        println!("{}", json!({ "reaped": reaped, "missing": missing, "answers": answers }));
        std::io::stdout().flush().unwrap();
        let mut rest = String::new();
        std::io::stdin().read_to_string(&mut rest).unwrap();
        fixture.driver.shutdown().await;
    });
}

fn start(program: &Path, folder: &Path, user: Option<u32>) -> (Child, Value) {
    let mut command = Command::new(program);
    command.arg("server").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env("IMPULS_TEST_SECRET", "hunter2");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

/// Every process below another, in whatever namespaces.
fn descendants(pid: u32) -> Vec<u32> {
    let mut all = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in text.split_whitespace().map(|pid| pid.parse().unwrap()) {
            all.push(child);
            all.extend(descendants(child));
        }
    }
    all
}

/// Whether it has memory: one that has none only waits for its parent, now the machine's own process 1, to notice.
fn is_running(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn killed() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let (mut server, _) = start(&own, folder.path(), None);
    let processes = descendants(server.id());
    // Spawner, zygote, and two for each sandbox.
    assert!(processes.len() >= 8, "{processes:?}");
    let instance = fs::read_dir(folder.path().join("run")).unwrap().next().unwrap().unwrap().file_name();
    server.kill().unwrap();
    let killed_at = Instant::now();
    server.wait().unwrap();
    while processes.iter().any(|&pid| is_running(pid)) {
        assert!(killed_at.elapsed() < Duration::from_secs(1), "{processes:?} are left");
        std::thread::yield_now();
    }
    println!("  {} processes were gone after {:?}", processes.len(), killed_at.elapsed());
    let (mut next, said) = start(&own, folder.path(), None);
    assert_eq!(said["reaped"], 3);
    assert_eq!(fs::read_dir(folder.path().join("run")).unwrap().count(), 1);
    drop(next.stdin.take());
    assert!(next.wait().unwrap().success());
    let name = format!("impuls-{}", instance.to_str().unwrap());
    let left = Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

/// A folder that an ordinary user owns, with this program in it.
fn ordinary_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(folder.path(), Some(ORDINARY), Some(ORDINARY)).unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("server");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    folder
}

fn ordinary() {
    let folder = ordinary_folder();
    let (mut server, said) = start(&folder.path().join("server"), folder.path(), Some(ORDINARY));
    let missing = said["missing"].as_array().unwrap();
    assert!(missing.contains(&json!("OwnUid")), "{said}");
    assert!(missing.iter().all(|name| {
        ["OwnUid", "MemoryLimit", "CpuLimit", "PidsLimit", "CgroupKill", "FunctionNetwork"]
            .contains(&name.as_str().unwrap())
    }));
    for answer in said["answers"].as_array().unwrap() {
        assert_eq!(answer[0], 1000);
        assert_eq!(answer[1], json!(["dev", "etc", "lib", "lib64", "opt", "proc", "tmp", "usr", "var"]));
        let status = answer[2].as_str().unwrap();
        for line in
            ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
        {
            assert!(status.contains(line), "{line} not in {status}");
        }
    }
    let processes = descendants(server.id());
    assert!(processes.len() >= 8);
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert!(!processes.iter().any(|&pid| is_running(pid)));
}

fn environment() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, _) = start(&std::env::current_exe().unwrap(), folder.path(), None);
    for pid in descendants(server.id()) {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("hunter2"), "process {pid}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let (mut next, _) = start(&std::env::current_exe().unwrap(), folder.path(), None);
    drop(next.stdin.take());
    next.wait().unwrap();
}

fn probed() {
    let report = runtime().block_on(probe(Path::new("/proc/self/exe"))).unwrap();
    assert_eq!(report.layers.len(), 17);
    assert_eq!(report.unexpectedly_missing().count(), 0);
    assert!(report.layers.iter().all(|layer| layer.works == layer.fix.is_empty()));
}
