//! Functions and callers that take as much as they can: everything has a bound, and neighbours do not notice.

#![allow(clippy::expect_used, reason = "a test that does not find what it expects panics")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use impuls_e2e::functions::{marked, path};
use impuls_e2e::host::processes_with;
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Raw, Reply, Server, Value, eventually, json, unique, within};
use tokio::task::JoinHandle;

/// The largest event, in bytes.
const EVENT_LIMIT: usize = 6 * 1024 * 1024;
/// The longest log of one call, in bytes.
const LOG_LIMIT: usize = 1024 * 1024;
/// How much more memory a server may take during floods of 100 MB each, in MiB.
const SLACK_MIB: u64 = 96;

/// Another function that is called all the time while something happens.
struct Neighbour {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(usize, Duration)>,
}

impl Neighbour {
    async fn of(server: &Arc<Server>) -> Self {
        let name = server.node("exports.handler = (event) => event + 1;").await;
        assert_eq!(server.call(&name, &json!(1)).await, 2);
        let stop = Arc::new(AtomicBool::new(false));
        let (server, stopped) = (server.clone(), stop.clone());
        let calls = tokio::spawn(async move {
            let (mut count, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begun = tokio::time::Instant::now();
                assert_eq!(server.call(&name, &json!(count)).await, count + 1);
                slowest = slowest.max(begun.elapsed());
                count += 1;
            }
            (count, slowest)
        });
        Self { stop, calls }
    }

    /// Every call was answered, and none took long.
    async fn ends_unharmed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let calls = self.calls.await;
        assert!(calls.is_ok(), "a neighbour's call failed");
        let (count, slowest) = calls.unwrap_or_default();
        assert!(count > 0 && slowest < Duration::from_secs(2), "{count} calls, the slowest took {slowest:?}");
    }
}

