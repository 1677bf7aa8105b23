//! What clients of NQRust's serverless functions send: the commands of its documents, character by character on the port
//! that they print, and its samples.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use impuls_e2e::{Data, Launch, Network, OUTSIDE, Raw, Server, Value, commands, eventually, json, within};
use reqwest::Method;

const CREATE: &str = include_str!("../fixtures/seeds/nqrust-create-function.sh");
const GET: &str = include_str!("../fixtures/seeds/nqrust-get-function-details.sh");
const POLL: &str = include_str!("../fixtures/seeds/nqrust-status-polling.sh");
const LIST: &str = include_str!("../fixtures/seeds/nqrust-list-all-functions.sh");
const UPDATE: &str = include_str!("../fixtures/seeds/nqrust-update-function.sh");
const INVOKE: &str = include_str!("../fixtures/seeds/nqrust-invoke-function.sh");
const LOGS: &str = include_str!("../fixtures/seeds/nqrust-get-function-invocation-logs.sh");
const LIST_VMS: &str = include_str!("../fixtures/seeds/nqrust-monitor-function-vm.sh");
const GET_VM: &str = include_str!("../fixtures/seeds/nqrust-check-the-vm.sh");
const DELETE: &str = include_str!("../fixtures/seeds/nqrust-delete-function.sh");
const WORKFLOW: &str = include_str!("../fixtures/seeds/nqrust-complete-workflow-example.js");
/// The id that the documents print.
const PRINTED_ID: &str = "f35fc685-c85e-4f25-93ca-13b32b2de5d8";

/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A reader of the documents: a shell in which `FUNCTION_ID` is set.
struct Reader {
    network: Network,
    folder: Data,
    id: String,
}

impl Reader {
    fn text(&self, block: &str) -> String {
        let outcome = self.network.paste(commands(block)[0], &self.folder, &[("FUNCTION_ID", &self.id)]);
        outcome.success()
    }

    fn paste(&self, block: &str) -> Value {
        let text = self.text(block);
        serde_json::from_str(&text).unwrap_or_else(|error| unreachable!("{error}: {text}"))
    }
}

fn id_of(created: &Value) -> String {
    created["id"].as_str().unwrap_or_else(|| unreachable!("no id in {created}")).to_owned()
}

async fn create(server: &Server, runtime: &str, code: &str) -> String {
    let body = json!({"name": "sample", "runtime": runtime, "handler": "handler", "code": code});
    id_of(&server.post("/v1/functions", &body).await.with_status(200).json())
}

async fn invoke(server: &Server, id: &str, event: Value) -> Value {
    let path = format!("/v1/functions/{id}/invoke");
    server.post(&path, &json!({ "event": event })).await.with_status(200).json()
}

#[tokio::test]
#[ignore = "needs root, ip, curl, jq"]
async fn the_documents_commands_work_as_they_are_printed() {
    let mut reader = Reader { network: Network::new(), folder: Data::new(), id: String::new() };
    let _server = reader.network.launch(&reader.folder).start().await;
    reader.id = id_of(&reader.paste(CREATE));
    let polled = reader.text(POLL);
    assert_eq!(polled, "Current state: ready\nFunction is ready!\n");
    assert!(reader.paste(GET)["error"].is_string(), "nobody has the printed id");
    let get = GET.replace(PRINTED_ID, &reader.id);
    let item = &reader.paste(&get)["item"];
    assert_eq!((&item["memory_mb"], &item["vcpu"]), (&json!(256), &json!(1)), "{item}");
    assert_eq!((&item["timeout_seconds"], &item["handler"]), (&json!(30), &json!("handler")));
    assert_eq!(reader.paste(LIST)["items"][0]["id"], reader.id.as_str());
    let reply = reader.paste(INVOKE);
    assert_eq!(
        (&reply["status"], &reply["response"]["message"]),
        (&json!("success"), &json!("Hello from Node.js!"))
    );
    assert_eq!(reply["response"]["input"], json!({"name": "World", "test": 123}));
    assert!(reply["logs"].is_array() && reply["request_id"].is_string() && reply["duration_ms"].is_u64());
    assert_eq!(reader.paste(UPDATE)["item"]["id"], reader.id.as_str());
    let reply = reader.paste(INVOKE);
    assert_eq!(
        (&reply["response"]["message"], &reply["response"]["version"]),
        (&json!("UPDATED CODE!"), &json!(2))
    );
    let vm = reader.paste(LIST_VMS)["items"][0].clone();
    assert_eq!(vm["name"], format!("fn-hello-nodejs-{}", &reader.id[..8]));
    assert_eq!(reader.paste(&GET_VM.replace("{vm_id}", &id_of(&vm)))["item"]["id"], vm["id"]);
    let items = reader.paste(LOGS)["items"].clone();
    assert_eq!(items.as_array().map(Vec::len), Some(2), "{items}");
    assert_eq!((&items[0]["status"], &items[0]["function_id"]), (&json!("success"), &json!(reader.id)));
    assert_eq!(items[0]["request_id"], reply["request_id"]);
    assert_eq!(items[0]["event"], json!({"name": "World", "test": 123}));
    assert_eq!(items[0]["response"], reply["response"]);
    assert!(reader.paste(&get)["item"]["last_invoked_at"].is_string());
    assert_eq!(reader.paste(DELETE), json!({"message": "Function deleted", "ok": true}));
    assert!(reader.paste(&get)["error"].is_string());
}

