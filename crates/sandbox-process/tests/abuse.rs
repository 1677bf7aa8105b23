//! Code that misbehaves: it ends, its neighbour does not notice, and nothing of it is left.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fixture::{Fixture, LIMITS, NODE, PYTHON, ZYGOTE, call, deadline, eventually};
use impuls_domain::LogLevel;
use impuls_sandbox::{InitFailure, SandboxError, SandboxLimits};
use serde_json::json;

const ECHO: &str = "exports.handler = async e => e";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_memory_bomb_runs_out_of_memory_and_its_neighbour_answers() {
    let fixture = Fixture::new().await;
    let (_neighbour, other) = fixture.run(&NODE, "index.js", ECHO).await;
    let code =
        "def handler(event, context):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n";
    for image in [&PYTHON, &ZYGOTE] {
        let (sandbox, connection) = fixture.run(image, "index.py", code).await;
        assert!(call(&connection, "1").await.is_err());
        let exit = sandbox.exited().await;
        assert_eq!((exit.signal, exit.out_of_memory), (Some(9), true));
        assert_eq!(call(&other, "5").await, Ok(json!(5)));
        sandbox.destroy().await.unwrap();
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_full_tmp_counts_as_memory() {
    let fixture = Fixture::new().await;
    let limits = SandboxLimits { memory_mib: 64, ..LIMITS };
    let sandbox = fixture.try_create(&PYTHON, limits).await.unwrap();
    let code =
        "def handler(event, context):\n    open('/tmp/x', 'wb').write(bytes(60 << 20))\n    return 1\n";
    fixture.assign_with(&sandbox, "index.py", code, limits).await.unwrap();
    let connection = sandbox.connect().await.unwrap();
    assert!(call(&connection, "1").await.is_err());
    assert!(sandbox.exited().await.out_of_memory);
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_fork_bomb_is_held_and_dies_with_its_sandbox() {
    let fixture = Fixture::new().await;
    let code = "import os, time\n\
                def handler(event, context):\n    \
                    made = 0\n    \
                    try:\n        \
                        while True:\n            \
                            if os.fork() == 0:\n                \
                                os.setsid()\n                \
                                while True: time.sleep(1)\n            \
                            made += 1\n    \
                    except OSError as error:\n        \
                        return made\n";
    for image in [&PYTHON, &ZYGOTE] {
        let (sandbox, connection) = fixture.run(image, "index.py", code).await;
        let made = call(&connection, "1").await.unwrap().as_u64().unwrap();
        assert!((40..64).contains(&made), "{made}");
        let marker = format!("{:032x}", sandbox.id().as_uuid().as_u128());
        assert!(members(&marker).len() > 40);
        sandbox.destroy().await.unwrap();
        assert_eq!(members(&marker), Vec::<u32>::new());
    }
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn an_endless_loop_dies_at_destroy_and_calls_in_flight_fail() {
    let fixture = Fixture::new().await;
    let (sandbox, connection) = fixture.run(&NODE, "index.js", "exports.handler = () => { for (;;); }").await;
    let waiting = tokio::spawn(async move { call(&connection, "1").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    sandbox.destroy().await.unwrap();
    assert!(waiting.await.unwrap().is_err());
    sandbox.destroy().await.unwrap();
    assert!(matches!(sandbox.connect().await, Err(SandboxError::Gone(_))));
    assert!(matches!(sandbox.assign(assignment(&fixture), deadline(5)).await, Err(_) | Ok(Err(_))));
    fixture.driver.shutdown().await;
}

fn assignment(fixture: &Fixture) -> impuls_sandbox::Assignment {
    impuls_sandbox::Assignment {
        code: fixture.folder.path().to_owned(),
        limits: LIMITS,
        network: impuls_domain::NetworkPolicy::Off,
        init: fixture::init("index.handler", LIMITS),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_flood_of_output_blocks_nobody_and_is_bounded() {
    let fixture = Fixture::new().await;
    let code = "import os\n\
                def handler(event, context):\n    \
                    for _ in range(1600): os.write(1, b'x' * 65536)\n    \
                    os.write(2, b'last\\n')\n    \
                    return 1\n";
    let (_sandbox, connection) = fixture.run(&PYTHON, "index.py", code).await;
    let reply = fixture::reply(&connection, "1").await;
    assert_eq!(reply.result.unwrap(), "1");
    let kept: usize = reply.logs.lines().iter().map(|line| line.text.len()).sum();
    assert!(kept <= 1 << 20, "{kept}");
    let told = reply.logs.dropped_bytes() > 0
        || reply.logs.lines().iter().any(|line| line.text.contains("bytes of output dropped"));
    assert!(told);
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn output_of_child_processes_is_there_when_the_handler_returns() {
    let fixture = Fixture::new().await;
    let code = "exports.handler = async () => require('child_process').execFileSync(process.execPath, ['-e', 'console.log(7); console.error(8)'], { stdio: ['ignore', 1, 2] })";
    let (_sandbox, connection) = fixture.run(&NODE, "index.js", code).await;
    let reply = fixture::reply(&connection, "1").await;
    let lines: Vec<(LogLevel, &str)> =
        reply.logs.lines().iter().map(|line| (line.level, line.text.as_str())).collect();
    assert_eq!(lines, [(LogLevel::Stdout, "7"), (LogLevel::Stderr, "8")]);
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_top_level_that_ends_or_never_ends_is_reported() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.create(&NODE).await;
    match fixture.assign(&sandbox, "index.js", "process.exit(3)").await {
        Err(InitFailure::Exited(exit)) => assert_eq!(exit.code, Some(3)),
        other => panic!("{other:?}"),
    }
    let sandbox = fixture.create(&NODE).await;
    fs::write(fixture.folder.path().join("index.js"), "for (;;);").unwrap();
    let report = sandbox.assign(assignment(&fixture), deadline(1)).await.unwrap();
    assert_eq!(report, Err(InitFailure::DeadlineExceeded));
    sandbox.destroy().await.unwrap();
    fixture.driver.shutdown().await;
}

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
async fn a_spinner_gets_its_share_of_a_core() {
    let fixture = Fixture::new().await;
    let limits = SandboxLimits { milli_vcpu: 500, ..LIMITS };
    let sandbox = fixture.create(&NODE).await;
    let code = "exports.handler = ms => { const end = Date.now() + ms; while (Date.now() < end); return 1 }";
    fixture.assign_with(&sandbox, "index.js", code, limits).await.unwrap();
    let connection = sandbox.connect().await.unwrap();
    let before = sandbox.usage().unwrap().cpu;
    call(&connection, "2000").await.unwrap();
    let used = sandbox.usage().unwrap().cpu - before;
    assert!((Duration::from_millis(600)..Duration::from_millis(1_300)).contains(&used), "{used:?}");
    fixture.driver.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_runtime_that_cannot_start_says_why() {
    let fixture = Fixture::new().await;
    let mut image = impuls_sandbox::RuntimeImage::clone(&NODE);
    image.argv = vec!["/usr/bin/node".into(), "/opt/impuls/node/absent.js".into()];
    let error = fixture.try_create(&image.into(), LIMITS).await.err().unwrap();
    assert!(matches!(&error, SandboxError::DiedInSetup(text) if text.contains("absent.js")), "{error}");
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
    assert!(groups() > 1 && sockets(&fixture) == 1);
    live.destroy().await.unwrap();
    round(4).await;
    let spawner = eventually(|| spawner_of(std::process::id())).await;
    let state =
        || (count_fds("self"), count_fds(&spawner.to_string()), mounts(spawner), groups(), sockets(&fixture));
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
async fn creating_that_is_given_up_leaves_nothing() {
    let fixture = Fixture::new().await;
    drop(fixture.create(&NODE).await);
    for millis in [0, 1, 3, 10, 20] {
        let given_up = tokio::time::timeout(Duration::from_millis(millis), fixture.create(&NODE)).await;
        drop(given_up);
    }
    eventually(|| (groups() == 0 && sockets(&fixture) == 0).then_some(())).await;
    fixture.driver.shutdown().await;
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
    eventually(|| (groups() == 0 && sockets(&fixture) == 0).then_some(())).await;
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

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|task| {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        })
        .collect()
}

/// The spawner whose server has this pid; tests of this program run one at a time.
fn spawner_of(pid: u32) -> Option<u32> {
    children(pid).into_iter().find(|child| {
        fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.starts_with(b"impuls-spawner"))
    })
}

fn count_fds(pid: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn mounts(pid: u32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap().lines().count()
}

/// Folders of sandboxes of this process in all cgroup hierarchies.
fn groups() -> usize {
    bases()
        .iter()
        .flat_map(|base| fs::read_dir(base).into_iter().flatten().flatten())
        .filter(|e| e.path().is_dir())
        .count()
}

fn bases() -> Vec<PathBuf> {
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

fn sockets(fixture: &Fixture) -> usize {
    let run = fixture.folder.path().join("run");
    let folders = fs::read_dir(run).unwrap().flatten();
    folders
        .flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten())
        .filter(|e| e.path().extension().is_some_and(|x| x == "sock"))
        .count()
}

/// Processes in the cgroups of a sandbox.
fn members(name: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(name)))
        .collect()
}
