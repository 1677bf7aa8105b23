//! How a sandbox comes, works and goes.

use std::time::Duration;

use impuls_domain::LogLevel;

use super::fixture::{
    LIMITS, Stage, assign, assignment, call, create, deadline, eventually, reply, run, spec, try_create,
    try_reply,
};
use crate::{InitFailure, LossReason, RuntimeImage, SandboxError, StartMethod};

const ECHO: &str = "def handler(event, context):\n    return event\n";

/// From nothing to an answer and back to nothing.
pub async fn a_sandbox_answers_and_goes(stage: &impl Stage) {
    let (sandbox, connection) = run(stage, ECHO).await;
    assert_eq!(call(&connection, r#"{"a": [1, "ä"]}"#).await, Ok(serde_json::json!({"a": [1, "ä"]})));
    sandbox.destroy().await.expect("it goes");
    assert!(call(&connection, "1").await.is_err());
    assert_eq!(sandbox.exited().await.code, None);
}

/// Its top level runs once, and what it keeps is there for the next call.
pub async fn a_warm_sandbox_remembers(stage: &impl Stage) {
    let code = "seen = []\ndef handler(event, context):\n    seen.append(event)\n    return seen\n";
    let (_sandbox, connection) = run(stage, code).await;
    assert_eq!(call(&connection, "1").await, Ok(serde_json::json!([1])));
    assert_eq!(call(&connection, "2").await, Ok(serde_json::json!([1, 2])));
    let (_other, connection) = run(stage, code).await;
    assert_eq!(call(&connection, "3").await, Ok(serde_json::json!([3])));
}

/// Variables of the function, and nothing of the server's.
pub async fn code_is_told_its_environment(stage: &impl Stage) {
    let sandbox = create(stage).await;
    let code = "import os\ndef handler(event, context):\n    return dict(os.environ)\n";
    let mut assignment = assignment(stage, sandbox.as_ref(), code, LIMITS);
    assignment.init.environment.insert("COLOUR".into(), "blue and\ngreen".into());
    assert_eq!(sandbox.assign(assignment, deadline(60)).await.expect("the code is taken"), Ok(()));
    let seen = call(&sandbox.connect().await.expect("it is alive"), "1").await.expect("a result");
    assert_eq!(seen["COLOUR"], "blue and\ngreen");
    assert_eq!(seen.get("CARGO_MANIFEST_DIR"), None);
}

/// An exception is a reply, and the sandbox lives on.
pub async fn a_failing_handler_is_a_reply(stage: &impl Stage) {
    let code = "def handler(event, context):\n    return 1 / event\n";
    let (_sandbox, connection) = run(stage, code).await;
    let failure = call(&connection, "0").await.expect_err("a failure");
    assert!(failure.contains("ZeroDivisionError"), "{failure}");
    assert_eq!(call(&connection, "1").await, Ok(serde_json::json!(1.0)));
}

/// The process's own exit code.
pub async fn an_exit_code_survives(stage: &impl Stage) {
    let code = "import os\ndef handler(event, context):\n    os._exit(event)\n";
    let (sandbox, connection) = run(stage, code).await;
    assert!(call(&connection, "42").await.is_err());
    let exit = sandbox.exited().await;
    assert_eq!((exit.code, exit.signal, exit.out_of_memory), (Some(42), None, false));
    sandbox.destroy().await.expect("it goes");
}

/// The signal that ended the process, told from an exit code.
pub async fn a_signal_survives(stage: &impl Stage) {
    let code = "import os\ndef handler(event, context):\n    os.abort()\n";
    let (sandbox, connection) = run(stage, code).await;
    assert!(call(&connection, "1").await.is_err());
    let exit = sandbox.exited().await;
    assert_eq!((exit.code, exit.signal, exit.out_of_memory), (None, Some(6), false));
    sandbox.destroy().await.expect("it goes");
}

/// Processes without a parent end without a trace, and the sandbox goes on.
pub async fn an_orphan_is_not_the_sandboxs_end(stage: &impl Stage) {
    let code = "import os\n\
                def handler(event, context):\n    \
                    for _ in range(100):\n        \
                        child = os.fork()\n        \
                        if child == 0:\n            \
                            if os.fork() == 0: os._exit(0)\n            \
                            os._exit(0)\n        \
                        os.waitpid(child, 0)\n    \
                    return 'done'\n";
    let (_sandbox, connection) = run(stage, code).await;
    // More of them in all than there may be processes at once.
    for _ in 0..3 {
        assert_eq!(call(&connection, "1").await, Ok(serde_json::json!("done")));
    }
}

/// A syntax error is the function's own.
pub async fn code_that_cannot_be_loaded_is_reported(stage: &impl Stage) {
    let sandbox = create(stage).await;
    match assign(stage, sandbox.as_ref(), "def handler(:\n").await {
        Err(InitFailure::Reported(error)) => assert!(error.message.contains("syntax"), "{error:?}"),
        other => panic!("{other:?}"),
    }
    sandbox.destroy().await.expect("it goes");
}

/// With its exit code.
pub async fn a_top_level_that_ends_is_reported(stage: &impl Stage) {
    let sandbox = create(stage).await;
    match assign(stage, sandbox.as_ref(), "import os\nos._exit(3)\n").await {
        Err(InitFailure::Exited(exit)) => assert_eq!(exit.code, Some(3)),
        other => panic!("{other:?}"),
    }
    sandbox.destroy().await.expect("it goes");
}

/// At the deadline of the assignment.
pub async fn a_top_level_that_never_ends_is_cut_off(stage: &impl Stage) {
    let sandbox = create(stage).await;
    let assignment = assignment(stage, sandbox.as_ref(), "while True: pass\n", LIMITS);
    let report = sandbox.assign(assignment, deadline(1)).await.expect("the code is taken");
    assert_eq!(report, Err(InitFailure::DeadlineExceeded));
    sandbox.destroy().await.expect("it goes");
}

/// The error has the program's own words.
pub async fn a_runtime_that_cannot_start_says_why(stage: &impl Stage) {
    let before = stage.leftovers();
    let mut image = RuntimeImage { start: StartMethod::Exec, ..RuntimeImage::clone(&stage.python()) };
    if let Some(shim) = image.argv.last_mut() {
        "/opt/impuls/absent.py".clone_into(shim);
    }
    let error = try_create(stage, image.into(), LIMITS).await.err().expect("it does not start");
    assert!(
        matches!(&error, SandboxError::DiedInSetup(text) if text.contains("/opt/impuls/absent.py")),
        "{error}"
    );
    eventually(|| (stage.leftovers() == before).then_some(())).await;
}

/// One revision's code in a life.
pub async fn an_assigned_sandbox_takes_no_other_code(stage: &impl Stage) {
    let (sandbox, connection) = run(stage, ECHO).await;
    let second = stage.folder().join("second");
    std::fs::create_dir(&second).expect("the folder is made");
    std::fs::write(second.join("index.py"), "def handler(event, context): return 'second'\n")
        .expect("written");
    let again = crate::Assignment {
        code: second,
        limits: LIMITS,
        network: impuls_domain::NetworkPolicy::Off,
        init: super::fixture::init("index.handler", LIMITS),
    };
    assert!(!matches!(sandbox.assign(again, deadline(10)).await, Ok(Ok(()))));
    assert!(!matches!(call(&connection, "1").await, Ok(answer) if answer == "second"));
}

/// Repeatably.
pub async fn a_destroyed_sandbox_refuses_everything(stage: &impl Stage) {
    let sandbox = create(stage).await;
    sandbox.destroy().await.expect("it goes");
    sandbox.destroy().await.expect("it is gone");
    assert!(matches!(sandbox.connect().await, Err(SandboxError::Gone(_))));
    let late = assignment(stage, sandbox.as_ref(), ECHO, LIMITS);
    assert!(matches!(sandbox.assign(late, deadline(10)).await, Err(_) | Ok(Err(_))));
    assert_eq!(sandbox.exited().await.code, None);
}

/// None waits for ever.
pub async fn calls_in_flight_end_with_their_sandbox(stage: &impl Stage) {
    let code =
        "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(600)\n";
    let (sandbox, connection) = run(stage, code).await;
    let waiting = tokio::spawn(async move { call(&connection, "1").await });
    tokio::task::yield_now().await;
    sandbox.destroy().await.expect("it goes");
    assert!(waiting.await.expect("no panic").is_err());
}

/// And what it had written is there.
pub async fn a_call_past_its_deadline_is_lost(stage: &impl Stage) {
    let code =
        "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(600)\n";
    let (sandbox, connection) = run(stage, code).await;
    match try_reply(&connection, "1", deadline(1)).await {
        Some(Err(lost)) => {
            assert_eq!(lost.reason, LossReason::DeadlinePassed);
            assert_eq!(lost.logs.lines().first().map(|line| line.text.as_str()), Some("begun"));
        }
        other => panic!("{other:?}"),
    }
    sandbox.destroy().await.expect("it goes");
}

/// What processes below the handler write is there when it returns.
pub async fn both_outputs_of_children_are_there_and_apart(stage: &impl Stage) {
    let code = "import os\n\
                def handler(event, context):\n    \
                    child = os.fork()\n    \
                    if child == 0:\n        \
                        os.write(1, b'seven\\n')\n        \
                        os.write(2, b'eight\\n')\n        \
                        os._exit(0)\n    \
                    os.waitpid(child, 0)\n";
    let (_sandbox, connection) = run(stage, code).await;
    let reply = reply(&connection, "1").await;
    let lines: Vec<(LogLevel, &str)> =
        reply.logs.lines().iter().map(|line| (line.level, line.text.as_str())).collect();
    assert_eq!(lines, [(LogLevel::Stdout, "seven"), (LogLevel::Stderr, "eight")]);
}

/// What the top level writes belongs to no call.
pub async fn text_of_no_call_is_kept(stage: &impl Stage) {
    let (sandbox, connection) = run(stage, &format!("print('loaded', flush=True)\n{ECHO}")).await;
    assert_eq!(call(&connection, "1").await, Ok(serde_json::json!(1)));
    let logs = sandbox.take_loose_logs();
    assert_eq!(logs.lines().first().map(|line| line.text.as_str()), Some("loaded"));
    assert!(sandbox.take_loose_logs().lines().is_empty());
}

/// Processor and memory, also after the end.
pub async fn usage_is_measured(stage: &impl Stage) {
    let code = "kept = []\n\
                def handler(event, context):\n    \
                    kept.append(bytearray(b'x' * (64 << 20)))\n    \
                    return sum(range(10_000_000))\n";
    let (sandbox, connection) = run(stage, code).await;
    let before = sandbox.usage().expect("this driver measures");
    assert!(before.memory_bytes > 1 << 20, "{before:?}");
    call(&connection, "1").await.expect("a result");
    let after = sandbox.usage().expect("this driver measures");
    assert!(after.cpu > before.cpu + Duration::from_millis(20), "{before:?} {after:?}");
    assert!(after.memory_bytes > before.memory_bytes + (32 << 20), "{before:?} {after:?}");
    assert!(after.memory_peak_bytes >= 64 << 20, "{after:?}");
    sandbox.destroy().await.expect("it goes");
    assert!(sandbox.usage().is_some_and(|last| last.cpu >= after.cpu), "{:?}", sandbox.usage());
}

/// Neither files nor randomness.
pub async fn sandboxes_share_nothing(stage: &impl Stage) {
    let code = "import os, random, uuid\n\
                def handler(event, context):\n    \
                    found = os.listdir('/tmp') + os.listdir('/dev/shm')\n    \
                    for folder in ('/tmp', '/dev/shm'): open(folder + '/mine', 'w').close()\n    \
                    return [found, str(random.random()), os.urandom(8).hex(), uuid.uuid4().hex]\n";
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (sandbox, connection) = run(stage, code).await;
        seen.push((sandbox, call(&connection, "1").await.expect("a result")));
    }
    for (_, answer) in &seen {
        assert_eq!(answer[0], serde_json::json!([]));
    }
    for column in 1..4 {
        let mut values: Vec<&str> = seen.iter().filter_map(|(_, answer)| answer[column].as_str()).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), seen.len(), "column {column}");
    }
}

