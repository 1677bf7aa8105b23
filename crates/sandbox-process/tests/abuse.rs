//! What ends early: the spawner, a zygote, a program that is not there; and that nothing is left.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fixture::{
    Fixture, LIMITS, NODE, PYTHON, ZYGOTE, call, children, count_fds, eventually, groups, mounts, sockets,
    spawner_of,
};
use impuls_sandbox::{SandboxError, SandboxLimits};
use serde_json::json;

const ECHO: &str = "exports.handler = async e => e";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn what_is_counted_for_all_sandboxes_is_bounded_for_each() {
    let fixture = Fixture::new().await;
    let code = "import ctypes, resource\n\
                def handler(event, context):\n    \
                    libc, taken = ctypes.CDLL(None, use_errno=True), 0\n    \
                    while libc.inotify_init1(0) >= 0: taken += 1\n    \
                    return [taken, ctypes.get_errno(), resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]]\n";
    // As many as use up what root has, if each could take as much as one wants.
    let mut kept = Vec::new();
    for image in [&PYTHON, &ZYGOTE] {
        let (sandbox, connection) = fixture.run(image, "index.py", code).await;
        assert_eq!(call(&connection, "1").await, Ok(json!([8, libc::EMFILE, 1024])));
        kept.push(sandbox);
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn buffers_of_sockets_are_within_the_memory_limit() {
    let fixture = Fixture::new().await;
    let limits = SandboxLimits { memory_mib: 128, ..LIMITS };
    let sandbox = fixture.create(&PYTHON).await;
    let code = "import socket\n\
                def handler(event, context):\n    \
                    listener, pairs, total = socket.create_server(('127.0.0.1', 0), backlog=9), [], 0\n    \
                    for _ in range(200):\n        \
                        ours = socket.create_connection(listener.getsockname())\n        \
                        ours.setblocking(False)\n        \
                        pairs.append((ours, listener.accept()[0]))\n        \
                        try:\n            \
                            while total < 300 << 20: total += ours.send(bytes(65536))\n        \
                        except BlockingIOError: pass\n    \
                    return total\n";
    fixture.assign_with(&sandbox, "index.py", code, limits).await.unwrap();
    let connection = sandbox.connect().await.unwrap();
    match call(&connection, "1").await {
        Ok(total) => assert!(total.as_u64().unwrap() < 128 << 20, "{total} bytes"),
        Err(_) => assert!(sandbox.exited().await.out_of_memory),
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_program_that_cannot_be_executed_says_so() {
    let fixture = Fixture::new().await;
    let mut image = impuls_sandbox::RuntimeImage::clone(&NODE);
    image.argv = vec!["/usr/bin/absent".into()];
    let error = fixture.try_create(&image.into(), LIMITS).await.err().unwrap();
    assert!(matches!(&error, SandboxError::Setup { step, .. } if step == "execute runtime"), "{error}");
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn nothing_is_left_of_many_sandboxes() {
    let fixture = Fixture::new().await;
    let round = async |count: usize| {
        for n in 0..count {
            let image = if n % 2 == 0 { &NODE } else { &ZYGOTE };
            let sandbox = fixture.create(image).await;
            match n % 3 {
                0 => sandbox.destroy().await.unwrap(),
                _ => drop(sandbox),
            }
        }
    };
    let live = fixture.create(&NODE).await;
    assert!(groups() > 1 && sockets(fixture.folder.path()) == 1);
    live.destroy().await.unwrap();
    round(4).await;
    let spawner = eventually(|| spawner_of(std::process::id())).await;
    let state = || {
        (
            count_fds("self"),
            count_fds(&spawner.to_string()),
            mounts(spawner),
            groups(),
            sockets(fixture.folder.path()),
        )
    };
    // The last of those that were only dropped may take a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = state();
    round(50).await;
    eventually(|| (state() == before).then_some(())).await;
    fixture.driver.shutdown().await;
    assert_eq!(groups(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_dead_spawner_is_replaced_and_its_sandboxes_are_gone() {
    let fixture = Fixture::new().await;
    let (sandbox, connection) = fixture.run(&NODE, "index.js", ECHO).await;
    let spawner = spawner_of(std::process::id()).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(spawner).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(sandbox.exited().await.signal, Some(9));
    assert!(call(&connection, "1").await.is_err());
    sandbox.destroy().await.unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let next = loop {
        match fixture.try_create(&NODE, LIMITS).await {
            Ok(sandbox) => break sandbox,
            Err(error) => assert!(error.is_retryable() && Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    fixture.assign(&next, "index.js", ECHO).await.unwrap();
    assert_eq!(call(&next.connect().await.unwrap(), "3").await, Ok(json!(3)));
    fixture.driver.shutdown().await;
}

/// Stops the spawner time and again until a process 1 waits for its word, and kills it then; what it had started.
fn killed_between_clone_and_word(spawner: u32) -> Vec<u32> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(spawner).unwrap()).unwrap();
    let send = |signal| rustix::process::kill_process(pid, signal).unwrap();
    let stopped = || {
        fs::read_to_string(format!("/proc/{spawner}/stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" T"))
    };
    let waits = |child: &u32| fs::read(format!("/proc/{child}/uid_map")).is_ok_and(|map| map.is_empty());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        send(rustix::process::Signal::STOP);
        while !stopped() {
            std::thread::yield_now();
        }
        let found = children(spawner);
        if found.iter().any(waits) {
            send(rustix::process::Signal::KILL);
            return found;
        }
        send(rustix::process::Signal::CONT);
        assert!(Instant::now() < until, "no process 1 was met while it waited");
        std::thread::park_timeout(Duration::from_micros(300));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "needs root"]
async fn a_spawner_that_dies_between_clone_and_word_leaves_nobody_waiting() {
    let fixture = Fixture::new().await;
    drop(fixture.create(&NODE).await);
    let spawner = spawner_of(std::process::id()).unwrap();
    let killed = AtomicBool::new(false);
    let creating = async || {
        while !killed.load(Ordering::SeqCst) {
            drop(fixture.try_create(&NODE, LIMITS).await);
        }
    };
    let killing = async {
        let old = tokio::task::spawn_blocking(move || killed_between_clone_and_word(spawner)).await.unwrap();
        killed.store(true, Ordering::SeqCst);
        old
    };
    let ((), (), old) = tokio::join!(creating(), creating(), killing);
    let of_the_old = |pid: &&u32| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
    };
    eventually(|| (old.iter().filter(of_the_old).count() == 0).then_some(())).await;
    eventually(|| (groups() == 0 && sockets(fixture.folder.path()) == 0).then_some(())).await;
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(error) = fixture.try_create(&NODE, LIMITS).await {
        assert!(error.is_retryable() && Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn without_a_zygote_processes_are_executed() {
    let fixture = Fixture::new().await;
    let mut image = impuls_sandbox::RuntimeImage::clone(&PYTHON);
    image.start =
        impuls_sandbox::StartMethod::Zygote(vec!["/usr/bin/python3.11".into(), "/absent.py".into()]);
    let image = image.into();
    for _ in 0..3 {
        let code = "def handler(event, context):\n    return event\n";
        let (_sandbox, connection) = fixture.run(&image, "index.py", code).await;
        assert_eq!(call(&connection, "5").await, Ok(json!(5)));
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_dead_zygote_is_replaced() {
    let fixture = Fixture::new().await;
    let code = "import sys\ndef handler(event, context):\n    return 'ctypes' in sys.modules\n";
    let (_sandbox, connection) = fixture.run(&ZYGOTE, "index.py", code).await;
    assert_eq!(call(&connection, "1").await, Ok(json!(true)));
    let spawner = spawner_of(std::process::id()).unwrap();
    let is_zygote = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|text| text.contains("Uid:\t0\t") && text.contains("python"))
    };
    let zygote = children(spawner).into_iter().find(is_zygote).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(zygote).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually(|| children(spawner).into_iter().find(is_zygote).filter(|&next| next != zygote)).await;
    assert_eq!(call(&connection, "1").await, Ok(json!(true)));
    let (_sandbox, connection) = fixture.run(&ZYGOTE, "index.py", code).await;
    assert_eq!(call(&connection, "1").await, Ok(json!(true)));
    fixture.driver.shutdown().await;
}
