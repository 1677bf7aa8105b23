//! Parts of the platform are killed, and functions turn against the platform: calls go on.

use std::time::Duration;

use impuls_e2e::functions::marked;
use impuls_e2e::host::{Process, descendants, processes_with};
use impuls_e2e::{Server, Value, eventually, json, unique, within};
use rustix::process::{Pid, Signal, kill_process};

const NODE_ECHO: &str = "exports.handler = (event) => event;";
const PYTHON_ECHO: &str = "def handler(event, context):\n    return event";

fn kill(process: &Process, signal: Signal) {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    // It may have ended by itself.
    let _ended = pid.map(|pid| kill_process(pid, signal));
}

/// The server's processes whose command line has this text; there must be some soon.
async fn processes_of(server: &Server, text: &str) -> Vec<Process> {
    let found = async || {
        let family = descendants(server.pid()).into_iter();
        let found: Vec<Process> = family.filter(|process| process.command().contains(text)).collect();
        Some(found).filter(|found| !found.is_empty())
    };
    eventually(text, Duration::from_secs(10), found).await
}

#[tokio::test]
async fn the_death_of_a_zygote_is_not_noticed() {
    let server = Server::start().await;
    let old = server.python(PYTHON_ECHO).await;
    assert_eq!(server.call(&old, &json!(1)).await, 1);
    // What a zygote has forked looks like it, so the sandboxes go, too; a call must not meet one in that moment.
    for process in processes_of(&server, "zygote.py").await {
        kill(&process, Signal::KILL);
    }
    let answers = async || (server.invoke(&old, &json!(2)).await.status == 200).then_some(());
    eventually("calls are answered again", Duration::from_secs(5), answers).await;
    for round in 0..10 {
        assert_eq!(server.call(&old, &json!(round)).await, round);
        let new = server.python(PYTHON_ECHO).await;
        assert_eq!(server.call(&new, &json!(round)).await, round);
    }
}

#[tokio::test]
async fn the_death_of_prewarmed_sandboxes_is_not_noticed() {
    let server = Server::start().await;
    for _ in 0..5 {
        for prewarmed in processes_of(&server, "shim.js").await {
            kill(&prewarmed, Signal::KILL);
        }
        let name = server.node(NODE_ECHO).await;
        assert_eq!(server.call(&name, &json!(1)).await, 1);
    }
}

#[tokio::test]
async fn after_the_death_of_the_spawner_there_is_another() {
    let server = Server::start().await;
    server.expect_error("the spawner is gone");
    let (node, python) = (server.node(NODE_ECHO).await, server.python(PYTHON_ECHO).await);
    assert_eq!(server.call(&node, &json!(1)).await, 1);
    let before = descendants(server.pid());
    for spawner in processes_of(&server, "impuls-spawner").await {
        kill(&spawner, Signal::KILL);
    }
    for name in [&node, &python] {
        let answers = async || {
            let reply = server.invoke(name, &json!(2)).await;
            assert!([200, 500, 503].contains(&reply.status), "{}", reply.text());
            (reply.status == 200).then_some(())
        };
        eventually("calls are answered again", Duration::from_secs(10), answers).await;
    }
    let ended = async || before.iter().all(|process| !process.is_running()).then_some(());
    eventually("nothing of the first spawner is left", Duration::from_secs(5), ended).await;
    let new = server.node(NODE_ECHO).await;
    assert_eq!(server.call(&new, &json!(3)).await, 3);
}

#[tokio::test]
async fn a_sandbox_that_is_killed_from_outside_costs_only_its_own_call() {
    let server = Server::shared().await;
    let mark = unique("victim");
    let name = server.node(&marked(&mark, "return event ? new Promise(() => {}) : 'fine';")).await;
    for _ in 0..3 {
        let call = tokio::spawn({
            let (server, name) = (server.clone(), name.clone());
            async move { server.invoke(&name, &json!(true)).await }
        });
        // A sandbox that dies before the call has begun in it is replaced, so this goes on until the call ends.
        let kill_all = async || {
            processes_with(&mark).iter().for_each(|victim| kill(victim, Signal::KILL));
            call.is_finished().then_some(())
        };
        eventually("the call ends", Duration::from_secs(10), kill_all).await;
        call.await.unwrap().failure(500, "Exited");
        assert_eq!(server.call(&name, &json!(false)).await, "fine");
    }
}

#[tokio::test]
async fn a_function_that_stops_itself_is_a_timeout() {
    let server = Server::shared().await;
    let mark = unique("stopped");
    let code = marked(&mark, "process.kill(process.pid, 'SIGSTOP'); return 1;");
    let name = server.node_with(&code, &json!({"timeout_sec": 1})).await;
    server.invoke(&name, &Value::Null).await.failure(504, "Timeout");
    assert_eq!(processes_with(&mark), []);
}

