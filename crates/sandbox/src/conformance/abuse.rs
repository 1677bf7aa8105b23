//! Code that misbehaves: it ends, its neighbour does not notice, and nothing of it is left.

use std::time::Duration;

use super::fixture::{LIMITS, Stage, call, deadline, eventually, reply, run, run_with, try_reply};
use crate::{Connection, SandboxLimits};

const ECHO: &str = "def handler(event, context):\n    return event\n";

async fn answers(neighbour: &Connection) {
    assert_eq!(call(neighbour, "5").await, Ok(serde_json::json!(5)));
}

/// With its deadline passed, its sandbox is destroyed and nothing is left.
pub async fn an_endless_loop_ends_at_destroy(stage: &impl Stage) {
    let (_neighbour, other) = run(stage, ECHO).await;
    let before = stage.leftovers();
    let (sandbox, connection) = run(stage, "def handler(event, context):\n    while True: pass\n").await;
    assert!(matches!(try_reply(&connection, "1", deadline(1)).await, Some(Err(_))));
    sandbox.destroy().await.expect("it goes");
    assert_eq!(stage.leftovers(), before);
    answers(&other).await;
}

/// The whole sandbox ends, and says why.
pub async fn a_memory_bomb_is_out_of_memory(stage: &impl Stage) {
    let (_neighbour, other) = run(stage, ECHO).await;
    let code =
        "def handler(event, context):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n";
    let (sandbox, connection) = run(stage, code).await;
    assert!(call(&connection, "1").await.is_err());
    let exit = sandbox.exited().await;
    assert_eq!((exit.signal, exit.out_of_memory), (Some(9), true));
    answers(&other).await;
    sandbox.destroy().await.expect("it goes");
}

/// So that they cannot be a way round the limit.
pub async fn files_in_tmp_count_as_memory(stage: &impl Stage) {
    let limits = SandboxLimits { memory_mib: 64, ..LIMITS };
    let code = "def handler(event, context):\n    kept = b'x' * (30 << 20)\n    open('/tmp/x', 'wb').write(bytes(60 << 20))\n    return len(kept)\n";
    let (sandbox, connection) = run_with(stage, code, limits).await;
    assert!(call(&connection, "1").await.is_err());
    assert!(sandbox.exited().await.out_of_memory);
    sandbox.destroy().await.expect("it goes");
}

/// A file that does not fit is refused, and the rest goes on.
pub async fn tmp_has_a_bound(stage: &impl Stage) {
    let code = "import errno\n\
                def handler(event, context):\n    \
                    try:\n        \
                        with open('/tmp/big', 'wb') as file:\n            \
                            for _ in range(event): file.write(bytes(1 << 20))\n    \
                    except OSError as error:\n        \
                        return errno.errorcode[error.errno]\n";
    let limits = SandboxLimits { memory_mib: 512, ..LIMITS };
    let (_sandbox, connection) = run_with(stage, code, limits).await;
    let too_much = stage.python().tmp_mib + 8;
    assert_eq!(call(&connection, &too_much.to_string()).await, Ok(serde_json::json!("ENOSPC")));
}

/// Also processes that have left their session and their parent.
pub async fn a_fork_bomb_is_held_and_dies(stage: &impl Stage) {
    let (_neighbour, other) = run(stage, ECHO).await;
    let before = stage.leftovers();
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
    let (sandbox, connection) = run(stage, code).await;
    let made = call(&connection, "1").await.expect("a result").as_u64().expect("a number");
    assert!((32..64).contains(&made), "{made}");
    answers(&other).await;
    sandbox.destroy().await.expect("it goes");
    assert_eq!(stage.leftovers(), before);
}

/// Threads count as processes do.
pub async fn a_thread_bomb_is_held(stage: &impl Stage) {
    let code = "import threading, time\n\
                def handler(event, context):\n    \
                    made = 0\n    \
                    try:\n        \
                        while made < 1000:\n            \
                            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n            \
                            made += 1\n    \
                    except RuntimeError:\n        \
                        pass\n    \
                    return made\n";
    let (sandbox, connection) = run(stage, code).await;
    let made = call(&connection, "1").await.expect("a result").as_u64().expect("a number");
    assert!((32..64).contains(&made), "{made}");
    sandbox.destroy().await.expect("it goes");
}

/// Nobody waits for a reader, and what is dropped is counted.
pub async fn a_flood_of_output_is_bounded(stage: &impl Stage) {
    let code = "import os\n\
                def handler(event, context):\n    \
                    for _ in range(1600): os.write(1, b'x' * 65536)\n    \
                    os.write(2, b'last\\n')\n    \
                    return 1\n";
    let (_sandbox, connection) = run(stage, code).await;
    let reply = reply(&connection, "1").await;
    assert_eq!(reply.result.expect("a result"), "1");
    let kept: usize = reply.logs.lines().iter().map(|line| line.text.len()).sum();
    assert!(kept <= 1 << 20, "{kept}");
    let told = reply.logs.dropped_bytes() > 0
        || reply.logs.lines().iter().any(|line| line.text.contains("bytes of output dropped"));
    assert!(told);
}

/// However many threads it has: half a core is half a core.
pub async fn a_spinner_has_its_share_of_a_core(stage: &impl Stage) {
    let limits = SandboxLimits { milli_vcpu: 500, ..LIMITS };
    let code = "import time\n\
                def handler(event, context):\n    \
                    end = time.monotonic() + event\n    \
                    while time.monotonic() < end: pass\n";
    let (sandbox, connection) = run_with(stage, code, limits).await;
    let before = sandbox.usage().expect("this driver measures").cpu;
    call(&connection, "2").await.expect("a result");
    let used = sandbox.usage().expect("this driver measures").cpu.saturating_sub(before);
    assert!(used < Duration::from_millis(1_500), "{used:?}");
}

/// The sandbox's own limit on open files is met first, not the machine's.
pub async fn many_open_files_are_refused(stage: &impl Stage) {
    let code = "import errno\n\
                def handler(event, context):\n    \
                    kept = []\n    \
                    try:\n        \
                        while len(kept) < 100_000: kept.append(open('/dev/null'))\n    \
                    except OSError as error:\n        \
                        return [errno.errorcode[error.errno], len(kept) < 5_000]\n";
    let (sandbox, connection) = run(stage, code).await;
    assert_eq!(call(&connection, "1").await, Ok(serde_json::json!(["EMFILE", true])));
    let before = eventually(|| Some(stage.leftovers())).await;
    sandbox.destroy().await.expect("it goes");
    assert_ne!(stage.leftovers(), before);
}
