//! Many calls at once, and sandboxes that come and go.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use impuls_e2e::functions::{marked, path};
use impuls_e2e::host::processes_with;
use impuls_e2e::{Raw, Server, Value, eventually, json, unique, within};

/// Calls that may wait for one function.
const QUEUE: usize = 1_000;

#[tokio::test]
async fn a_full_queue_throttles_and_says_when_to_try_again() {
    let server = Server::start().await;
    let code =
        "exports.handler = (event) => event ? new Promise((done) => setTimeout(done, 60000)) : 'free';";
    let name = server.node_with(code, &json!({"max_concurrency": 1, "timeout_sec": 60})).await;
    let mut callers = Vec::new();
    for _ in 0..QUEUE + 1 + 20 {
        let mut caller = Raw::open(&server).await;
        caller.invoke(&name, "true").await;
        callers.push(caller);
    }
    let mut answers = tokio::task::JoinSet::new();
    for mut caller in callers {
        answers.spawn(async move { caller.reply().await });
    }
    for _ in 0..20 {
        let answer =
            within("calls beyond the queue are answered", Duration::from_secs(10), answers.join_next()).await;
        let answer = answer.unwrap().unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 429") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    }
    let none = tokio::time::timeout(Duration::from_millis(300), answers.join_next()).await;
    assert!(none.is_err(), "a call in the queue was answered: {none:?}");
    drop(answers);
    let free =
        within("all permits are free again", Duration::from_secs(10), server.call(&name, &json!(false)))
            .await;
    assert_eq!(free, "free");
}

#[tokio::test]
async fn a_call_that_waits_until_its_deadline_is_throttled() {
    let server = Server::shared().await;
    let name = server
        .node_with(
            "exports.handler = () => new Promise(() => {});",
            &json!({"max_concurrency": 1, "timeout_sec": 1}),
        )
        .await;
    let replies = server.invoke_all(&name, vec![Value::Null; 8]).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses.first(), statuses.last()), (Some(&429), Some(&504)), "{statuses:?}");
    assert!(statuses.iter().all(|status| [429, 504].contains(status)), "{statuses:?}");
    let throttled = replies.into_iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(throttled.header("retry-after"), "1");
    throttled.problem(429);
}

#[tokio::test]
async fn reserved_concurrency_is_never_exceeded() {
    let server = Server::shared().await;
    let code = "exports.handler = async () => { const begun = Date.now();
        await new Promise((done) => setTimeout(done, 150)); return [begun, Date.now()]; };";
    let name = server.node_with(code, &json!({"max_concurrency": 2})).await;
    let replies = server.invoke_all(&name, vec![Value::Null; 8]).await;
    let spans: Vec<(i64, i64)> = replies
        .into_iter()
        .map(|reply| reply.result())
        .map(|span| (span[0].as_i64().unwrap(), span[1].as_i64().unwrap()))
        .collect();
    for (begun, _) in &spans {
        let running = spans.iter().filter(|(from, to)| from < begun && begun < to).count();
        assert!(running <= 2, "{spans:?}");
    }
}

const BARRIER_NODE: &str = "
    const { randomUUID } = require('crypto'); const sandbox = randomUUID(); let here = 0; const waiting = [];
    exports.handler = async (event) => {
        process.stdout.write(`${event.id} begins\\n`);
        if (++here === event.of) waiting.forEach((go) => go()); else await new Promise((go) => waiting.push(go));
        process.stdout.write(`${event.id} goes on\\n`);
        await new Promise((done) => setTimeout(done, 5));
        process.stdout.write(`${event.id} ends\\n`);
        return sandbox; };";

const BARRIER_PYTHON_ASYNC: &str = "
import asyncio, uuid
sandbox = str(uuid.uuid4())
here = 0
everybody = asyncio.Event()

async def handler(event, context):
    global here
    print(event['id'], 'begins')
    here += 1
    if here == event['of']:
        everybody.set()
    await everybody.wait()
    print(event['id'], 'goes on')
    await asyncio.sleep(0.005)
    print(event['id'], 'ends')
    return sandbox
";

const BARRIER_PYTHON_THREADS: &str = "
import threading, uuid
sandbox = str(uuid.uuid4())
barrier = None
lock = threading.Lock()

def handler(event, context):
    global barrier
    with lock:
        barrier = barrier or threading.Barrier(event['of'])
    print(event['id'], 'begins')
    barrier.wait()
    print(event['id'], 'goes on')
    print(event['id'], 'ends')
    return sandbox
