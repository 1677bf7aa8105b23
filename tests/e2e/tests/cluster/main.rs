//! Controllers and workers: processes of their own that share a database and a folder of code, or a bucket (`bucket`), while the
//! network between them breaks (`partition`) and their clocks differ (`clock`).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that does not find what it expects panics"
)]

mod bucket;
mod clock;
mod partition;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Reply, Server, Value, eventually, json, unique, within};
use impuls_testkit::{Postgres, PostgresOptions, SomeDatabase, certify, postgres};
use reqwest::Method;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// How long until the work of a worker that is gone is taken over: its lease of 20 seconds, a look at the store, and the work itself
/// on a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(60);
const TOKEN: &str = "a token that only tests know";
const ECHO: &str = "exports.handler = async (event) => event;";
/// Says which sandbox it is: workers have no names inside of them.
const WHO: &str = "const id = require('crypto').randomUUID(); exports.handler = async () => id;";

/// What the nodes of one cluster share.
struct Cluster {
    /// The database.
    url: String,
    _database: Option<SomeDatabase>,
    /// Where code is: the variables that say so, else a folder.
    code: Vec<(&'static str, String)>,
    shared: Data,
}

impl Cluster {
    async fn new() -> Self {
        let database = tokio::task::spawn_blocking(SomeDatabase::get).await.expect("PostgreSQL starts");
        let cluster = Self::on(database.url().to_owned());
        Self { _database: Some(database), ..cluster }
    }

    /// On a database that outlives it.
    fn on(url: String) -> Self {
        let shared = Data::new();
        std::fs::create_dir_all(shared.scratch().join("artifacts")).expect("a folder");
        Self { url, _database: None, code: Vec::new(), shared }
    }

    fn sql(&self, statement: &str) -> String {
        postgres::query(&self.url, statement)
    }

    /// A node of this machine on a data folder of its own.
    fn launch(&self, role: &str, data: &Data) -> Launch {
        self.launch_on(Launch::bare(data, program()), (role, Ipv4Addr::LOCALHOST), data)
    }

    /// A node that listens at an address, in the place of whatever starts the program.
    fn launch_on(&self, launch: Launch, (role, host): (&str, Ipv4Addr), data: &Data) -> Launch {
        let folder = data.folder();
        if !folder.exists() {
            std::fs::create_dir(&folder).expect("a data folder");
            if self.code.is_empty() {
                let artifacts = self.shared.scratch().join("artifacts");
                std::os::unix::fs::symlink(artifacts, folder.join("artifacts")).expect("a link");
            }
        }
        let launch =
            launch.arguments([role, "--listen", &format!("{host}:0"), "--data-dir"]).argument(folder);
        let launch = launch
            .variable("IMPULS_DB_CONN", &self.url)
            .variable("IMPULS_CLUSTER_TOKEN", TOKEN.replace(' ', "-"));
        self.code.iter().fold(launch, |launch, (name, value)| launch.variable(name, value))
    }

    async fn controller(&self) -> Arc<Server> {
        Arc::new(self.launch("controller", &Data::new()).start().await)
    }

    async fn worker(&self, name: &str) -> Server {
        self.worker_on(name, &Data::new()).await
    }

    async fn worker_on(&self, name: &str, data: &Data) -> Server {
        self.launch("worker", data).arguments(["--worker-id", name]).start().await
    }