#[tokio::test]
#[ignore = "needs root, ip, node"]
async fn the_documents_workflow_runs_as_it_is_printed() {
    let reader = Reader { network: Network::new(), folder: Data::new(), id: String::new() };
    let _server = reader.network.launch(&reader.folder).start().await;
    // It has `await` and `return` outside of any function, so it is part of one.
    let script = reader.folder.scratch().join("workflow.js");
    let written = std::fs::write(&script, format!("(async () => {{\n{WORKFLOW}\n}})();\n"));
    assert!(written.is_ok());
    let printed = reader.network.paste("node workflow.js", &reader.folder, &[]).success();
    assert!(printed.contains("Deployment status: ready"), "{printed}");
    assert!(printed.contains("{ message: 'Hello!', input: { name: 'World', value: 123 } }"), "{printed}");
}

#[tokio::test]
async fn the_python_sample_computes() {
    let server = Server::shared().await;
    let code = include_str!("../fixtures/seeds/nqrust-python-data-processing.py");
    let id = create(&server, "python", code).await;
    let reply = invoke(&server, &id, json!({"numbers": [1, 2, 3, 6]})).await;
    assert_eq!(reply["response"], json!({"sum": 12, "avg": 3.0, "max": 6, "min": 1}), "{reply}");
    let reply = invoke(&server, &id, json!({})).await;
    assert_eq!(reply["response"], json!({"sum": 0, "avg": 0, "max": null, "min": null}), "{reply}");
}

#[tokio::test]
async fn samples_that_need_what_they_lack_say_so() {
    let server = Server::shared().await;
    let fails = async |runtime: &str, code: &str, event: Value, part: &str| {
        let id = create(&server, runtime, code).await;
        let reply = within("the call ends", SOON, invoke(&server, &id, event)).await;
        assert_eq!(reply["status"], "error", "{reply}");
        assert!(reply["error"].as_str().is_some_and(|error| error.contains(part)), "{reply}");
    };
    let python = include_str!("../fixtures/seeds/nqrust-python-function.py");
    fails("python", python, json!({"name": "a", "value": 1}), "'datetime' is not defined").await;
    let node = include_str!("../fixtures/seeds/nqrust-node-function.js");
    fails("node", node, json!({"name": "a"}), "someAsyncOperation is not defined").await;
    let request = include_str!("../fixtures/seeds/nqrust-node-http-request.js");
    fails("node", request, json!({"url": "https://127.0.0.1/"}), "ECONNREFUSED").await;
}

/// Serves "hello" over TLS, with the key and the certificate that it is given.
const HTTPS: &str = "const fs = require('fs'); const [key, cert] = process.argv.slice(1).map((file) => fs.readFileSync(file)); \
                     require('https').createServer({ key, cert }, (request, reply) => reply.end('hello')) \
                     .listen(443, () => console.log('ready'));";

