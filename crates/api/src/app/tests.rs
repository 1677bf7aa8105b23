//! The router over the real embedded back ends, with a worker that never runs anything.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use impuls_artifacts::LocalArtifacts;
use impuls_control::{
    BuildLog, BuildUnavailable, Checked, FunctionSnapshot, Rollout, RuntimeRefusal, Stores,
};
use impuls_dispatch::{
    CommandPool, Config, Duplex, ExecuteRequest, Executed, Recorder, RecorderConfig, RunError, RunRequest,
    Target, Worker,
};
use impuls_domain::{
    Built, Caller, Contract, Deadline, FunctionId, FunctionName, Outcome, Revision, RuntimeName,
};
use impuls_store_sqlite::SqliteStore;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

struct Idle;

#[async_trait]
impl Worker for Idle {
    async fn run(&self, _: RunRequest, _: Option<Duplex>) -> Result<Outcome<Bytes>, RunError> {
        Err(RunError::NoSandboxInTime)
    }

    async fn execute(&self, _: ExecuteRequest) -> Result<Executed, RunError> {
        Err(RunError::NoSandboxInTime)
    }

    async fn prewarm_commands(&self, _: usize) -> CommandPool {
        CommandPool::default()
    }

    async fn command_pool(&self) -> CommandPool {
        CommandPool::default()
    }

    async fn sandboxes(&self) -> Vec<impuls_dispatch::LiveSandbox> {
        Vec::new()
    }

    async fn refusals(&self, _: impuls_domain::FunctionId) -> impuls_dispatch::Refusals {
        impuls_dispatch::Refusals::default()
    }

    async fn warm(&self, _: &Arc<Target>, _: usize, _: Deadline) -> usize {
        0
    }
}

#[async_trait]
impl Rollout for Idle {
    fn resolve_runtime(&self, name: &RuntimeName) -> Result<RuntimeName, RuntimeRefusal> {
        match name.as_str() {
            "nodejs" | "nodejs20" => Ok("nodejs20".parse().unwrap()),
            _ => Err(RuntimeRefusal::Unknown { name: name.clone(), known: vec!["nodejs20".into()] }),
        }
    }

    fn contracts(&self, _: &RuntimeName) -> &'static [Contract] {
        &[Contract::Module, Contract::Scoped]
    }

    fn source_file_names(&self, _: &Revision) -> Vec<String> {
        vec!["index.js".into()]
    }

    fn announce(&self, _: &FunctionName, _: Duration) -> Box<dyn Send> {
        Box::new(())
    }

    async fn build(&self, _: &FunctionName, _: &Revision, log: &BuildLog) -> Result<Built, BuildUnavailable> {
        log.write("building\n");
        Ok(Built::AsIs)
    }

    async fn check(&self, _: &FunctionName, _: &Revision) -> Checked {
        Checked::default()
    }

    async fn activate(&self, _: &FunctionSnapshot) {}

    async fn remove(&self, _: FunctionId) {}
}

struct Server {
    router: Router,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("metadata.db")).await.unwrap());
        let artifacts = Arc::new(LocalArtifacts::open(&folder.path().join("artifacts")).unwrap());
        let stores = Stores {
            functions: store.clone(),
            versions: store.clone(),
            invocations: store.clone(),
            queue: store.clone(),
            schedules: store.clone(),
            clock: store.clone(),
        };
        let control = Arc::new(Control::new(stores, artifacts, Arc::new(Idle)));
        let recorder = Recorder::new(RecorderConfig::default(), store.clone());
        let dispatch =
            Arc::new(Dispatch::new(Config::default(), Arc::new(Idle), store.clone(), store, recorder));
        Self { router: router(App::new(control, dispatch, Vec::new())), _folder: folder }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).extension(Caller::LocalUser);
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    /// The lines of a reply that tells what a build writes.
    async fn watch(&self, method: Method, path: &str, body: Value) -> Vec<Value> {
        let request = Request::builder().method(method).uri(path).extension(Caller::LocalUser);
        let request = request.header("accept", "application/x-ndjson").body(body.to_string().into());
        let answer = self.send(request.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["content-type"], "application/x-ndjson");
        answer
            .body
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    async fn create(&self, name: &str, code: &str) -> Answer {
        let body = json!({ "name": name, "runtime": "nodejs", "handler": "index.handler", "code": code });
        self.call(Method::POST, "/api/v1/functions", body.to_string()).await
    }
}

