//! What clients of Tangle's FaaS platform send: commands and packages.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use std::io::{Cursor, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use impuls_e2e::{Reply, Server, Value, eventually, json, unique, within};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const EXECUTE: &str = "/api/v1/execute";
/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn execute(server: &Server, body: &Value) -> Value {
    server.post(EXECUTE, body).await.with_status(200).json()
}

async fn stdout(server: &Server, body: &Value) -> String {
    let reply = execute(server, body).await;
    assert_eq!((&reply["exit_code"], &reply["error"]), (&json!(0), &Value::Null), "{reply}");
    reply["stdout"].as_str().unwrap_or_default().to_owned()
}

fn refused(reply: Reply, status: u16, code: &str) -> String {
    let body = reply.with_status(status).json();
    assert_eq!(body["code"], code, "{body}");
    body["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_command_string_gives_two_outputs_and_a_real_exit_code() {
    let server = Server::shared().await;
    let body = json!({"command": "echo 'Hello, World!'", "image": "alpine:latest", "timeout_ms": 5000});
    let reply = execute(&server, &body).await;
    assert_eq!(reply["stdout"], "Hello, World!\n", "{reply}");
    assert_eq!((&reply["exit_code"], &reply["stderr"]), (&json!(0), &json!("")));
    assert_eq!(
        (&reply["output"], &reply["logs"], &reply["error"]),
        (&reply["stdout"], &reply["stderr"], &Value::Null)
    );
    assert!(reply["duration_ms"].is_u64() && reply["request_id"].is_string(), "{reply}");
    let reply = execute(&server, &json!({"command": "echo out; echo err >&2; exit 3"})).await;
    assert_eq!((&reply["stdout"], &reply["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!((&reply["exit_code"], &reply["error"]), (&json!(3), &json!("command exited with code 3")));
    let reply = execute(&server, &json!({"command": "no-such-program"})).await;
    assert_eq!(reply["exit_code"], 127, "{reply}");
}

#[tokio::test]
async fn everything_that_the_clients_libraries_send_is_understood() {
    let server = Server::shared().await;
    let body = json!({
        "command": "echo \"$GREETING\"", "image": "alpine:latest", "runtime": "auto", "mode": "ephemeral",
        "env_vars": [["GREETING", "Hello"]], "working_dir": null, "timeout_ms": 30000, "memory_mb": 256,
        "cpu_cores": 1, "cache_key": "5d41402abc4b2a76b9719d911017c592", "snapshot_id": null, "branch_from": null,
        "payload": [],
    });
    assert_eq!(stdout(&server, &body).await, "Hello\n");
    let advanced = json!({"image": "alpine:latest", "command": ["true"], "env_vars": [], "payload": [],
        "mode": "ephemeral", "checkpoint_id": null, "branch_from": null, "timeout_secs": 60});
    let reply = server.post("/api/v1/execute/advanced", &advanced).await.with_status(200).json();
    assert_eq!((&reply["response"], &reply["error"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn many_commands_at_once_each_get_their_own_answer() {
    let server = Server::shared().await;
    let commands: Vec<_> = (0..64)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let body = json!({"command": format!("cat; echo {n}"), "payload": format!("input {n} ")});
                (n, stdout(&server, &body).await)
            })
        })
        .collect();
    for command in commands {
        let answered = within("every command ends", SOON * 3, command).await;
        assert!(answered.is_ok_and(|(n, text)| text == format!("input {n} {n}\n")));
    }
    let large = json!({"command": "wc -c", "payload": "x".repeat(5 * 1024 * 1024)});
    assert_eq!(stdout(&server, &large).await.trim(), "5242880");
    let larger = json!({"command": "wc -c", "payload": "x".repeat(5 * 1024 * 1024 + 1)});
    refused(server.post(EXECUTE, &larger).await, 413, "TOO_LARGE");
}

#[tokio::test]
async fn an_argument_vector_gives_the_operators_reply() {
    let server = Server::shared().await;
    let body = json!({
        "image": "alpine:latest", "command": ["echo", "Hello FaaS", "$HOME"], "env_vars": [], "payload": [],
    });
    let reply = server.post(EXECUTE, &body).await.with_status(200).json();
    let bytes: Vec<Value> = b"Hello FaaS $HOME\n".iter().map(|byte| json!(byte)).collect();
    assert_eq!(
        (&reply["response"], &reply["logs"], &reply["error"]),
        (&json!(bytes), &Value::Null, &Value::Null)
    );
    assert!(reply["request_id"].is_string());
    let body = json!({"image": "alpine", "command": ["cat"], "payload": [104, 105]});
    assert_eq!(execute(&server, &body).await["response"], json!([104, 105]));
    let reply =
        execute(&server, &json!({"image": "alpine", "command": ["sh", "-c", "echo why >&2; exit 2"]})).await;
    assert_eq!((&reply["response"], &reply["logs"]), (&Value::Null, &json!("why\n")));
    assert_eq!(reply["error"], "command exited with code 2");
    let reply = execute(&server, &json!({"image": "alpine", "command": ["/no/such/program"]})).await;
    assert!(reply["error"].as_str().is_some_and(|text| text.contains("127")), "{reply}");
}

#[tokio::test]
async fn variables_come_in_every_form_and_the_working_folder_is_honoured() {
    let server = Server::shared().await;
    for variables in [json!({"PLACE": "here"}), json!([["PLACE", "here"]]), json!(["PLACE=here"])] {
        let body = json!({"command": "echo $PLACE; pwd", "env_vars": variables, "working_dir": "/usr/bin"});
        assert_eq!(stdout(&server, &body).await, "here\n/usr/bin\n", "{variables}");
    }
    let reply = execute(&server, &json!({"command": "true", "working_dir": "/nowhere"})).await;
    assert_eq!(reply["exit_code"], 126, "{reply}");
    assert!(reply["stderr"].as_str().is_some_and(|text| text.starts_with("/nowhere: ")), "{reply}");
    let text = refused(
        server.post(EXECUTE, &json!({"command": "true", "env_vars": "A=1"})).await,
        400,
        "INVALID_REQUEST",
    );
    assert!(text.starts_with("env_vars: "), "{text}");
}

#[tokio::test]
async fn time_and_memory_are_limited() {
    let server = Server::shared().await;
    let body = json!({"command": "echo begun; sleep 600", "timeout_ms": 700});
    let reply = within("the command is killed", SOON, execute(&server, &body)).await;
    assert_eq!(
        (&reply["exit_code"], &reply["error"]),
        (&json!(124), &json!("command timed out after 700 ms"))
    );
    assert_eq!(reply["stdout"], "begun\n", "{reply}");
    let fill = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done";
    let reply =
        within("the command is killed", SOON, execute(&server, &json!({"command": fill, "memory_mb": 64})))
            .await;
    assert_eq!(reply["exit_code"], 137, "{reply}");
    assert_eq!(reply["error"], "command reached its memory limit and was killed", "{reply}");
}

#[tokio::test]
async fn language_images_run_the_machines_own_interpreters() {
    let server = Server::shared().await;
    let python = json!({"command": "python3 -c 'print(6 * 7)'", "image": "python:3.11-slim"});
    assert_eq!(stdout(&server, &python).await, "42\n");
    let node = json!({"command": "node -e 'console.log(6 * 7)'", "image": "node:20-slim"});
    assert_eq!(stdout(&server, &node).await, "42\n");
}

#[tokio::test]
async fn no_two_commands_share_a_sandbox_and_none_sees_the_machine() {
    let server = Server::shared().await;
    assert_eq!(stdout(&server, &json!({"command": "touch /tmp/trace && ls /tmp"})).await, "trace\n");
    assert_eq!(stdout(&server, &json!({"command": "ls -A /tmp"})).await, "");
    let body = json!({"command": "test $(id -u) -ne 0; ls /root /home /etc/shadow 2>/dev/null; env | grep -c E2E; true"});
    assert_eq!(stdout(&server, &body).await, "0\n");
}

#[tokio::test]
async fn a_cached_command_runs_once() {
    let server = Server::start().await;
    let body = |value: &str| json!({"command": "cat /proc/sys/kernel/random/uuid", "mode": "cached", "env_vars": {"X": value}});
    let first = execute(&server, &body("1")).await;
    let second = execute(&server, &body("1")).await;
    assert_eq!((&first["stdout"], &first["cache_hit"]), (&second["stdout"], &json!(false)));
    assert_eq!(second["cache_hit"], true);
    assert!(second["duration_ms"].as_u64().is_some_and(|ms| ms < 10), "{second}");
    assert_ne!(execute(&server, &body("2")).await["stdout"], first["stdout"]);
    let plain = json!({"command": "cat /proc/sys/kernel/random/uuid"});
    assert_ne!(execute(&server, &plain).await["stdout"], execute(&server, &plain).await["stdout"]);
    let failing = json!({"command": "cat /proc/sys/kernel/random/uuid; exit 1", "mode": "cached"});
    assert_ne!(execute(&server, &failing).await["stdout"], execute(&server, &failing).await["stdout"]);
    let metrics = server.get("/api/v1/metrics").await.with_status(200).json();
    assert_eq!((&metrics["total_requests"], &metrics["cache_hits"]), (&json!(7), &json!(1)), "{metrics}");
    assert_eq!((&metrics["docker_executions"], &metrics["process_executions"]), (&json!(0), &json!(6)));
    let detailed = server.get("/api/v1/metrics/detailed").await.with_status(200).json();
    assert_eq!(detailed["failed_executions"], 2, "{detailed}");
    assert!(
        detailed["p99_ms"].as_f64() >= detailed["p50_ms"].as_f64() && detailed["p50_ms"].is_f64(),
        "{detailed}"
    );
}

#[tokio::test]
async fn prewarming_fills_the_pool_that_commands_use() {
    let server = Server::start().await;
    let pools = async || server.get("/api/v1/pools").await.with_status(200).json();
    assert_eq!(pools().await[0]["available"], 0);
    let asked = json!({"image": "alpine:latest", "count": 6, "runtime": "auto"});
    let reply = server.post("/api/v1/prewarm", &asked).await.with_status(200).json();
    assert_eq!(reply["target"], 6, "{reply}");
    eventually("six sandboxes wait", SOON, async || (pools().await[0]["available"] == 6).then_some(())).await;
    stdout(&server, &json!({"command": "true"})).await;
    let detailed = server.get("/api/v1/metrics/detailed").await.json();
    assert!(detailed["avg_warm_start_ms"].is_f64() && detailed["avg_cold_start_ms"].is_null(), "{detailed}");
}

#[tokio::test]
async fn a_running_command_can_be_watched_and_stopped() {
    let server = Server::shared().await;
    let id = unique("run");
    let running = tokio::spawn({
        let (server, id) = (server.clone(), id.clone());
        async move {
            let body = json!({"command": "echo early; echo oops >&2; sleep 600", "request_id": id});
            execute(&server, &body).await
        }
    });
    let path = format!("/api/v1/logs/{id}/stream");
    let mut stream = eventually("the execution can be watched", SOON, async || {
        let response = server.request(Method::GET, &path).send().await.ok()?;
        (response.status().as_u16() == 200).then_some(response)
    })
    .await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    while !(seen.contains("early") && seen.contains("oops")) {
        let chunk = within("output arrives while the command runs", SOON, stream.chunk()).await;
        let Ok(Some(chunk)) = chunk else { unreachable!("the stream ended: {seen}") };
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(seen.contains("data: {\"type\":\"stdout\",\"data\":\"early\\n\"}\n\n"), "{seen}");
    refused(server.post(EXECUTE, &json!({"command": "true", "request_id": id})).await, 409, "CONFLICT");
    server
        .send(server.request(Method::POST, &format!("/api/v1/executions/{id}/stop")))
        .await
        .with_status(204);
    let reply = within("the command is stopped", SOON, running).await;
    let Ok(reply) = reply else { unreachable!("the request failed") };
    assert_eq!((&reply["exit_code"], &reply["stdout"]), (&json!(137), &json!("early\n")), "{reply}");
    let mut rest = String::new();
    while let Ok(Some(chunk)) = within("the stream ends", SOON, stream.chunk()).await {
        rest.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(rest.ends_with("data: {\"type\":\"exit\",\"code\":137}\n\n"), "{rest}");
    refused(server.get("/api/v1/logs/nothing/stream").await, 404, "NOT_FOUND");
}

/// Reads from a WebSocket until a text has come; what the server sends is not masked (RFC 6455 §5.1).
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let read = within(text, SOON, stream.read_buf(&mut bytes)).await;
        assert!(matches!(read, Ok(1..)), "{text} does not come: {}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text frame with the mask 0 (RFC 6455 §5.2), for texts below 126 bytes.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or_default();
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

#[tokio::test]
async fn a_websocket_carries_events_and_the_command_to_stop() {
    let server = Server::shared().await;
    let id = unique("run");
    let running = tokio::spawn({
        let (server, id) = (server.clone(), id.clone());
        async move { execute(&server, &json!({"command": "echo early; sleep 600", "request_id": id})).await }
    });
    let path = format!("/api/v1/containers/{id}/stream");
    let plain = async || (server.get(&path).await.status == 400).then_some(());
    eventually("the execution is known", SOON, plain).await;
    let connected = TcpStream::connect(server.address()).await;
    let Ok(mut stream) = connected else { unreachable!("the server accepts connections") };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    assert!(stream.write_all(head.as_bytes()).await.is_ok());
    let begin = read_until(&mut stream, r#"{"type":"stdout","data":"early\n"}"#).await;
    // The key and the answer of RFC 6455 §1.3.
    assert!(begin.starts_with("HTTP/1.1 101 ") && begin.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{begin}");
    assert!(stream.write_all(&frame(r#"{"type":"get_state"}"#)).await.is_ok());
    read_until(&mut stream, r#"{"type":"custom","name":"state","data":"running"}"#).await;
    assert!(stream.write_all(&frame(r#"{"type":"stdin","data":"x"}"#)).await.is_ok());
    read_until(&mut stream, r#"{"type":"custom","name":"error""#).await;
    assert!(stream.write_all(&frame(r#"{"type":"stop"}"#)).await.is_ok());
    read_until(&mut stream, r#"{"type":"exit","code":137}"#).await;
    let reply = within("the command is stopped", SOON, running).await;
    assert!(reply.is_ok_and(|reply| reply["exit_code"] == 137));
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_command() {
    let server = Server::shared().await;
    let id = unique("run");
    let running = tokio::spawn({
        let (server, id) = (server.clone(), id.clone());
        async move { execute(&server, &json!({"command": "sleep 600", "request_id": id})).await }
    });
    let path = format!("/api/v1/logs/{id}/stream");
    let known = async || {
        let response = server.request(Method::GET, &path).send().await.ok()?;
        (response.status().as_u16() == 200).then_some(response)
    };
    let stream = eventually("the execution can be watched", SOON, known).await;
    running.abort();
    let rest = within("the stream ends", SOON, stream.text()).await.unwrap_or_default();
    assert!(rest.ends_with("data: {\"type\":\"exit\",\"code\":137}\n\n"), "{rest}");
}

#[tokio::test]
async fn what_needs_an_engine_or_snapshots_says_so() {
    let server = Server::shared().await;
    for (body, what) in [
        (json!({"command": "true", "image": "rust:1.80"}), "container engine"),
        (json!({"command": "true", "runtime": "firecracker"}), "microVM"),
        (json!({"command": "true", "mode": "checkpointed"}), "snapshots"),
        (json!({"command": "true", "mode": "branched", "branch_from": "x"}), "snapshots"),
        (json!({"command": "true", "mode": "persistent"}), "sandbox"),
        (json!({"command": "true", "snapshot_id": "q"}), "snapshot_id"),
        (json!({"command": ["true"], "checkpoint_id": "q"}), "checkpoint_id"),
        (json!({"command": "true", "branch_from": "q"}), "branch_from"),
    ] {
        let text = refused(server.post(EXECUTE, &body).await, 501, "NOT_IMPLEMENTED");
        assert!(text.contains(what), "{body}: {text}");
    }
    for path in
        ["fork", "executions/x/fork", "snapshots", "snapshots/x/restore", "instances", "instances/x/exec"]
    {
        refused(server.post(&format!("/api/v1/{path}"), &json!({})).await, 501, "NOT_IMPLEMENTED");
    }
    let text = refused(server.post_bytes(EXECUTE, "{").await, 400, "INVALID_REQUEST");
    assert!(text.contains("line 1"), "{text}");
}

#[tokio::test]
async fn bad_requests_name_the_field_and_have_the_dialects_shape() {
    let server = Server::shared().await;
    for (body, named) in [
        (json!({"command": 5}), "command: invalid type: integer `5`, expected a command as a text"),
        (json!({"command": ["a", 5]}), "command[1]: invalid type"),
        (json!({"command": "true", "timeout_ms": "a"}), "timeout_ms: invalid type"),
        (json!({"command": "true", "payload": [1, 300]}), "payload[1]: invalid value"),
        (json!({"command": "true", "cpu_cores": -1}), "cpu_cores: -1.0 is not possible"),
    ] {
        let text = refused(server.post(EXECUTE, &body).await, 400, "INVALID_REQUEST");
        assert!(text.contains(named), "{body}: {text}");
    }
    for (method, path, allowed) in [
        (Method::GET, EXECUTE, "POST"),
        (Method::POST, "/api/v1/pools", "GET"),
        (Method::POST, "/api/blueprint/functions/x", "PUT"),
    ] {
        let reply = server.send(server.request(method, path)).await;
        assert!(reply.header("allow").contains(allowed), "{path}");
        refused(reply, 405, "METHOD_NOT_ALLOWED");
    }
    for path in
        ["/api/blueprint/functions/%ff", "/api/blueprint/functions/%ff/health", "/api/v1/logs/%ff/stream"]
    {
        let text = refused(server.get(path).await, 400, "INVALID_REQUEST");
        assert!(text.contains("UTF-8"), "{text}");
    }
}

#[tokio::test]
async fn a_packages_configuration_is_refused_by_its_field() {
    let server = Server::shared().await;
    for (config, named) in [
        (r#"{"memory_mb": "x"}"#, "X-Blueprint-Config: memory_mb: invalid type"),
        (r#"{"memory_mb": 0}"#, "memory_mb: 0 is not possible"),
        (r#"{"timeout_secs": 0}"#, "timeout_secs: 0ns is not possible"),
    ] {
        let request = server.request(Method::PUT, "/api/blueprint/functions/configured");
        let request = request.header("X-Blueprint-Config", STANDARD.encode(config));
        let text =
            refused(server.send(request.body(package("bootstrap", 0o755))).await, 400, "INVALID_REQUEST");
        assert!(text.contains(named), "{config}: {text}");
    }
}

/// Reads the job, and answers with its number and how often this folder's file has been written.
const BOOTSTRAP: &str = r#"#!/bin/sh
job=$(cat)
id=$(printf %s "$job" | sed 's/.*"job_id":\([0-9]*\).*/\1/')
case $id in 7) echo "no sevens" >&2; exit 9;; esac
printf '{"job_id":%s,"result":[[%s]],"success":true}' "$id" "$FACTOR"
"#;

fn package(file: &str, mode: u32) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(mode);
    let written = writer.start_file(file, options).map(|()| writer.write_all(BOOTSTRAP.as_bytes()));
    assert!(matches!(written, Ok(Ok(()))));
    writer.finish().map(Cursor::into_inner).unwrap_or_default()
}

async fn deploy(server: &Server, id: &str, body: Vec<u8>) -> Reply {
    let config = STANDARD.encode(r#"{"memory_mb": 128, "timeout_secs": 5, "env_vars": {"FACTOR": "42"}}"#);
    let request = server.request(Method::PUT, &format!("/api/blueprint/functions/{id}")).body(body);
    server.send(request.header("X-Blueprint-Config", config).header("X-Execution-Backend", "local")).await
}

#[tokio::test]
async fn a_package_is_deployed_invoked_warmed_and_deleted() {
    let server = Server::start().await;
    let id = unique("job");
    let path = |rest: &str| format!("/api/blueprint/functions/{id}{rest}");
    let deployed = deploy(&server, &id, package("bootstrap", 0o755)).await.with_status(200).json();
    assert_eq!(
        (&deployed["function_id"], &deployed["status"]),
        (&json!(id), &json!("deployed")),
        "{deployed}"
    );
    assert_eq!((&deployed["memory_mb"], &deployed["timeout_secs"]), (&json!(128), &json!(5)));
    assert!(deployed["cold_start_ms"].is_u64() && deployed["endpoint"].is_string(), "{deployed}");
    let text = refused(deploy(&server, &id, package("bootstrap", 0o755)).await, 400, "INVALID_REQUEST");
    assert!(text.contains("already exists"), "{text}");
    let warm = server.post(&path("/warm"), &json!({})).await.with_status(200).json();
    assert_eq!((&warm["status"], &warm["instances_warmed"]), (&json!("warm"), &json!(1)), "{warm}");
    let done =
        server.post(&path("/invoke"), &json!({"job_id": 3, "args": [[1, 2]]})).await.with_status(200).json();
    assert_eq!(
        (&done["job_id"], &done["result"], &done["success"]),
        (&json!(3), &json!([[42]]), &json!(true)),
        "{done}"
    );
    assert!(done["execution_ms"].is_u64() && done["memory_used_mb"].is_u64(), "{done}");
    let wrong = server.post(&path("/invoke"), &json!({"job_id": 3, "args": [1, 300]})).await;
    assert!(refused(wrong, 400, "INVALID_REQUEST").contains("args[1]: "));
    let failed = server.post(&path("/invoke"), &json!({"job_id": 7, "args": []})).await;
    let text = refused(failed, 500, "EXECUTION_FAILED");
    assert!(text.contains("code 9") && text.contains("no sevens"), "{text}");
    let health = server.get(&path("/health")).await.with_status(200).json();
    assert_eq!((&health["status"], &health["total_invocations"]), (&json!("healthy"), &json!(2)), "{health}");
    assert!(health["last_invocation"].is_string());
    let info = server.get(&path("")).await.with_status(200).json();
    assert_eq!((&info["status"], &info["env_vars"]["FACTOR"]), (&json!("deployed"), &json!("42")), "{info}");
    let deleted = server.delete(&path("")).await.with_status(200).json();
    assert_eq!(deleted, json!({"function_id": id, "status": "deleted"}));
    refused(server.get(&path("")).await, 404, "NOT_FOUND");
    refused(server.post(&path("/invoke"), &json!({"job_id": 1, "args": []})).await, 404, "NOT_FOUND");
}

#[tokio::test]
async fn a_package_that_cannot_run_is_refused_and_not_kept() {
    let server = Server::shared().await;
    let id = unique("job");
    for body in [b"not a zip".to_vec(), package("main", 0o755), package("../bootstrap", 0o755)] {
        refused(deploy(&server, &id, body).await, 400, "INVALID_REQUEST");
        refused(server.get(&format!("/api/blueprint/functions/{id}")).await, 404, "NOT_FOUND");
    }
    refused(deploy(&server, "a%20b", package("bootstrap", 0o755)).await, 400, "INVALID_REQUEST");
}