";

#[tokio::test]
async fn slots_of_one_sandbox_run_at_once_and_keep_their_logs_apart() {
    let server = Server::shared().await;
    let fields = json!({"concurrency": 10, "timeout_sec": 10});
    let functions = [
        server.node_with(BARRIER_NODE, &fields).await,
        server.python_with(BARRIER_PYTHON_ASYNC, &fields).await,
        server.python_with(BARRIER_PYTHON_THREADS, &fields).await,
    ];
    for name in functions {
        let events = (0..10).map(|id| json!({"id": format!("<{id}>"), "of": 10})).collect();
        let replies = server.invoke_all(&name, events).await;
        let mut sandboxes = HashSet::new();
        for (id, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply.logs(), format!("<{id}> begins\n<{id}> goes on\n<{id}> ends"));
            sandboxes.insert(reply.result().to_string());
        }
        assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
    }
}

#[tokio::test]
async fn a_hundred_first_calls_share_one_cold_start() {
    let server = Server::start().await;
    let code = "const sandbox = require('crypto').randomUUID();
        exports.handler = async () => { await new Promise((done) => setTimeout(done, 50)); return sandbox; };";
    let name = server.node_with(code, &json!({"concurrency": 100})).await;
    let replies = server.invoke_all(&name, vec![Value::Null; 100]).await;
    let sandboxes: BTreeSet<String> = replies.into_iter().map(|reply| reply.result().to_string()).collect();
    assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
}

#[tokio::test]
async fn without_slots_to_share_every_call_at_once_has_its_own_sandbox() {
    let server = Server::start().await;
    let code = "const sandbox = require('crypto').randomUUID();
        exports.handler = async () => { await new Promise((done) => setTimeout(done, 1000)); return sandbox; };";
    let name = server.node(code).await;
    let replies = server.invoke_all(&name, vec![Value::Null; 8]).await;
    let sandboxes: BTreeSet<String> = replies.into_iter().map(|reply| reply.result().to_string()).collect();
    assert_eq!(sandboxes.len(), 8, "{sandboxes:?}");
}

#[tokio::test]
async fn min_warm_sandboxes_are_there_before_the_first_call() {
    let server = Server::shared().await;
    let mark = unique("warm");
    let code = format!("process.title = '{mark}'; exports.handler = () => 1;");
    let name = server.node_with(&code, &json!({"min_warm": 2, "idle_timeout_sec": 1})).await;
    let both = async || (processes_with(&mark).len() == 2).then_some(());
    eventually("two sandboxes are warm", Duration::from_secs(10), both).await;
    assert_eq!(server.call(&name, &Value::Null).await, 1);
    for _ in 0..2 {
        wait_for_a_reaping(&server).await;
    }
    assert_eq!(processes_with(&mark).len(), 2, "they are kept however long they are unused");
    server.update(&name, &json!({"min_warm": 0})).await;
    let none = async || processes_with(&mark).is_empty().then_some(());
    eventually("they go when they are no longer wanted", Duration::from_secs(10), none).await;
}

/// Waits until another function's sandbox has been reaped after a second without a call.
async fn wait_for_a_reaping(server: &Server) {
    let mark = unique("reaped");
    let code = marked(&mark, "return 1;");
    let name = server.node_with(&code, &json!({"idle_timeout_sec": 1})).await;
    server.call(&name, &Value::Null).await;
    let gone = async || processes_with(&mark).is_empty().then_some(());
    eventually("the other sandbox is reaped", Duration::from_secs(6), gone).await;
}

#[tokio::test]
async fn an_unused_sandbox_is_reaped_after_its_idle_timeout() {
    let server = Server::shared().await;
    let mark = unique("idle");
    let code =
        format!("let calls = 0; exports.handler = () => {{ process.title = '{mark}'; return ++calls; }};");
    let name = server.node_with(&code, &json!({"idle_timeout_sec": 1})).await;
    assert_eq!(server.call(&name, &Value::Null).await, 1);
    assert_eq!(server.call(&name, &Value::Null).await, 2);
    assert_eq!(processes_with(&mark).len(), 1);
    let gone = async || processes_with(&mark).is_empty().then_some(());
    eventually("the sandbox is gone", Duration::from_secs(6), gone).await;
    assert_eq!(server.call(&name, &Value::Null).await, 1);
}