fn is_bounded(reply: &Reply) {
    let logs = reply.logs();
    assert!(logs.len() <= LOG_LIMIT + 100, "{} bytes", logs.len());
    assert!(logs.len() >= LOG_LIMIT * 3 / 4, "{} bytes", logs.len());
    let end: String = logs.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
    assert!(end.ends_with("bytes of logs were cut]"), "{end}");
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_memory_bomb_hits_only_its_own_sandbox() {
    let server = Server::start().await;
    let neighbour = Neighbour::of(&server).await;
    let node = "exports.handler = () => { const kept = []; for (;;) kept.push(Buffer.alloc(8 << 20, 1)); };";
    let heap =
        "exports.handler = () => { const kept = []; for (;;) kept.push(new Array(1e5).fill(kept.length)); };";
    let python = "def handler(event, context):\n    kept = []\n    while True:\n        kept.append(bytearray(8 << 20))";
    let child = "import subprocess, sys\n\ndef handler(event, context):\n    return subprocess.call(\
        [sys.executable, '-c', 'kept = []\\nwhile True: kept.append(bytearray(8 << 20))'])";
    let child = server.python_with(child, &json!({"memory_mb": 128, "timeout_sec": 20})).await;
    let fields = json!({"memory_mb": 128, "timeout_sec": 20});
    let bombs = [
        server.node_with(node, &fields).await,
        server.node_with(heap, &fields).await,
        server.python_with(python, &fields).await,
    ];
    for bomb in bombs {
        let failure = server.invoke(&bomb, &Value::Null).await.failure(500, "OutOfMemory");
        assert!(failure["error"].as_str().unwrap().contains("memory"), "{failure}");
    }
    // Version 1 of cgroups kills the one process that is too large, version 2 the sandbox.
    let reply = server.invoke(&child, &Value::Null).await.json();
    assert!(reply["body"] == -9 || reply["error_type"] == "OutOfMemory", "{reply}");
    neighbour.ends_unharmed().await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn files_in_tmp_and_shared_memory_count_as_memory() {
    let server = Server::start().await;
    let neighbour = Neighbour::of(&server).await;
    let code = "
def handler(event, context):
    for folder in ['/tmp', '/dev/shm']:
        with open(folder + '/fill', 'wb') as file:
            for _ in range(60):
                file.write(bytes(1 << 20))
    return 'all written'
";
    let name = server.python_with(code, &json!({"memory_mb": 96, "timeout_sec": 20})).await;
    server.invoke(&name, &Value::Null).await.failure(500, "OutOfMemory");
    neighbour.ends_unharmed().await;
}

#[tokio::test]
async fn the_private_tmp_is_bounded() {
    let server = Server::shared().await;
    let code = "
import errno, os

def handler(event, context):
    written = 0
    try:
        with open('/tmp/fill', 'wb', buffering=0) as file:
            for _ in range(200):
                written += file.write(bytes(1 << 20))
        return 'unbounded'
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    os.remove('/tmp/fill')
    files = 0
    try:
        for files in range(100000):
            open('/tmp/%d' % files, 'w').close()
        return 'unbounded number of files'
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    return [written >> 20, files]
";
    let name = server.python_with(code, &json!({"memory_mb": 512})).await;
    let result = server.call(&name, &Value::Null).await;
    let (mib, files) = (result[0].as_u64().unwrap(), result[1].as_u64().unwrap());
    assert!((32..=64).contains(&mib) && (1_000..=20_000).contains(&files), "{result}");
}

#[tokio::test]
async fn a_fork_bomb_hits_only_its_own_sandbox() {
    let server = Server::start().await;
    let neighbour = Neighbour::of(&server).await;
    let mark = unique("bomb");
    let counted = "
import os, time

def handler(event, context):
    children = 0
    try:
        while children < 5000:
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            children += 1
    except OSError:
        pass
    return children
";
    let counted = server.python_with(counted, &json!({"memory_mb": 1024, "timeout_sec": 20})).await;
    let children = server.call(&counted, &Value::Null).await.as_u64().unwrap();
    assert!((50..256).contains(&children), "{children}");
    let wild = format!(
        "
import ctypes, os

def handler(event, context):
    ctypes.CDLL(None).prctl(15, b'{mark}'[:15])
    while True:
        try:
            os.fork()
        except OSError:
            pass
"
    );
    let wild = server.python_with(&wild, &json!({"timeout_sec": 2})).await;
    let reply = server.invoke(&wild, &Value::Null).await;
    assert!(reply.status == 504 || reply.json()["error_type"] == "OutOfMemory", "{}", reply.text());
    let node = format!("
        const spawn = () => require('child_process').spawn(process.execPath, ['-e', 'setInterval(() => {{}}, 1000)', '{mark}'],
            {{ stdio: 'ignore' }}).on('error', () => {{}});
        exports.handler = () => {{ for (;;) spawn(); }};");
    let node = server.node_with(&node, &json!({"timeout_sec": 2})).await;
    let reply = server.invoke(&node, &Value::Null).await;
    assert!(
        matches!(reply.json()["error_type"].as_str(), Some("Timeout" | "OutOfMemory")),
        "{}",
        reply.text()
    );
    assert_eq!(processes_with(&mark), []);
    neighbour.ends_unharmed().await;
    server.remove(&counted).await;
}

#[tokio::test]
async fn a_thread_bomb_hits_only_its_own_sandbox() {
    let server = Server::start().await;
    let neighbour = Neighbour::of(&server).await;
    let code = "
import threading, time

def handler(event, context):
    threads = 0
    try:
        while threads < 5000:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            threads += 1
    except RuntimeError:
        pass
    return threads
";
    let name = server.python_with(code, &json!({"memory_mb": 512, "timeout_sec": 20})).await;
    let threads = server.call(&name, &Value::Null).await.as_u64().unwrap();
    assert!((50..256).contains(&threads), "{threads}");
    neighbour.ends_unharmed().await;
}

#[tokio::test]
async fn a_flood_of_logs_is_cut_and_the_servers_memory_stays_flat() {
    let server = Server::start().await;
    let lines = "exports.handler = () => { for (let i = 0; i < 100000; i++) console.log('x'.repeat(1000)); return 'done'; };";
    let stream = "exports.handler = () => { for (let i = 0; i < 1600; i++) process.stdout.write('x'.repeat(65536)); return 'done'; };";
    let empty = "exports.handler = () => { for (let i = 0; i < 2e6; i++) console.log(''); return 'done'; };";
    let past = "const fs = require('fs'); exports.handler = () => {
        for (let i = 0; i < 1600; i++) fs.writeSync(1, 'x'.repeat(65535) + '\\n'); return 'done'; };";
    let python = "def handler(event, context):\n    for _ in range(100000):\n        print('x' * 1000)\n    return 'done'";
    let fields = json!({"timeout_sec": 60});
    let neighbour = Neighbour::of(&server).await;
    let before = server.process().resident_mib();
    let floods = [
        server.node_with(lines, &fields).await,
        server.node_with(stream, &fields).await,
        server.node_with(empty, &fields).await,
        server.node_with(past, &fields).await,
        server.python_with(python, &fields).await,
    ];
    for flood in floods {
        let (name, caller) = (flood.clone(), server.clone());
        let call = tokio::spawn(async move { caller.invoke(&name, &Value::Null).await });
        let mut most = 0;
        let ended = async || {
            most = most.max(server.process().resident_mib());
            call.is_finished().then_some(())
        };
        eventually("the flood ends", Duration::from_secs(60), ended).await;
        let reply = call.await.unwrap();
        is_bounded(&reply);
        assert_eq!(reply.result(), "done");
        assert!(most < before + SLACK_MIB, "{before} MiB before, {most} MiB at most");
    }
    neighbour.ends_unharmed().await;
}

#[tokio::test]
async fn a_line_of_five_megabytes_is_cut() {
    let server = Server::start().await;
    let before = server.process().resident_mib();
    let node = "exports.handler = () => { console.log('x'.repeat(5e6)); return 'done'; };";
    let python = "def handler(event, context):\n    print('x' * 5000000)\n    return 'done'";
    for name in [server.node(node).await, server.python(python).await] {
        let reply = server.invoke(&name, &Value::Null).await;
        is_bounded(&reply);
        assert_eq!(reply.result(), "done");
        assert_eq!(server.invoke(&name, &Value::Null).await.result(), "done");
    }
    assert!(server.process().resident_mib() < before + SLACK_MIB);
}

#[tokio::test]
async fn an_event_of_six_mebibytes_is_accepted_and_one_byte_more_is_not() {
    let server = Server::shared().await;
    let node = server.node("exports.handler = (event) => event.length;").await;
    let python = server.python("def handler(event, context):\n    return len(event)").await;
    let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for name in [node, python] {
        let invoke = format!("{}/invoke", path(&name));
        let reply = server.post_bytes(&invoke, event(EVENT_LIMIT)).await;
        assert_eq!(reply.result(), EVENT_LIMIT - 2);
        let message = server.post_bytes(&invoke, event(EVENT_LIMIT + 1)).await.problem(413);
        assert!(message.contains("6291456"), "{message}");
        assert_eq!(server.call(&name, &json!("abc")).await, 3);
    }
}

#[tokio::test]
async fn a_result_of_six_mebibytes_is_returned() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = (event) => 'x'.repeat(event);").await;
    let result = server.call(&name, &json!(EVENT_LIMIT - 2)).await;
    assert_eq!(result.as_str().map(str::len), Some(EVENT_LIMIT - 2));
    server.invoke(&name, &json!(EVENT_LIMIT - 1)).await.failure(500, "BadResponse");
}

#[tokio::test]
#[ignore = "needs curl"]
async fn ordinary_clients_read_the_refusal_of_a_large_event() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = () => 1;").await;
    let url = server.url(&format!("{}/invoke", path(&name)));
    for mib in [7, 12, 20] {
        let event = vec![b'1'; mib << 20];
        let file = server.data().scratch().join("event");
        std::fs::write(&file, &event).unwrap();
        for expect in ["Expect:", "Expect: 100-continue"] {
            let mut curl = Command::new("curl");
            curl.args([
                "-sS",
                "--noproxy",
                "*",
                "-w",
                "\n%{http_code}",
                "-H",
                expect,
                "-X",
                "POST",
                "--data-binary",
            ]);
            let output =
                curl.arg(format!("@{}", file.display())).arg(&url).stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                text.ends_with("\n413") && text.contains("6291456"),
                "{mib} MiB, {expect}: {text} {complaint}"
            );
        }
        // This client gives up at the first write that fails, and the server stops reading after 16 MiB.
        if mib <= 16 {
            server.post_bytes(&format!("{}/invoke", path(&name)), event).await.problem(413);
        }
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_frees_its_permit_at_once() {
    let server = Server::shared().await;
    let mark = unique("waiting");
    let code = marked(&mark, "return event ? new Promise((done) => setTimeout(done, 25000)) : 'quick';");
    let name = server.node_with(&code, &json!({"max_concurrency": 1, "timeout_sec": 30})).await;
    for _ in 0..3 {
        let mut caller = Raw::open(&server).await;
        caller.invoke(&name, "true").await;
        let running = async || (!processes_with(&mark).is_empty()).then_some(());
        eventually("the function runs", Duration::from_secs(5), running).await;
        drop(caller);
        let quick =
            within("the permit is free", Duration::from_secs(5), server.call(&name, &json!(false))).await;
        assert_eq!(quick, "quick");
    }
}

/// Needs the processor for a second, and says what part of one it had.
const SPINNER: &str = "exports.handler = () => {
    const begun = process.hrtime.bigint(), used = process.cpuUsage();
    while (process.hrtime.bigint() - begun < 1000000000n);
    const { user, system } = process.cpuUsage(used); return (user + system) / 1e6; };";

