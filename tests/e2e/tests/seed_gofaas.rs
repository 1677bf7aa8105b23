//! What clients of the Go FaaS platform send: programs, and calls that are accepted now and looked up later.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use impuls_e2e::{Data, Launch, Network, Reply, Server, Value, commands, eventually, json, unique};
use reqwest::Method;

/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

const CREATE: &str = include_str!("../fixtures/seeds/gofaas-create-a-function.sh");
const INVOKE: &str = include_str!("../fixtures/seeds/gofaas-invoke-the-function.sh");

const PYTHON: &str = "import json, os, sys\n\
     event = json.load(sys.stdin)\n\
     assert json.loads(os.environ['FUNCTION_PAYLOAD']) == event\n\
     print(json.dumps([event, os.environ['FUNCTION_HANDLER'], json.loads(os.environ['FUNCTION_HEADERS']), os.environ.get('WORD')]))";

fn body(name: &str, runtime: &str, code: &str) -> Value {
    json!({
        "name": name, "version": "1.0.0", "runtime": runtime, "handler": "main", "code": STANDARD.encode(code),
        "timeout": "30s", "memory_mb": 128, "max_concurrency": 10, "environment": {}, "metadata": {},
    })
}

async fn create(server: &Server, body: &Value) -> Value {
    let reply = server.post("/functions", body).await.with_status(201).json();
    assert_eq!(reply["success"], true, "{reply}");
    reply["data"].clone()
}

fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| unreachable!("no id in {object}")).to_owned()
}

async fn submit(server: &Server, body: &Value) -> String {
    let reply = server.post("/invoke", body).await.with_status(202).json();
    assert_eq!((&reply["success"], &reply["data"]["status"]), (&json!(true), &json!("pending")), "{reply}");
    reply["data"]["invocation_id"].as_str().unwrap_or_default().to_owned()
}

async fn ended(server: &Server, id: &str) -> Value {
    let look = async || {
        let data = server.get(&format!("/invocations/{id}")).await.with_status(200).json()["data"].clone();
        let is_open = data["status"] == "pending" || data["status"] == "running";
        (!is_open).then_some(data)
    };
    eventually("the invocation ends", SOON, look).await
}

fn refused(reply: Reply, status: u16, code: &str) -> String {
    let body = reply.with_status(status).json();
    assert_eq!((&body["success"], &body["error"]["code"]), (&json!(false), &json!(code)), "{body}");
    body["error"].to_string()
}

#[tokio::test]
#[ignore = "needs root, ip, curl, go"]
async fn the_quick_start_works_as_it_is_printed() {
    let (network, data) = (Network::new(), Data::new());
    let _server = network.launch(&data).start().await;
    let created = network.paste(commands(CREATE)[0], &data, &[]).json();
    assert_eq!((&created["success"], &created["data"]["name"]), (&json!(true), &json!("hello")), "{created}");
    // What is in angle brackets is for the reader to fill in.
    let id = id_of(&created["data"]);
    let [invoke, look] = commands(INVOKE)[..] else { unreachable!("two commands are printed") };
    let accepted = network.paste(&invoke.replace("<function-id-from-step-3>", &id), &data, &[]).json();
    assert_eq!(accepted["data"]["status"], "pending", "{accepted}");
    let invocation = accepted["data"]["invocation_id"].as_str().unwrap_or_default();
    let look = look.replace("<invocation-id>", invocation);
    let ended = async || {
        let found = network.paste(&look, &data, &[]).json()["data"].clone();
        (found["completed_at"].is_string()).then_some(found)
    };
    let ended = eventually("the invocation ends", SOON, ended).await;
    assert_eq!(
        (&ended["status"], &ended["result"]),
        (&json!("completed"), &json!("Hello, FaaS!\n")),
        "{ended}"
    );
}