    /// The workers that are heard of.
    fn workers(&self) -> Vec<String> {
        let statement = "SELECT id FROM impuls_nodes WHERE seen_at > clock_timestamp() - interval '6 seconds' \
                         AND about NOT LIKE '%\"draining\":true%' ORDER BY id";
        self.sql(statement).lines().map(str::to_owned).collect()
    }
}

/// Waits until a controller has seen so many workers: it tells their runtimes together, so this asks for sandboxes on all.
async fn answers(controller: &Server, name: &str) {
    let answered = async || (controller.invoke(name, &json!(1)).await.status == 200).then_some(());
    eventually(&format!("{name} answers"), SOON, answered).await;
}

async fn sandboxes(controller: &Server, name: &str) -> usize {
    let reply = controller.get(&format!("{}/sandboxes", path(name))).await.with_status(200).json();
    reply["items"].as_array().or_else(|| reply["sandboxes"].as_array()).map_or(0, Vec::len)
}

async fn submit(controller: &Server, name: &str, event: &Value) -> String {
    let reply = controller.post(&format!("{}/invocations", path(name)), event).await.with_status(202);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

async fn ended(controller: &Server, id: &str, time: Duration) -> Value {
    let path = format!("/api/v1/invocations/{id}?wait=20s");
    let look = async || {
        let found = controller.get(&path).await.with_status(200).json();
        found["completed_at"].is_string().then_some(found)
    };
    eventually("the invocation ends", time, look).await
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn what_one_controller_deploys_every_controller_calls() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.worker("one").await, cluster.worker("two").await);
    let (first, second) = (cluster.controller().await, cluster.controller().await);
    let runtimes = first.get("/api/v1/runtimes").await.with_status(200).json();
    assert!(runtimes["runtimes"].as_array().is_some_and(|all| all.len() > 2), "{runtimes}");
    let name = first.node(&format!("{ECHO} console.log('loaded');")).await;
    assert_eq!(first.call(&name, &json!({"a": [1]})).await, json!({"a": [1]}));
    answers(&second, &name).await;
    let reply = second.invoke(&name, &json!("x")).await;
    assert_eq!(reply.json()["body"], "x");
    first
        .update(&name, &json!({"code": "exports.handler = async () => { console.log('new'); return 2; };"}))
        .await;
    assert_eq!(first.call(&name, &json!(null)).await, json!(2));
    let switched = async || (second.invoke(&name, &json!(null)).await.json()["body"] == 2).then_some(());
    eventually("the other controller calls the new revision", SOON, switched).await;
    let old = format!("{}/invoke?qualifier=1", path(&name));
    assert_eq!(second.post(&old, &json!("old")).await.result(), json!("old"));
    assert!(sandboxes(&second, &name).await >= 1);
    // Whoever took the call has its record, and everybody reads it.
    let recorded = async || {
        let logs = second.get(&format!("{}/logs", path(&name))).await.with_status(200).json();
        (logs.to_string().contains("new") && logs.to_string().contains("loaded")).then_some(())
    };
    eventually("the calls are recorded", SOON, recorded).await;
    let (_, error) = first
        .broken(&json!({"runtime": "nodejs", "handler": "index.handler", "code": "exports.handler = (;"}))
        .await;
    assert!(error.to_string().contains("SyntaxError"), "{error}");
    let thrown = first.node("exports.handler = async () => { throw new TypeError('no'); };").await;
    let failure = second_after(&second, &thrown).await.failure(500, "FunctionError");
    assert!(failure.to_string().contains("TypeError"), "{failure}");
    first.post(FUNCTIONS, &json!({"name": unique("x"), "runtime": "cobol", "code": "x"})).await.problem(400);
    drop((first, second));
    for worker in [one, two] {
        assert!(worker.stop().await.success());
    }
    assert_eq!(cluster.workers(), Vec::<String>::new());
}

/// The reply of a controller that another one has told of the function.
async fn second_after(controller: &Server, name: &str) -> Reply {
    let known = async || {
        let reply = controller.invoke(name, &json!(null)).await;
        (reply.status != 404).then_some(reply)
    };
    eventually("the function is known", SOON, known).await
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn builds_commands_and_streams_go_through_a_worker() {
    let cluster = Cluster::new().await;
    let _worker = cluster.worker("one").await;
    let controller = cluster.controller().await;
    // A build in a sandbox of the worker, kept where both find it.
    let fields = json!({"name": unique("ts"), "runtime": "typescript", "handler": "index.handler",
        "code": "enum Colour { Red = 'r' }\nexport const handler = async (n: number) => [Colour.Red, n];"});
    let created = controller.post(FUNCTIONS, &fields).await.with_status(201).json();
    assert_eq!(created["status"], "active", "{created}");
    let name = created["name"].as_str().expect("a name");
    assert_eq!(controller.call(name, &json!(3)).await, json!(["r", 3]));
    let reply = controller.post("/api/v1/execute", &json!({"command": "echo out; exit 3"})).await;
    assert_eq!(reply.json()["exit_code"], 3, "{}", reply.text());
    // Large events and results.
    let large = "x".repeat(5 * 1024 * 1024);
    let echo = controller.node(ECHO).await;
    assert_eq!(controller.call(&echo, &json!(large)).await, json!(large));
    let too_late = controller
        .node_with(
            "exports.handler = () => new Promise(() => setInterval(() => {}, 1000));",
            &json!({"timeout_sec": 1}),
        )
        .await;
    let failure = controller.invoke(&too_late, &json!(1)).await.failure(504, "Timeout");
    assert!(failure.to_string().contains("within 1 seconds"), "{failure}");
    // Output that is heard before the end, and a body that is read while it arrives.
    let gated = "if (req.url === '/go') { held.forEach((go) => go()); res.end(); return; } \
                 if (req.url === '/echo') { req.pipe(res); return; } \
                 res.writeHead(201, { 'X-A': '1' }); res.write('one'); \
                 (globalThis.held ??= []).push(() => res.end('two'));";
    let code = format!("require('http').createServer((req, res) => {{ {gated} }}).listen(process.env.PORT);");
    let fields = json!({"contract": "http", "handler": "main", "concurrency": 4, "max_concurrency": 4});
    let program = controller.node_with(&code, &fields).await;
    let mut response =
        controller.request(Method::GET, &format!("/fn/{program}/x")).send().await.expect("a reply begins");
    assert_eq!((response.status().as_u16(), response.headers()["x-a"].as_bytes()), (201, &b"1"[..]));
    let mut next = async || {
        let piece = within("a piece comes", SOON, response.chunk()).await.expect("the reply goes on");
        piece.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    assert_eq!(next().await.as_deref(), Some("one"));
    controller.get(&format!("/fn/{program}/go")).await.with_status(200);
    assert_eq!(next().await.as_deref(), Some("two"));
    assert_eq!(next().await, None);
    let body = vec![b'y'; 3 * 1024 * 1024];
    let request = controller.request(Method::POST, &format!("/fn/{program}/echo")).body(body.clone());
    assert_eq!(controller.send(request).await.with_status(200).bytes, body);
    let streams = "exports.handler = awslambda.streamifyResponse(async (event, out) => { \
                   for (let i = 0; i < 7; i++) out.write(Buffer.alloc(1 << 20)); out.end(); });";
    let streams = controller.node(streams).await;
    assert_eq!(controller.get(&format!("/fn/{streams}")).await.with_status(200).bytes.len(), 7 << 20);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_functions_bound_holds_over_all_controllers() {
    let cluster = Cluster::new().await;
    let _workers = [cluster.worker("one").await, cluster.worker("two").await, cluster.worker("three").await];
    let (first, second) = (cluster.controller().await, cluster.controller().await);
    let code = "exports.handler = async () => { const from = Date.now(); \
                await new Promise((done) => setTimeout(done, 30)); return [from, Date.now()]; };";
    let name = first.node_with(code, &json!({"max_concurrency": 1, "timeout_sec": 60})).await;
    answers(&second, &name).await;
    let calls = [&first, &second].map(|controller| {
        let (controller, name) = (controller.clone(), name.clone());
        tokio::spawn(async move { controller.invoke_all(&name, vec![json!(1); 10]).await })
    });
    let mut spans = Vec::new();
    for replies in calls {
        for reply in replies.await.expect("calls do not panic") {
            let result = reply.result();
            spans.push((result[0].as_u64().expect("a time"), result[1].as_u64().expect("a time")));
        }
    }
    spans.sort_unstable();
    assert_eq!(spans.len(), 20);
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two calls ran at once: {spans:?}");
    }
    // One that has no bound may be anywhere, and everybody agrees where it is at home.
    let free = first.node(WHO).await;
    answers(&second, &free).await;
    assert_eq!(first.call(&free, &json!(1)).await, second.call(&free, &json!(1)).await);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_killed_worker_fails_its_calls_at_once_and_its_queue_is_taken_over() {
    let cluster = Cluster::new().await;
    let only = cluster.worker("one").await;
    let controller = cluster.controller().await;
    let hangs = "exports.handler = async (event) => { console.log('begun'); \
                 if (event.hang) await new Promise((done) => setTimeout(done, 1e8)); return event; };";
    let name = controller.node_with(hangs, &json!({"timeout_sec": 300})).await;
    assert_eq!(controller.call(&name, &json!({"a": 1})).await, json!({"a": 1}));
    let slow = "exports.handler = async (event) => { await new Promise((done) => setTimeout(done, event)); return 'done'; };";
    let queued = controller.node_with(slow, &json!({"timeout_sec": 100})).await;
    let id = submit(&controller, &queued, &json!(5_000)).await;
    let runs = async || {
        let found = controller.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
        (found["status"] == "running" && sandboxes(&controller, &queued).await > 0).then_some(())
    };
    eventually("the invocation runs", SOON, runs).await;
    let calling = tokio::spawn({
        let (controller, name) = (controller.clone(), name.clone());
        async move { controller.invoke(&name, &json!({"hang": true})).await }
    });
    let busy = async || (sandboxes(&controller, &name).await > 0 && cluster.load("one") >= 2).then_some(());
    eventually("the call runs", SOON, busy).await;
    only.kill().await;
    // Long before its timeout.
    let reply = within("the caller is told", SOON, calling).await.expect("it does not panic");
    let message = reply.problem(502);
    assert!(message.contains("may have run"), "{message}");
    let reply = controller.invoke(&name, &json!({})).await;
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    reply.problem(503);
    let _next = cluster.worker("two").await;
    answers(&controller, &name).await;
    let found = ended(&controller, &id, TAKEN_OVER).await;
    assert_eq!((&found["status"], &found["result"]), (&json!("succeeded"), &json!("done")), "{found}");
}

impl Cluster {
    /// How many calls a worker says it has.
    fn load(&self, id: &str) -> usize {
        let statement = format!("SELECT (about::json ->> 'load')::int FROM impuls_nodes WHERE id = '{id}'");
        self.sql(&statement).parse().unwrap_or_default()
    }
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn workers_are_replaced_one_by_one_and_no_call_is_dropped() {
    let cluster = Cluster::new().await;
    let folders = [Data::new(), Data::new()];
    let mut workers =
        vec![cluster.worker_on("one", &folders[0]).await, cluster.worker_on("two", &folders[1]).await];
    let controller = cluster.controller().await;
    let code = "exports.handler = async (event) => { await new Promise((done) => setTimeout(done, 5)); return event; };";
    let name = controller.node(code).await;
    let bound = controller.node_with(code, &json!({"max_concurrency": 3})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..6)
        .map(|number| {
            let (controller, stop) = (controller.clone(), stop.clone());
            let name = if number % 2 == 0 { name.clone() } else { bound.clone() };
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(controller.call(&name, &json!(calls)).await, json!(calls));
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut accepted = Vec::new();
    for (place, id) in ["one", "two"].into_iter().enumerate() {
        for number in 0..5 {
            accepted.push(submit(&controller, &name, &json!(number)).await);
        }
        let old = workers.remove(0);
        assert!(old.stop().await.success());
        workers.push(cluster.worker_on(id, &folders[place]).await);
        eventually("both are there", SOON, async || (cluster.workers() == ["one", "two"]).then_some(()))
            .await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no call fails") > 0);
    }
    for id in accepted {
        let found = ended(&controller, &id, TAKEN_OVER).await;
        assert_eq!(
            (&found["status"], &found["attempts"]),
            (&json!("succeeded"), &found["attempts"]),
            "{found}"
        );
    }
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn what_a_stopping_worker_cuts_off_costs_the_function_nothing() {
    let cluster = Cluster::new().await;
    let launch = cluster.launch("worker", &Data::new()).arguments(["--worker-id", "one"]);
    let stopping = launch.arguments(["--shutdown-timeout", "100ms"]).start().await;
    let _other = cluster.worker("two").await;
    let controller = cluster.controller().await;
    let code = "exports.handler = async () => { await new Promise((done) => setTimeout(done, 8000)); return 'done'; };";
    // So many that some are delivered by one worker and run by the other.
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push(controller.node_with(code, &json!({"timeout_sec": 60})).await);
    }
    let mut accepted = Vec::new();
    for name in &names {
        let path = format!("{}/invocations?max_retries=0", path(name));
        let reply = controller.post(&path, &json!(1)).await.with_status(202).json();
        accepted.push(reply["id"].as_str().expect("an id").to_owned());
    }
    let all_run = async || {
        for id in &accepted {
            let found = controller.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
            if found["status"] != "running" {
                return None;
            }
        }
        (cluster.load("one") > 0).then_some(())
    };
    eventually("all of them run", SOON, all_run).await;
    assert!(stopping.stop().await.success());
    for id in accepted {
        let found = ended(&controller, &id, TAKEN_OVER).await;
        assert_eq!((&found["status"], &found["result"]), (&json!("succeeded"), &json!("done")), "{found}");
    }
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn without_workers_there_is_a_clear_answer_until_one_joins() {
    let cluster = Cluster::new().await;
    let controller = cluster.controller().await;
    let fields =
        json!({"name": unique("early"), "runtime": "nodejs", "handler": "index.handler", "code": ECHO});
    let reply = controller.post(FUNCTIONS, &fields).await;
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    let message = reply.problem(503);
    assert!(message.contains("impuls worker"), "{message}");
    let worker = cluster.worker("one").await;
    let deployed = async || (controller.post(FUNCTIONS, &fields).await.status == 201).then_some(());
    eventually("it can be deployed", SOON, deployed).await;
    let name = fields["name"].as_str().expect("a name");
    assert_eq!(controller.call(name, &json!(1)).await, json!(1));
    assert!(worker.stop().await.success());
    let reply = controller.invoke(name, &json!(1)).await;
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    let message = reply.problem(503);
    assert!(message.contains("no worker"), "{message}");
    let nobody = async || {
        let reply = controller.put(&path(name), &json!({"code": format!("{ECHO} // later")})).await;
        let is_clear = reply.headers.contains_key("retry-after") && reply.text().contains("impuls worker");
        (reply.status == 503 && is_clear).then_some(())
    };
    eventually("an update is refused as clearly", SOON, nobody).await;
    // What is accepted meanwhile is kept.
    let id = submit(&controller, name, &json!("later")).await;
    let _worker = cluster.worker("two").await;
    let found = ended(&controller, &id, TAKEN_OVER).await;
    assert_eq!(found["result"], "later", "{found}");
    assert_eq!(controller.call(name, &json!(2)).await, json!(2));
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn without_the_database_calls_go_on() {
    let started = tokio::task::spawn_blocking(|| Postgres::start(PostgresOptions::default()));
    let mut postgres = started.await.expect("PostgreSQL starts");
    let cluster = Cluster::on(postgres.url(&postgres.database()));
    let worker = cluster.worker("one").await;
    let controller = cluster.controller().await;
    for node in [&worker, &*controller] {
        for text in ["a request failed", "invocation records are lost", "cannot store"] {
            node.expect_error(text);
        }
    }
    let name = controller.node(ECHO).await;
    assert_eq!(controller.call(&name, &json!(1)).await, json!(1));
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.kill();
        postgres
    });
    let mut postgres = postgres.await.expect("PostgreSQL is killed");
    for number in 0..20 {
        assert_eq!(controller.call(&name, &json!(number)).await, json!(number));
    }
    let resumed = tokio::task::spawn_blocking(move || {
        postgres.resume();
        postgres
    });
    let _postgres = resumed.await.expect("PostgreSQL starts again");
    eventually("the worker is heard of again", SOON, async || (cluster.workers() == ["one"]).then_some(()))
        .await;
    let again = async || {
        let fields =
            json!({"name": unique("late"), "runtime": "nodejs", "handler": "index.handler", "code": ECHO});
        (controller.post(FUNCTIONS, &fields).await.status == 201).then_some(())
    };
    eventually("functions can be deployed again", SOON, again).await;
    worker.signal(Signal::TERM);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn who_has_another_token_gets_nothing() {
    let cluster = Cluster::new().await;
    let worker = cluster.worker("one").await;
    let stranger = cluster.launch("controller", &Data::new());
    let stranger = stranger.variable("IMPULS_CLUSTER_TOKEN", "another-token-altogether").start().await;
    for text in ["refuses our cluster token", "cannot be reached"] {
        stranger.expect_error(text);
    }
    let fields = json!({"name": unique("no"), "runtime": "nodejs", "handler": "index.handler", "code": ECHO});
    let reply = stranger.post(FUNCTIONS, &fields).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(worker.log().contains("without the cluster token"), "{}", worker.log());
    for node in [&worker, &stranger] {
        assert!(
            !node.log().contains("another-token") && !node.log().contains("only-tests"),
            "{}",
            node.log()
        );
    }
    // Nor does who speaks something else.
    let reply = reqwest::Client::builder().no_proxy().build().expect("a client").get(worker.url("/v1/run"));
    assert!(reply.send().await.is_err());
}

#[tokio::test]
async fn what_a_node_lacks_is_said_before_it_starts() {
    let bare = |role: &str| {
        let data = Data::new();
        let launch = Launch::bare(&data, program()).arguments([role, "--data-dir"]).argument(data.folder());
        launch.variable("IMPULS_DB_CONN", "postgres://u:p@ss@127.0.0.1:1/x")
    };
    let listen = ["--listen", "127.0.0.1:0"];
    let refused = [
        (bare("worker").arguments(["--listen", "0.0.0.0:0"]), "give all controllers and workers the same"),
        (bare("worker").arguments(listen).arguments(["--cluster-token", "short"]), "at least 16"),
        (bare("worker").arguments(listen).arguments(["--worker-id", "a b"]), "--worker-id \"a b\""),
        (
            bare("worker").arguments(listen).arguments(["--advertise", "nowhere"]),
            "a host and a port are wanted",
        ),
        (bare("worker").arguments(listen).arguments(["--storage", "sqlite"]), "cannot be shared"),
        (bare("controller").arguments(["--listen", "0.0.0.0:0"]), "--insecure-no-auth"),
        (bare("controller").arguments(listen), "cannot reach PostgreSQL at 127.0.0.1:1"),
        (bare("worker").arguments(listen), "cannot reach PostgreSQL at 127.0.0.1:1"),
        (
            bare("controller").arguments(listen).variable("STORAGE_TYPE", "s3"),
            "--artifacts s3://bucket/prefix",
        ),
        (bare("worker").arguments(listen).variable("STORAGE_TYPE", "s3"), "--artifacts s3://bucket/prefix"),
    ];
    for (launch, text) in refused {
        let refused = launch.refused().await;
        assert_eq!(refused.code, Some(1), "{}", refused.message);
        let message = refused.message.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(message.contains(text), "{text}: {message}");
        assert!(!message.contains("p@ss"), "{message}");
    }
}

/// A node that shows the certificate that is in this folder.
fn certified(launch: Launch, folder: &Data) -> Launch {
    let file = |name| folder.scratch().join(name);
    launch
        .variable("IMPULS_CLUSTER_CA", file("authority.pem"))
        .variable("IMPULS_CLUSTER_CERT", file("server.pem"))
        .variable("IMPULS_CLUSTER_KEY", file("server.key"))
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn nodes_with_certificates_speak_to_nobody_else() {
    let cluster = Cluster::new().await;
    let (own, strange) = (Data::new(), Data::new());
    for folder in [&own, &strange] {
        certify(folder.scratch(), "IP:127.0.0.1");
    }
    let launch = cluster.launch("worker", &Data::new()).arguments(["--worker-id", "one"]);
    let worker = certified(launch, &own).start().await;
    let controller = certified(cluster.launch("controller", &Data::new()), &own).start().await;
    let name = controller.node(ECHO).await;
    assert_eq!(controller.call(&name, &json!({"a": 1})).await, json!({"a": 1}));
    let id = submit(&controller, &name, &json!(2)).await;
    assert_eq!(ended(&controller, &id, SOON).await["result"], json!(2));
    let without = cluster.launch("controller", &Data::new());
    let other = certified(cluster.launch("controller", &Data::new()), &strange);
    for (launch, why) in [(without, "wants TLS"), (other, "no TLS with")] {
        let stranger = launch.start().await;
        stranger.invoke(&name, &json!(1)).await.problem(503);
        assert!(stranger.log().contains(why), "{}", stranger.log());
    }
    // Without TLS nothing is answered but a TLS alert.
    let mut plain = tokio::net::TcpStream::connect(worker.address()).await.expect("it listens");
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it reads");
    let mut answer = Vec::new();
    within("it closes", SOON, plain.read_to_end(&mut answer)).await.expect("it answers");
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}