/// A control group with three tenths of a processor, in whichever version this machine has for that.
struct ThreeTenths(PathBuf);

impl ThreeTenths {
    fn make() -> Self {
        let first = Path::new("/sys/fs/cgroup/cpu");
        let is_first = first.join("cgroup.procs").exists();
        let root = if is_first { first } else { Path::new("/sys/fs/cgroup") };
        let made = Self(root.join(unique("impuls-e2e")));
        std::fs::create_dir(&made.0).expect("a control group");
        let put = |file, value| std::fs::write(made.0.join(file), value).expect("a limit");
        if is_first {
            put("cpu.cfs_period_us", "100000");
            put("cpu.cfs_quota_us", "30000");
        } else {
            put("cpu.max", "30000 100000");
        }
        made
    }
}

impl Drop for ThreeTenths {
    fn drop(&mut self) {
        let _left_behind_empty = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_server_with_less_of_a_processor_than_a_function_asks_for_runs_it() {
    let (data, group) = (Data::new(), ThreeTenths::make());
    let within = "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"";
    let launch = Launch::bare(&data, "sh".into()).arguments(["-c", within]).argument(&group.0);
    let launch = launch.argument(program()).arguments(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    let server = launch.argument(data.folder()).start().await;
    for vcpu in [1., 0.1, 1.] {
        let name = server.node_with(SPINNER, &json!({"vcpu": vcpu})).await;
        let share = server.call(&name, &Value::Null).await.as_f64().expect("a number");
        assert!(share <= 0.3_f64.min(vcpu) + 0.12, "{vcpu}: {share}");
    }
    assert!(server.stop().await.success());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_spinner_with_half_a_core_uses_half_a_core() {
    let server = Server::shared().await;
    for vcpu in [0.5, 0.1] {
        let name = server.node_with(SPINNER, &json!({"vcpu": vcpu})).await;
        // On a busy machine it may get less than its share for a while, but never more.
        let near = async || {
            let share = server.call(&name, &Value::Null).await.as_f64()?;
            assert!(share <= vcpu + 0.12, "{vcpu}: {share}");
            (share >= vcpu * 0.8).then_some(())
        };
        eventually("it gets its share", Duration::from_secs(20), near).await;
    }
}

#[tokio::test]
async fn descriptors_of_a_sandbox_are_bounded_and_the_servers_stay_few() {
    let server = Server::start().await;
    let code = "
import os

def handler(event, context):
    opened = []
    try:
        while len(opened) < 100000:
            opened.append(os.open('/dev/null', os.O_RDONLY))
    except OSError:
        pass
    count = len(opened)
    for fd in opened:
        os.close(fd)
    return count
";
    let name = server.python_with(code, &json!({"memory_mb": 256})).await;
    let opened = server.call(&name, &Value::Null).await.as_u64().unwrap();
    assert!((100..=5_000).contains(&opened), "{opened}");
    let before = impuls_e2e::host::open_descriptors(server.pid());
    for _ in 0..10 {
        server.node("exports.handler = () => 1;").await;
    }
    let after = async || (impuls_e2e::host::open_descriptors(server.pid()) <= before + 20).then_some(());
    eventually("checks at deploy leave no descriptors", Duration::from_secs(5), after).await;
}