/// A certificate that is its own authority, for the server outside.
fn certificate(folder: &Path) -> [String; 2] {
    let [key, certificate] = ["key.pem", "cert.pem"].map(|name| folder.join(name).display().to_string());
    let mut command = std::process::Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args([
        "-subj",
        "/CN=outside",
        "-addext",
        &format!("subjectAltName=IP:{},IP:{}", OUTSIDE[0], OUTSIDE[1]),
    ]);
    let made = command.args(["-keyout", &key, "-out", &certificate]).output().expect("openssl is there");
    assert!(made.status.success(), "{made:?}");
    [key, certificate]
}

#[tokio::test]
#[ignore = "needs root, ip, curl, node, openssl"]
async fn the_https_sample_reaches_what_its_list_allows_and_nothing_else() {
    let folder = Data::new();
    let [key, authority] = certificate(folder.scratch());
    let (network, _outside) = Network::with_outside("node", &["-e", HTTPS, "--", &key, &authority]);
    let _server = network.launch_trusting(Path::new(&authority), &folder).start().await;
    let reader = Reader { network, folder, id: String::new() };
    let send = |method: &str, path: &str, body: &Value| {
        let file = reader.folder.scratch().join("body.json");
        std::fs::write(&file, body.to_string()).expect("a file");
        let command = format!(
            "\n\ncurl -s -X {method} -H 'Content-Type: application/json' -d @{} 'http://localhost:18080{path}'",
            file.display()
        );
        reader.paste(&command)
    };
    let request = include_str!("../fixtures/seeds/nqrust-node-http-request.js");
    let python = "import urllib.request\ndef handler(event):\n    with urllib.request.urlopen(event['url'], timeout=20) as reply:\n        \
                  return {'status': reply.status, 'data': reply.read().decode()}\n";
    // Python trusts the machine's bundle; Node has one of its own besides.
    let trust = json!({"NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/ca-certificates.crt"});
    for (runtime, code, env_vars) in [("node", request, trust), ("python", python, json!({}))] {
        let body = json!({"name": runtime, "runtime": runtime, "handler": "handler", "code": code, "env_vars": env_vars});
        let id = id_of(&send("POST", "/v1/functions", &body));
        let allowed = json!({"network": {"allow": [format!("{}:443", OUTSIDE[0])]}});
        assert_eq!(send("PUT", &format!("/api/v1/functions/{id}"), &allowed)["network"], allowed["network"]);
        let call = |host: &str| {
            let event = json!({"event": {"url": format!("https://{host}/")}});
            send("POST", &format!("/v1/functions/{id}/invoke"), &event)
        };
        assert_eq!(call(OUTSIDE[0])["response"], json!({"status": 200, "data": "hello"}), "{runtime}");
        let refused = call(OUTSIDE[1]);
        let error = refused["error"].as_str().unwrap_or_default().to_lowercase();
        assert!(error.contains("refused"), "{runtime}: {refused}");
    }
}

#[tokio::test]
async fn variables_and_limits_reach_the_function_and_a_rename_keeps_it() {
    let server = Server::shared().await;
    let code = "async function handler(event) { if (event.slow) await new Promise((r) => setTimeout(r, 5000)); \
                return [process.env.WORD, process.env.NUMBER]; }";
    let body = json!({
        "name": "before", "runtime": "node", "handler": "handler", "code": code,
        "env_vars": {"WORD": "x", "NUMBER": 7},
    });
    let id = id_of(&server.post("/v1/functions", &body).await.with_status(200).json());
    assert_eq!(invoke(&server, &id, json!({})).await["response"], json!(["x", "7"]));
    let path = format!("/v1/functions/{id}");
    let change = json!({"name": "after", "timeout_seconds": 1, "memory_mb": 512});
    let item = server.put(&path, &change).await.with_status(200).json()["item"].clone();
    assert_eq!((&item["id"], &item["name"], &item["memory_mb"]), (&json!(id), &json!("after"), &json!(512)));
    let reply = invoke(&server, &id, json!({"slow": true})).await;
    assert_eq!(reply["status"], "timeout", "{reply}");
    let items = server.get(&format!("{path}/logs?status=success")).await.json()["items"].clone();
    assert!(items.as_array().is_some_and(|items| items.len() == 1), "the call under the old name: {items}");
}