#[tokio::test]
async fn a_deploy_tells_what_its_build_writes_to_whoever_asks() {
    let server = Server::start().await;
    let body = json!({ "name": "f", "runtime": "nodejs", "handler": "index.handler", "code": "1" });
    let lines = server.watch(Method::POST, "/api/v1/functions", body.clone()).await;
    assert_eq!((&lines[0], &lines[1]["function"]["name"]), (&json!({"log": "building\n"}), &json!("f")));
    let lines = server.watch(Method::POST, "/api/v1/functions", body).await;
    assert_eq!(lines.last().unwrap()["problem"]["status"], 409);
    let lines = server.watch(Method::PUT, "/api/v1/functions/f", json!({ "code": "2" })).await;
    assert_eq!((lines.len(), &lines[1]["function"]["version"]), (2, &json!(2)));
}

#[tokio::test]
async fn a_function_is_created_read_changed_and_deleted() {
    let server = Server::start().await;
    let created = server.create("hello", "1").await;
    assert_eq!(created.status, StatusCode::CREATED);
    let function = created.json();
    let defaults = json!({
        "name": "hello", "runtime": "nodejs20", "handler": "index.handler", "code": "1", "memory_mb": 128,
        "timeout_sec": 30, "status": "active", "version": 1, "package": "source", "contract": "module",
        "concurrency": 1, "vcpu": 1.0, "idle_timeout_sec": 300, "min_warm": 0, "driver": "auto",
        "network": "off", "code_size": 1,
    });
    for (member, value) in defaults.as_object().unwrap() {
        assert_eq!(&function[member], value, "{member}");
    }
    let path = format!("/api/v1/functions/{}", function["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.json(), function, "an id is as good as a name");
    let changed =
        server.call(Method::PATCH, "/api/v1/functions/hello", r#"{"environment":{"A":"b"}}"#).await.json();
    assert_eq!((&changed["version"], &changed["environment"]["A"]), (&json!(2), &json!("b")));
    let deleted = server.call(Method::DELETE, "/api/v1/functions/hello", "").await;
    assert_eq!(deleted.json(), json!({ "message": "Function deleted successfully", "name": "hello" }));
    assert_eq!(server.get("/api/v1/functions/hello").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_element_of_the_list_can_be_posted_again() {
    let server = Server::start().await;
    let body = json!({
        "name": "a", "runtime": "nodejs", "handler": "x.y", "code": "1", "memory_mb": 256, "vcpu": 0.5,
        "description": "d", "environment": { "A": "b" }, "max_concurrency": 7, "contract": "scoped",
    });
    server.call(Method::POST, "/api/v1/functions", body.to_string()).await;
    let mut before = server.get("/api/v1/functions").await.json()["functions"][0].take();
    server.call(Method::DELETE, "/api/v1/functions/a", "").await;
    let again = server.call(Method::POST, "/api/v1/functions", before.to_string()).await;
    assert_eq!(again.status, StatusCode::CREATED);
    let mut after = again.json();
    for differs in ["id", "revision_id", "created_at", "updated_at"] {
        assert_ne!(before[differs].take(), after[differs].take(), "{differs}");
    }
    assert_eq!(before, after);
}

#[tokio::test]
async fn lists_have_pages_a_total_and_chosen_fields() {
    let server = Server::start().await;
    assert_eq!(server.get("/api/v1/functions").await.json(), json!({ "functions": [], "count": 0 }));
    for name in ["a", "b", "c"] {
        server.create(name, "1").await;
    }
    let first = server.get("/api/v1/functions?limit=2&fields=name").await.json();
    assert_eq!(first["functions"], json!([{ "name": "c" }, { "name": "b" }]));
    assert_eq!(first["count"], 3);
    let cursor = first["next_cursor"].as_str().unwrap();
    let last = server.get(&format!("/api/v1/functions?limit=2&fields=name&cursor={cursor}")).await.json();
    assert_eq!(last, json!({ "functions": [{ "name": "a" }], "count": 3 }));
    for bad in ["limit=0", "limit=x", "cursor=x", "fields=colour", "limit=1001"] {
        let refused = server.get(&format!("/api/v1/functions?{bad}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn every_member_can_be_chosen() {
    let server = Server::start().await;
    server.create("a", "1").await;
    let function = server.get("/api/v1/functions/a").await.json();
    for member in function.as_object().unwrap().keys() {
        assert!(crate::wire::function::MEMBERS.contains(&member.as_str()), "{member}");
    }
}

#[tokio::test]
async fn versions_aliases_and_rollback_work_together() {
    let server = Server::start().await;
    server.create("f", "1").await;
    let replaced = server.call(Method::PUT, "/api/v1/functions/f/code", "2").await.json();
    assert_eq!((&replaced["version"], &replaced["code"]), (&json!(2), &json!("2")));
    let body = r#"{"versions":[{"version":1,"weight":9},{"version":2}]}"#;
    let alias = server.call(Method::PUT, "/api/v1/functions/f/aliases/live", body).await.json();
    assert_eq!(alias["versions"], json!([{ "version": 1, "weight": 9 }, { "version": 2, "weight": 1 }]));
    let code = server.get("/api/v1/functions/f/code?qualifier=live").await;
    assert_eq!(code.body, "1");
    assert_eq!(code.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let back = server.call(Method::POST, "/api/v1/functions/f/rollback", "").await.json();
    assert_eq!((&back["version"], &back["code"]), (&json!(3), &json!("1")));
    let versions = server.get("/api/v1/functions/f/versions?limit=2").await.json();
    assert_eq!((&versions["versions"][0]["version"], &versions["next_cursor"]), (&json!(3), &json!("2")));
    let missing = server.get("/api/v1/functions/f/versions/9").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let gone = server.call(Method::DELETE, "/api/v1/functions/f/aliases/live", "").await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(server.get("/api/v1/functions/f/aliases").await.json(), json!({ "aliases": [], "count": 0 }));
}

#[tokio::test]
async fn refusals_are_problems_with_their_status() {
    let server = Server::start().await;
    server.create("f", "1").await;
    let cases = [
        (
            Method::POST,
            "/api/v1/functions",
            r#"{"name":"f","runtime":"nodejs","handler":"a.b","code":"x"}"#,
            409,
        ),
        (Method::POST, "/api/v1/functions", "{", 400),
        (Method::PUT, "/api/v1/functions/f", r#"{"runtime":"cobol"}"#, 400),
        (Method::PUT, "/api/v1/functions/f", r#"{"timeout_sec":99999}"#, 400),
        (Method::PUT, "/api/v1/functions/none", "{}", 404),
        (Method::GET, "/api/v1/functions/a%20b", "", 404),
        (Method::GET, "/api/v1/functions/%ff", "", 400),
        (Method::GET, "/api/v1/functions/f/code?qualifier=0", "", 400),
        (Method::GET, "/api/v1/functions/f/logs?status=odd", "", 400),
        (Method::POST, "/api/v1/functions/f/rollback", "", 409),
        (Method::PUT, "/api/v1/functions/f/aliases/live", r#"{"version":7}"#, 404),
        (Method::PUT, "/api/v1/functions/f/aliases/12", r#"{"version":1}"#, 400),
        (Method::GET, "/nowhere", "", 404),
    ];
    for (method, path, body, status) in cases {
        let answer = server.call(method, path, body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], crate::problem::PROBLEM_JSON, "{path}");
        assert_eq!(answer.json()["error"], true, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = Server::start().await;
    let cases = [
        ("/health", "GET,HEAD"),
        ("/health/live", "GET,HEAD"),
        ("/health/ready", "GET,HEAD"),
        ("/api/v1/functions", "GET,HEAD,POST"),
        ("/api/v1/functions/f/invoke", "POST"),
        ("/api/v1/functions/f/logs", "GET,HEAD"),
    ];
    for (path, allowed) in cases {
        let answer = server.call(Method::DELETE, path, "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers[header::ALLOW], allowed, "{path}");
        assert_eq!(answer.json()["type"], "urn:impuls:problem:method-not-allowed");
    }
}

#[tokio::test]
async fn without_a_caller_everything_but_health_is_denied() {
    let server = Server::start().await;
    let cases =
        [("/health", 200), ("/openapi.json", 200), ("/api/v1/runtimes", 500), ("/api/v1/functions", 500)];
    for (path, status) in cases {
        let answer = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn logs_of_a_function_that_never_ran_are_empty() {
    let server = Server::start().await;
    server.create("f", "1").await;
    let logs = server.get("/api/v1/functions/f/logs?status=failed&limit=5&offset=0").await;
    assert_eq!(logs.json(), json!({ "items": [], "count": 0 }));
    assert_eq!(server.get("/api/v1/functions/g/logs").await.status, StatusCode::NOT_FOUND);
}
