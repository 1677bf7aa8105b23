//! What ends early: the spawner, a zygote, a program that is not there; and that nothing is left.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use std::fs;
use std::time::{Duration, Instant};

use fixture::{
    Fixture, LIMITS, NODE, PYTHON, ZYGOTE, call, children, count_fds, eventually, groups, mounts, sockets,
    spawner_of,
};
use impuls_sandbox::SandboxError;
use serde_json::json;

const ECHO: &str = "exports.handler = async e => e";

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