#[tokio::test]
async fn the_log_has_events_and_responses_up_to_a_bound() {
    let server = Server::shared().await;
    let code =
        "async function handler(event) { if (event.fail) throw new Error('no'); return event.text ?? null; }";
    let id = create(&server, "node", code).await;
    let long = "x".repeat(10_000);
    for event in [json!({"fail": true}), json!({"text": long}), json!(0)] {
        invoke(&server, &id, event).await;
    }
    // What comes through another API pays for nothing that its records do not show.
    server.post(&format!("/api/v1/functions/{id}/invoke"), &json!({"text": "native"})).await.with_status(200);
    // What has been answered is in the log at once.
    let items =
        server.get(&format!("/v1/functions/{id}/logs")).await.with_status(200).json()["items"].clone();
    assert_eq!(items.as_array().map(Vec::len), Some(4), "{items}");
    let failed = server.get(&format!("/v1/functions/{id}/logs?status=error")).await.with_status(200).json();
    assert_eq!(failed["items"].as_array().map(Vec::len), Some(1), "{failed}");
    assert_eq!((&items[0]["event"], items[0].get("response")), (&Value::Null, None), "{}", items[0]);
    assert_eq!((&items[1]["event"], &items[1]["response"]), (&json!(0), &Value::Null));
    let (event, response) = (items[2]["event"].as_str(), items[2]["response"].as_str());
    assert!(event.is_some_and(|text| text.starts_with("{\"text\":\"xxx") && text.len() == 4096), "{event:?}");
    assert!(response.is_some_and(|text| text.starts_with("\"xxx") && text.len() == 4096), "{response:?}");
    assert_eq!((&items[2]["event_truncated"], &items[2]["response_truncated"]), (&json!(true), &json!(true)));
    assert_eq!((&items[3]["event"], &items[3]["error"]), (&json!({"fail": true}), &json!("no")));
    assert!(items[3].get("response").is_none() && items[3].get("event_truncated").is_none());
}