#[tokio::test]
async fn the_check_at_deploy_keeps_no_sandbox() {
    let server = Server::shared().await;
    let mark = unique("check");
    server.node(&format!("process.title = '{mark}'; exports.handler = () => 1;")).await;
    let gone = async || processes_with(&mark).is_empty().then_some(());
    eventually("the sandbox of the check is gone", Duration::from_secs(5), gone).await;
}

#[tokio::test]
async fn deploys_lose_no_call_and_end_on_the_newest_version() {
    let server = Server::shared().await;
    let code = |version: usize| format!("exports.handler = () => {version};");
    let name = server.node(&code(1)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (server, name, stop) = (server.clone(), name.clone(), stop.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    seen.push(server.call(&name, &Value::Null).await.as_u64().unwrap());
                }
                seen
            })
        })
        .collect();
    for version in 2..=11 {
        server.update(&name, &json!({"code": code(version)})).await;
        assert_eq!(
            server.call(&name, &Value::Null).await,
            version,
            "a deploy is effective when it is answered"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let seen = caller.await.unwrap();
        assert!(seen.is_sorted(), "{seen:?}");
        assert!(seen.len() > 10 && seen.iter().collect::<HashSet<_>>().len() > 3, "{seen:?}");
    }
    assert_eq!(server.call(&name, &Value::Null).await, 11);
}

#[tokio::test]
async fn a_deploy_lets_calls_in_flight_finish_and_then_ends_the_old_sandbox() {
    let server = Server::shared().await;
    let mark = unique("old");
    let code = marked(&mark, "return new Promise((done) => setTimeout(done, 1500, 'old'));");
    let name = server.node(&code).await;
    let call = tokio::spawn({
        let (server, name) = (server.clone(), name.clone());
        async move { server.call(&name, &Value::Null).await }
    });
    let runs = async || (!processes_with(&mark).is_empty()).then_some(());
    eventually("the old version runs", Duration::from_secs(5), runs).await;
    server.update(&name, &json!({"code": "exports.handler = () => 'new';"})).await;
    assert_eq!(server.call(&name, &Value::Null).await, "new");
    assert_eq!(call.await.unwrap(), "old");
    let gone = async || processes_with(&mark).is_empty().then_some(());
    eventually("the old sandbox is gone", Duration::from_secs(5), gone).await;
}

#[tokio::test]
async fn a_deleted_function_lets_calls_in_flight_finish() {
    let server = Server::shared().await;
    let mark = unique("deleted");
    let code = marked(&mark, "return new Promise((done) => setTimeout(done, 1500, 'finished'));");
    let name = server.node(&code).await;
    let call = tokio::spawn({
        let (server, name) = (server.clone(), name.clone());
        async move { server.call(&name, &Value::Null).await }
    });
    let runs = async || (!processes_with(&mark).is_empty()).then_some(());
    eventually("the function runs", Duration::from_secs(5), runs).await;
    server.remove(&name).await;
    assert_eq!(call.await.unwrap(), "finished");
    let gone = async || processes_with(&mark).is_empty().then_some(());
    eventually("its sandbox is gone", Duration::from_secs(5), gone).await;
}

#[tokio::test]
async fn a_thousand_calls_in_flight_are_all_answered() {
    let server = Server::start().await;
    let code = "exports.handler = async (event) => { await new Promise((done) => setTimeout(done, 300)); return event; };";
    let name = server.node_with(code, &json!({"concurrency": 1000})).await;
    let replies = server.invoke_all(&name, (0..1_000).map(|n| json!(n)).collect()).await;
    for (n, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.result(), n);
    }
}

#[tokio::test]
async fn a_call_cancelled_by_its_caller_is_recorded_so() {
    let server = Server::shared().await;
    let mark = unique("cancelled");
    let code = marked(&mark, "return new Promise(() => {});");
    let name = server.node(&code).await;
    let mut caller = Raw::open(&server).await;
    caller.invoke(&name, "null").await;
    let runs = async || (!processes_with(&mark).is_empty()).then_some(());
    eventually("the function runs", Duration::from_secs(5), runs).await;
    drop(caller);
    let recorded = async || {
        let records =
            server.get(&format!("{}/logs?status=cancelled", path(&name))).await.with_status(200).json();
        (records["count"] == 1).then_some(())
    };
    eventually("the record is there", Duration::from_secs(5), recorded).await;
    let gone = async || processes_with(&mark).is_empty().then_some(());
    eventually("its sandbox is gone", Duration::from_secs(5), gone).await;
}