/// And nothing is begun.
pub async fn creating_past_the_deadline_is_refused(stage: &impl Stage) {
    let before = stage.leftovers();
    let late = stage.driver().create(spec(stage.python(), LIMITS), deadline(0)).await;
    assert!(matches!(late.as_ref().err(), Some(SandboxError::DeadlineExceeded)), "{:?}", late.err());
    eventually(|| (stage.leftovers() == before).then_some(())).await;
}

/// However far it had come.
pub async fn creating_that_is_given_up_leaves_nothing(stage: &impl Stage) {
    create(stage).await.destroy().await.expect("it goes");
    let before = eventually(|| Some(stage.leftovers())).await;
    for millis in [0, 1, 3, 10, 20, 50] {
        drop(tokio::time::timeout(Duration::from_millis(millis), create(stage)).await);
    }
    eventually(|| (stage.leftovers() == before).then_some(())).await;
}

/// Whether they are destroyed or only dropped.
pub async fn nothing_is_left_of_many_sandboxes(stage: &impl Stage) {
    create(stage).await.destroy().await.expect("it goes");
    let before = stage.leftovers();
    let live = create(stage).await;
    assert_ne!(stage.leftovers(), before);
    live.destroy().await.expect("it goes");
    assert_eq!(stage.leftovers(), before);
    for n in 0..10 {
        let sandbox = create(stage).await;
        match n % 3 {
            0 => sandbox.destroy().await.expect("it goes"),
            _ => drop(sandbox),
        }
    }
    eventually(|| (stage.leftovers() == before).then_some(())).await;
}