#[tokio::test]
async fn the_states_of_a_deploy_are_kept_with_their_times() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let log_of = async |server: &Server, id: &str| {
        let item = server.get(&format!("/v1/functions/{id}")).await.with_status(200).json()["item"].clone();
        let log = item["state_log"].as_array().cloned().unwrap_or_default();
        let times: Vec<String> =
            log.iter().map(|entry| entry["at"].as_str().unwrap_or_default().to_owned()).collect();
        assert!(times.iter().all(|at| at.ends_with('Z')) && times[0] == item["created_at"], "{item}");
        log.iter()
            .map(|entry| entry["state"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let id = create(&server, "node", "async function handler(event) { return 1; }").await;
    let broken = create(&server, "node", "async function handler(event) {").await;
    assert_eq!(log_of(&server, &id).await, "creating booting deploying ready");
    assert_eq!(log_of(&server, &broken).await, "creating booting deploying error");
    let repaired = json!({"code": "async function handler(event) { return 2; }"});
    server.put(&format!("/v1/functions/{broken}"), &repaired).await.with_status(200);
    server.stop().await;
    let server = Launch::on(&data).start().await;
    let log = log_of(&server, &broken).await;
    assert_eq!(log, "creating booting deploying error booting deploying ready");
}

#[tokio::test]
async fn names_need_not_be_unique_and_errors_have_the_dialects_shape() {
    let server = Server::shared().await;
    let code = "async function handler(event) { return 1; }";
    assert_ne!(create(&server, "node", code).await, create(&server, "node", code).await);
    let refused = async |body: Value, status: u16, field: &str| {
        let reply = server.post("/v1/functions", &body).await.with_status(status).json();
        assert!(reply["error"].as_str().is_some_and(|error| error.contains(field)), "{reply}");
    };
    refused(json!({"name": "../x", "runtime": "node", "handler": "h", "code": "1"}), 400, "name").await;
    refused(json!({"name": "x", "runtime": "cobol", "handler": "h", "code": "1"}), 400, "cobol").await;
    refused(json!({"name": "x", "runtime": "node", "handler": "h"}), 400, "code").await;
    for (field, value) in [
        ("name", json!(1)),
        ("memory_mb", json!("a")),
        ("env_vars", json!([1])),
        ("code", json!(5)),
        ("timeout_seconds", json!(0)),
        ("memory_mb", json!(0)),
        ("vcpu", json!(-1)),
    ] {
        let mut body = json!({"name": "x", "runtime": "node", "handler": "h", "code": "1"});
        body[field] = value;
        refused(body, 400, &format!("{field}: ")).await;
    }
    for (method, path) in [(Method::PUT, "/v1/functions"), (Method::POST, "/v1/vms")] {
        let reply = server.send(server.request(method, path)).await;
        assert!(reply.header("allow").contains("GET"), "{path}");
        assert!(reply.with_status(405).json()["error"].as_str().is_some_and(|error| error.contains("Allow")));
    }
    for path in ["/v1/functions/%ff", "/v1/functions/%ff/logs", "/v1/vms/%ff"] {
        let reply = server.get(path).await.with_status(400).json();
        assert!(reply["error"].as_str().is_some_and(|error| error.contains("UTF-8")), "{reply}");
    }
    let unknown = "/v1/functions/01890a5d-ac96-774b-bcce-b302099a8057";
    assert!(server.get(unknown).await.with_status(404).json()["error"].is_string());
    assert!(server.delete(unknown).await.with_status(404).json()["error"].is_string());
    let id = create(&server, "node", code).await;
    let reply = server.post(&format!("/v1/functions/{id}/invoke"), &json!({"name": 1})).await;
    assert!(reply.with_status(400).json()["error"].as_str().is_some_and(|error| error.contains("event")));
}

#[tokio::test]
async fn code_that_does_not_parse_is_a_function_in_state_error() {
    let server = Server::shared().await;
    let id = create(&server, "node", "async function handler(event) {").await;
    let item = server.get(&format!("/v1/functions/{id}")).await.with_status(200).json()["item"].clone();
    assert_eq!(item["state"], "error", "{item}");
    assert_eq!(item["error"], "index.js:1: SyntaxError: Unexpected end of input", "{item}");
    let reply = invoke(&server, &id, json!({})).await;
    assert_eq!(
        (&reply["status"], &reply["error"]),
        (&json!("error"), &json!("index.js:1: Unexpected end of input")),
        "{reply}"
    );
    // What this server adds to the code is no part of what is said about it.
    let id = create(&server, "node", "function handler( {").await;
    let item = server.get(&format!("/v1/functions/{id}")).await.with_status(200).json()["item"].clone();
    assert_eq!(item["error"], "index.js:1: SyntaxError: Unexpected end of input", "{item}");
}

#[tokio::test]
async fn replies_have_the_documents_types_and_handlers_the_originals_context() {
    let server = Server::shared().await;
    let code = "async function handler(event, context) { const { functionName, requestId, invokedAt, memoryLimitMB, \
                timeoutMs } = context; return { functionName, requestId, invokedAt, memoryLimitMB, timeoutMs }; }";
    let id = create(&server, "node", code).await;
    let item = server.get(&format!("/v1/functions/{id}")).await.with_status(200).json()["item"].clone();
    // An integer: typed clients read nothing else.
    assert_eq!((&item["vcpu"], &item["runtime"]), (&json!(1), &json!("node")), "{item}");
    let reply = invoke(&server, &id, json!({})).await;
    let response = &reply["response"];
    assert_eq!((&response["functionName"], &response["requestId"]), (&json!("sample"), &reply["request_id"]));
    assert_eq!((&response["memoryLimitMB"], &response["timeoutMs"]), (&json!(256), &json!(30_000)));
    assert!(response["invokedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{reply}");
}

#[tokio::test]
async fn live_sandboxes_are_listed_as_machines_and_watched() {
    let server = Server::start().await;
    let code = "async function handler(event) { const end = Date.now() + 3000; while (event.spin && Date.now() < end) {} return 1; }";
    let id = create(&server, "node", code).await;
    assert_eq!(invoke(&server, &id, json!({})).await["response"], 1);
    let vms = server.get("/v1/vms").await.with_status(200).json()["items"].clone();
    let vm = vms[0].clone();
    assert_eq!(
        (&vm["name"], &vm["state"]),
        (&json!(format!("fn-sample-{}", &id[..8])), &json!("running")),
        "{vms}"
    );
    assert_eq!((&vm["guest_ip"], &vm["memory_mb"]), (&Value::Null, &json!(256)));
    let vm_id = id_of(&vm);
    assert_eq!(server.get(&format!("/v1/vms/{vm_id}")).await.with_status(200).json()["item"]["id"], vm["id"]);
    assert_eq!(server.get(&format!("/v1/functions/{id}")).await.json()["item"]["vm_id"], vm["id"]);
    server.get(&format!("/v1/vms/{vm_id}/shell")).await.with_status(501);
    server.get("/v1/vms/01890a5d-ac96-774b-bcce-b302099a8057").await.with_status(404);
    let spinning = tokio::spawn({
        let (server, id) = (server.clone(), id.clone());
        async move { invoke(&server, &id, json!({"spin": true})).await }
    });
    let mut socket = Raw::open(&server).await;
    let head =
        "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write(format!("GET /v1/vms/{vm_id}/metrics/ws HTTP/1.1\r\n{head}{key}").as_bytes()).await;
    let text = socket.until("}", 3).await;
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    let frames = text.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let frames: Vec<Value> =
        frames.map(|(frame, _)| serde_json::from_str(&format!("{{{frame}}}")).unwrap_or_default()).collect();
    // How much of a core it gets depends on its neighbours; one that does nothing uses none.
    let percent = |name: &str| frames.iter().filter_map(|frame| frame[name].as_f64()).fold(0.0, f64::max);
    assert!(percent("cpu_usage_percent") > 1.0, "{text}");
    assert!(percent("memory_usage_percent") > 1.0, "{text}");
    assert_eq!(spinning.await.unwrap_or_default()["response"], 1);
}

#[tokio::test]
async fn typescript_runs_as_it_is_written() {
    let server = Server::shared().await;
    let code = "interface Numbers { numbers: number[] }
function handler(event: Numbers): { sum: number } { return { sum: event.numbers.reduce((a: number, b: number) => a + b, 0) }; }";
    let id = create(&server, "typescript", code).await;
    let item = server.get(&format!("/v1/functions/{id}")).await.with_status(200).json()["item"].clone();
    assert_eq!((&item["state"], &item["runtime"]), (&json!("ready"), &json!("typescript")), "{item}");
    assert_eq!(invoke(&server, &id, json!({"numbers": [1, 2]})).await["response"], json!({"sum": 3}));
}

#[tokio::test]
async fn a_top_level_that_throws_is_seen_by_the_first_call() {
    let server = Server::shared().await;
    let id = create(&server, "node", "throw new Error('at the top'); function handler() {}").await;
    let item = server.get(&format!("/v1/functions/{id}")).await.with_status(200).json()["item"].clone();
    assert_eq!(item["state"], "ready", "{item}");
    let reply = invoke(&server, &id, json!({})).await;
    assert_eq!((&reply["status"], &reply["error"]), (&json!("error"), &json!("at the top")), "{reply}");
}

/// How many connections call while the code is replaced.
const CONNECTIONS: usize = 64;
const UPDATES: usize = 10;

#[tokio::test]
async fn a_hot_reload_under_load_drops_no_call_and_shows_no_half_update() {
    let server = Server::start().await;
    // Both halves come from one deploy; a call that saw two different ones saw half an update.
    let code = |n: usize| {
        format!(
            "const top = {n}; async function handler(event) {{ return [top, {n}, Number(process.env.N)]; }}"
        )
    };
    let body = json!({
        "name": "reload", "runtime": "node", "handler": "handler", "code": code(0), "env_vars": {"N": 0},
    });
    let id = id_of(&server.post("/v1/functions", &body).await.with_status(200).json());
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (server, id, stop, calls) = (server.clone(), id.clone(), stop.clone(), calls.clone());
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let reply = invoke(&server, &id, json!({})).await;
                assert_eq!(reply["status"], "success", "{reply}");
                let seen = &reply["response"];
                assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen}");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for n in 1..=UPDATES {
        let before = calls.load(Ordering::Relaxed);
        let change = json!({"code": code(n), "env_vars": {"N": n}});
        server.put(&format!("/v1/functions/{id}"), &change).await.with_status(200);
        // Every call that begins now sees the new code.
        assert_eq!(invoke(&server, &id, json!({})).await["response"], json!([n, n, n]));
        let went_on = async || (calls.load(Ordering::Relaxed) >= before + CONNECTIONS).then_some(());
        eventually("calls go on", SOON, went_on).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    }
}