#[tokio::test]
async fn a_program_is_created_called_and_its_result_looked_up() {
    let server = Server::start().await;
    let mut new = body("hello", "python", PYTHON);
    new["environment"] = json!({"WORD": "x"});
    new["metadata"] = json!({"team": "a"});
    let created = create(&server, &new).await;
    assert_eq!((&created["runtime"], &created["state"]), (&json!("python"), &json!("active")), "{created}");
    assert_eq!(created["config"]["timeout"], 30_000_000_000_u64);
    assert_eq!((&created["metadata"], &created["version"]), (&json!({"team": "a"}), &json!("1.0.0")));
    let id = id_of(&created);
    let call = json!({"function_id": id, "payload": {"a": true}, "headers": {"X-A": "1"}});
    let invocation = submit(&server, &call).await;
    let done = ended(&server, &invocation).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["result"], json!([{"a": true}, "main", {"X-A": "1"}, "x"]));
    assert_eq!((&done["payload"], &done["headers"]), (&json!({"a": true}), &json!({"X-A": "1"})));
    assert!(done["metrics"]["duration"].as_u64().is_some_and(|nanos| nanos > 1_000), "{done}");
    // What is not measured is not made up.
    for figure in ["cpu_time", "memory_peak", "network_in", "network_out"] {
        assert_eq!(done["metrics"].get(figure), Some(&Value::Null), "{done}");
    }
    assert!(done["started_at"].is_string() && done["completed_at"].is_string());
    let list =
        server.get(&format!("/invocations?function_id={id}&status=completed")).await.with_status(200).json();
    assert_eq!(list["data"][0]["id"], invocation.as_str(), "{list}");
    let logs = server.get("/api/v1/functions/hello/logs").await;
    assert_eq!(logs.status, 200, "the native API finds the function by its name");
}

#[tokio::test]
async fn plain_text_is_kept_and_failures_are_final() {
    let server = Server::shared().await;
    let name = unique("node");
    let code = "if (process.env.FUNCTION_PAYLOAD === '1') { console.log('before'); console.error('why'); process.exit(3); } \
                console.log('Hello, FaaS!');";
    let id = id_of(&create(&server, &body(&name, "nodejs", code)).await);
    let hello = submit(&server, &json!({"function_id": id, "payload": {}, "headers": {}})).await;
    assert_eq!(ended(&server, &hello).await["result"], "Hello, FaaS!\n");
    let failed = submit(&server, &json!({"function_id": id, "payload": 1})).await;
    let failed = ended(&server, &failed).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["type"]),
        (&json!("failed"), &json!("RuntimeError")),
        "{failed}"
    );
    assert_eq!(failed["error"]["message"], "Function exited with code 3");
    assert!(
        failed["error"]["stack"].as_str().is_some_and(|s| s.contains("before") && s.contains("why")),
        "{failed}"
    );
    assert_eq!(failed["attempts"], 1);
}

#[tokio::test]
async fn a_timeout_of_the_call_overrides_the_functions() {
    let server = Server::shared().await;
    let id = id_of(&create(&server, &body(&unique("slow"), "python", "import time\ntime.sleep(30)")).await);
    let invocation = submit(&server, &json!({"function_id": id, "payload": null, "timeout": "500ms"})).await;
    let ended = ended(&server, &invocation).await;
    assert_eq!(ended["status"], "timeout", "{ended}");
    assert!(ended["error"]["message"].as_str().is_some_and(|text| text.contains("0.5 seconds")), "{ended}");
}