#[tokio::test]
async fn a_function_that_ignores_signals_is_killed_all_the_same() {
    let server = Server::shared().await;
    let code = "
import os, signal

def handler(event, context):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    for fd in range(3, 100):
        try:
            os.close(fd)
        except OSError:
            pass
    while True:
        pass
";
    let name = server.python_with(code, &json!({"timeout_sec": 1})).await;
    let call = server.invoke(&name, &Value::Null);
    let reply = within("a call whose function has hung up is answered", Duration::from_secs(10), call).await;
    assert!(matches!(reply.json()["error_type"].as_str(), Some("Timeout" | "Exited")), "{}", reply.text());
    assert_eq!(server.call(&server.python(PYTHON_ECHO).await, &json!(1)).await, 1);
}

#[tokio::test]
async fn nonsense_on_the_guests_socket_hits_only_its_own_sandbox() {
    let server = Server::shared().await;
    let neighbour = server.node(NODE_ECHO).await;
    let code = "
import os

def handler(event, context):
    for fd in os.listdir('/proc/self/fd'):
        try:
            if os.readlink('/proc/self/fd/' + fd).startswith('socket:'):
                os.write(int(fd), bytes.fromhex(event))
        except OSError:
            pass
    return 'honest'
";
    let name = server.python_with(code, &json!({"timeout_sec": 2})).await;
    let frames = [
        "ff".repeat(64),
        "00".repeat(64),
        // A RESULT for a call that does not exist, one of kind 99, a LOG without a level, a READY in the middle.
        "06000000434d00000031".to_owned(),
        "0500000063010000 00".replace(' ', ""),
        "050000004501000000".to_owned(),
        "070000004000000000 7b7d".replace(' ', ""),
        // An empty RESULT for call 1, and one that claims to be as large as a frame can be.
        "050000004301000000".to_owned(),
        "000080004301000000".to_owned(),
    ];
    for frame in frames {
        let reply = server.invoke(&name, &json!(frame)).await;
        assert!([200, 500, 504].contains(&reply.status), "{frame}: {}", reply.text());
        if reply.status != 200 {
            assert!(reply.json()["error_type"].is_string(), "{frame}: {}", reply.text());
        }
        assert_eq!(server.call(&neighbour, &json!(1)).await, 1);
    }
}

#[tokio::test]
async fn a_module_that_hangs_up_while_it_is_loaded_is_an_init_error() {
    let server = Server::shared().await;
    let code = "
import os, time
for fd in range(3, 100):
    try:
        os.close(fd)
    except OSError:
        pass
time.sleep(600)
";
    let fields = json!({"name": unique("hangup"), "runtime": "python", "handler": "index.handler", "code": code, "timeout_sec": 1});
    let created = within("the check at deploy ends", Duration::from_secs(20), server.create(&fields)).await;
    let call = server.invoke(created["name"].as_str().unwrap(), &Value::Null);
    let reply = within("the call is answered", Duration::from_secs(10), call).await;
    assert!(matches!(reply.json()["error_type"].as_str(), Some("Timeout" | "InitError")), "{}", reply.text());
}

#[tokio::test]
async fn a_flood_on_the_guests_socket_is_bounded() {
    let server = Server::start().await;
    let neighbour = server.node(NODE_ECHO).await;
    let code = "
import os, struct, time

def handler(event, context):
    sockets = [int(fd) for fd in os.listdir('/proc/self/fd')
               if os.path.islink('/proc/self/fd/' + fd) and os.readlink('/proc/self/fd/' + fd).startswith('socket:')]
    kind, call = event
    frame = struct.pack('<IBIB', 60006, kind, call, 0) + b'x' * 60000
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for fd in sockets:
            try:
                os.write(fd, frame)
            except OSError:
                pass
    return 'honest'
";
    let name = server.python_with(code, &json!({"timeout_sec": 5})).await;
    let before = server.process().resident_mib();
    // Logs of nobody, logs of a call that may exist, results of calls that do not, messages of the sandbox itself.
    for event in [json!([69, 0]), json!([69, 1]), json!([67, 999]), json!([64, 0]), json!([66, 0])] {
        let reply = server.invoke(&name, &event).await;
        assert!([200, 500, 504].contains(&reply.status), "{event}: {}", reply.text());
        assert!(reply.bytes.len() < 2 << 20, "{event}: {} bytes", reply.bytes.len());
        assert_eq!(server.call(&neighbour, &json!(1)).await, 1);
    }
    let after = server.process().resident_mib();
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
}