#[tokio::test]
async fn functions_are_changed_listed_and_deleted() {
    let server = Server::start().await;
    let first = id_of(&create(&server, &body("same", "python", PYTHON)).await);
    refused(server.post("/functions", &body("same", "python", PYTHON)).await, 409, "CONFLICT");
    let mut second = body("same", "nodejs", "console.log(1)");
    second["version"] = json!("2.0.0");
    let second = id_of(&create(&server, &second).await);
    let path = format!("/functions/{first}");
    let changed = server.put(&path, &json!({"timeout": "60s"})).await.with_status(200).json();
    assert_eq!(changed["data"]["config"]["timeout"], 60_000_000_000_u64);
    let changed = server.put(&path, &json!({"memory_mb": 256})).await.with_status(200).json();
    assert_eq!(changed["data"]["config"]["memory_mb"], 256);
    let listed = async |query: &str| {
        let list = server.get(&format!("/functions{query}")).await.with_status(200).json();
        let ids = list["data"].as_array().into_iter().flatten().map(|function| function["id"].clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, [json!(second), json!(first)]);
    assert_eq!(listed("?runtime=python").await, [json!(first)]);
    assert_eq!(listed("?limit=1&offset=1").await, [json!(first)]);
    let gone = server.delete(&path).await.with_status(200).json();
    assert_eq!(gone["data"], json!({"message": "Function deleted successfully"}));
    refused(server.get(&path).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_dialects_shape() {
    let server = Server::shared().await;
    let with = |field: &str, value: Value| {
        let mut body = body("bad", "python", "print(1)");
        body[field] = value;
        body
    };
    for (field, value) in [
        ("name", json!("../x")),
        ("name", json!("01890a5d-ac96-774b-bcce-b302099a8057")),
        ("version", json!("")),
        ("runtime", json!("cobol")),
        ("handler", json!("")),
        ("code", json!("%%%")),
        ("timeout", json!("soon")),
        ("timeout", Value::Null),
        ("memory_mb", json!(0)),
        ("max_concurrency", json!(-1)),
    ] {
        let error = refused(server.post("/functions", &with(field, value)).await, 400, "VALIDATION_ERROR");
        assert!(error.contains("details"), "{error}");
    }
    for (field, value) in [
        ("name", json!(5)),
        ("memory_mb", json!("many")),
        ("timeout", json!(true)),
        ("timeout", json!([30])),
        ("environment", json!({"A": 1})),
        ("code", json!(5)),
    ] {
        let error = refused(server.post("/functions", &with(field, value)).await, 400, "BAD_REQUEST");
        let named = error.contains(&format!("{field}: ")) || error.contains(&format!("{field}.A: "));
        assert!(named && error.contains("expected"), "{error}");
    }
    // A number is nanoseconds, as Go writes durations.
    let error =
        refused(server.post("/functions", &with("timeout", json!(30))).await, 400, "VALIDATION_ERROR");
    assert!(error.contains("timeout: 30ns is not possible") && error.contains("\\\"30s\\\""), "{error}");
    refused(server.get("/functions/abc").await, 404, "NOT_FOUND");
    refused(server.get("/functions?runtime=cobol").await, 400, "VALIDATION_ERROR");
    refused(server.get("/invocations?status=lost").await, 400, "VALIDATION_ERROR");
    refused(server.get("/invocations?limit=100000").await, 400, "VALIDATION_ERROR");
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    refused(server.get(&format!("/invocations/{unknown}")).await, 404, "NOT_FOUND");
    refused(server.post("/invoke", &json!({"function_id": unknown, "payload": 1})).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn wrong_methods_and_paths_are_refused_in_the_dialects_shape() {
    let server = Server::shared().await;
    for (method, path, allowed) in [
        (Method::PATCH, "/functions/01890a5d-ac96-774b-bcce-b302099a8057", "PUT"),
        (Method::PUT, "/functions", "POST"),
        (Method::GET, "/invoke", "POST"),
    ] {
        let reply = server.send(server.request(method, path)).await;
        assert!(reply.header("allow").contains(allowed), "{path}");
        refused(reply, 405, "METHOD_NOT_ALLOWED");
    }
    for path in ["/functions/%ff", "/invocations/%ff"] {
        let error = refused(server.get(path).await, 400, "VALIDATION_ERROR");
        assert!(error.contains("UTF-8"), "{error}");
    }
}

/// Invocations that are accepted before the server is killed.
const ACCEPTED: usize = 300;

#[tokio::test]
async fn what_was_accepted_survives_the_death_of_the_server() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let id = id_of(&create(&server, &body("durable", "python", "import sys\nprint(sys.stdin.read())")).await);
    let mut accepted = Vec::new();
    for n in 0..ACCEPTED {
        accepted.push(submit(&server, &json!({"function_id": id, "payload": n})).await);
    }
    // Some have ended by now, some are running, and the rest waits.
    server.kill().await;
    let server = Launch::on(&data).start().await;
    for (n, invocation) in accepted.iter().enumerate() {
        let done = ended(&server, invocation).await;
        assert_eq!((&done["status"], &done["result"]), (&json!("completed"), &json!(n)), "{done}");
    }
    let count = async |status: &str| {
        let list = server.get(&format!("/invocations?status={status}&limit=200")).await.json();
        list["data"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((count("pending").await, count("running").await), (0, 0));
    server.stop().await;
}
