//! Function URLs: requests become events, and results become responses.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::time::Duration;

use impuls_e2e::functions::merged;
use impuls_e2e::host::{Process, processes_with};
use impuls_e2e::{Raw, Server, Value, eventually, json, unique, within};
use reqwest::{Method, Response};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that happens at once.
const PATIENCE: Duration = Duration::from_secs(30);

const ECHO: &str = "exports.handler = async (event) => event;";

async fn call(server: &Server, method: Method, path: &str) -> Value {
    server.send(server.request(method, path)).await.with_status(200).json()
}

#[tokio::test]
async fn method_path_query_headers_and_body_reach_the_function() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let path = format!("/fn/{name}/a/b%20c?x=1&y=z%20z");
    let request =
        server.request(Method::PATCH, &path).header("X-A", "1").header("Cookie", "k=v").body("text");
    let event = server.send(request).await.with_status(200).json();
    assert_eq!((&event["version"], &event["rawPath"]), (&json!("2.0"), &json!("/a/b%20c")), "{event}");
    assert_eq!(event["rawQueryString"], "x=1&y=z%20z");
    assert_eq!(event["queryStringParameters"], json!({"x": "1", "y": "z z"}));
    assert_eq!((&event["headers"]["x-a"], &event["cookies"]), (&json!("1"), &json!(["k=v"])));
    let line = &event["requestContext"]["http"];
    assert_eq!((&line["method"], &line["path"]), (&json!("PATCH"), &json!("/a/b%20c")));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("text"), &json!(false)));
    let binary = server.request(Method::POST, &format!("/fn/{name}")).body(vec![0xff, 0]);
    let event = server.send(binary).await.with_status(200).json();
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    assert_eq!(event["rawPath"], "/");
}

#[tokio::test]
async fn the_function_decides_status_headers_cookies_and_body() {
    let server = Server::shared().await;
    let code = "exports.handler = async () => ({ statusCode: 418, headers: { 'X-Tea': 'pot', Connection: 'close' }, \
                cookies: ['a=1', 'b=2'], body: Buffer.from([1, 2, 255]).toString('base64'), isBase64Encoded: true });";
    let name = server.node(code).await;
    let reply = server.get(&format!("/fn/{name}/")).await.with_status(418);
    assert_eq!((reply.header("x-tea"), reply.bytes.as_slice()), ("pot", [1, 2, 255].as_slice()));
    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    let plain = server.node("exports.handler = async () => ({ hello: 'world' });").await;
    assert_eq!(call(&server, Method::GET, &format!("/fn/{plain}")).await, json!({"hello": "world"}));
}

#[tokio::test]
async fn a_qualifier_chooses_the_version() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = async () => 1;").await;
    let change = json!({"code": "exports.handler = async () => 2;"});
    server.put(&format!("/api/v1/functions/{name}"), &change).await.with_status(200);
    assert_eq!(call(&server, Method::GET, &format!("/fn/{name}:1/x")).await, 1);
    assert_eq!(call(&server, Method::DELETE, &format!("/fn/{name}/x")).await, 2);
    server.get(&format!("/fn/{name}:9/")).await.problem(404);
    server.get("/fn/nobody/").await.problem(404);
}

#[tokio::test]
async fn failures_are_failures() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = async () => { throw new Error('no'); };").await;
    let failure = server.get(&format!("/fn/{name}")).await.failure(500, "FunctionError");
    // Whoever knows the URL may have called it; its owner finds the rest in the log.
    assert!(failure["error"].is_string() && failure.get("stack").is_none(), "{failure}");
    assert!(failure.get("logs").is_none(), "{failure}");
    assert!(records(&server, &name, 1).await[0]["error"]["stack"].is_string());
    let large = server.request(Method::POST, &format!("/fn/{name}")).body(vec![b'x'; 7 << 20]);
    assert_eq!(server.send(large).await.status, 413);
}

#[tokio::test]
async fn a_program_that_listens_gets_the_request_itself() {
    let server = Server::shared().await;
    let code = "require('http').createServer((req, res) => { let b = ''; req.on('data', (d) => b += d); req.on('end', () => { \
                res.writeHead(201, { 'X-Path': req.url, 'Set-Cookie': ['a=1', 'b=2'] }); res.end(req.method + b); }); \
                }).listen(process.env.PORT);";
    let name = server.node_with(code, &json!({"contract": "http", "handler": "main"})).await;
    let request = server.request(Method::PUT, &format!("/fn/{name}/p/q?x=1")).body("!");
    let reply = server.send(request).await.with_status(201);
    assert_eq!((reply.header("x-path"), reply.text().as_str()), ("/p/q?x=1", "PUT!"));
    assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2);
}

/// A function whose code is a Node program that listens.
async fn listening(server: &Server, handler: &str, fields: &Value) -> String {
    let code =
        format!("require('http').createServer((req, res) => {{ {handler} }}).listen(process.env.PORT);");
    let base = json!({"contract": "http", "handler": "main"});
    server.node_with(&code, &merged(base, fields)).await
}

/// A handler that streams.
async fn streaming(server: &Server, body: &str, fields: &Value) -> String {
    let code = format!("exports.handler = awslambda.streamifyResponse(async (event, out) => {{ {body} }});");
    server.node_with(&code, fields).await
}

/// The next bytes of a reply; `None` at its end.
async fn next(response: &mut Response) -> Option<String> {
    let chunk = within("a piece comes", PATIENCE, response.chunk()).await.expect("the reply goes on");
    chunk.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads to the end of a reply, which must break off.
async fn breaks_off(mut response: Response) {
    within("the reply breaks off", PATIENCE, async {
        loop {
            match response.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the reply ended well"),
                Err(_) => break,
            }
        }
    })
    .await;
}

/// The newest records of a function's calls, once there are so many.
async fn records(server: &Server, name: &str, count: usize) -> Vec<Value> {
    eventually("the calls are recorded", PATIENCE, async || {
        let logs = server.get(&format!("/api/v1/functions/{name}/logs")).await.with_status(200).json();
        let all = logs["items"].as_array().cloned().unwrap_or_default();
        (all.len() >= count).then_some(all)
    })
    .await
}

/// Goes on with `/go` when it is called; what it holds until then is `held`.
const GATED: &str = "if (req.url === '/go') { held.forEach((go) => go()); res.end(); return; } \
                     res.writeHead(201, { 'X-A': '1', 'Set-Cookie': ['a=1', 'b=2'] }); res.write('one'); \
                     (globalThis.held ??= []).push(() => res.end('two'));";

#[tokio::test]
async fn a_programs_output_arrives_before_it_has_ended() {
    let server = Server::shared().await;
    let name = listening(&server, GATED, &json!({"concurrency": 2, "max_concurrency": 2})).await;
    let mut response = server.request(Method::GET, &format!("/fn/{name}/x")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["x-a"].as_bytes()), (201, &b"1"[..]));
    assert!(response.headers().contains_key("x-impuls-request-id"));
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(next(&mut response).await.as_deref(), Some("one"));
    server.get(&format!("/fn/{name}/go")).await.with_status(200);
    assert_eq!(next(&mut response).await.as_deref(), Some("two"));
    assert_eq!(next(&mut response).await, None);
    let records = records(&server, &name, 2).await;
    assert!(records.iter().all(|record| record["status"] == "succeeded"), "{records:?}");
}

#[tokio::test]
async fn a_handler_that_streams_is_heard_before_it_has_ended() {
    let server = Server::shared().await;
    let body = "out = awslambda.HttpResponseStream.from(out, { statusCode: 202, headers: { 'X-A': event.rawPath }, \
                cookies: ['a=1'] }); for (let i = 0; i < 3; i++) { out.write(`${i}`); \
                await new Promise((done) => setTimeout(done, 50)); } out.end();";
    let name = streaming(&server, body, &json!({})).await;
    let mut response = server.request(Method::GET, &format!("/fn/{name}/p")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["x-a"].as_bytes()), (202, &b"/p"[..]));
    assert_eq!(response.headers()["set-cookie"], "a=1");
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    let mut pieces = Vec::new();
    while let Some(piece) = next(&mut response).await {
        pieces.push(piece);
    }
    assert_eq!(pieces, ["0", "1", "2"]);
    let whole = server.call(&name, &json!({"rawPath": "/q"})).await;
    assert_eq!((&whole["statusCode"], &whole["body"]), (&json!(202), &json!("012")));
    let raw = server.request(Method::POST, &format!("/api/v1/functions/{name}/invoke?raw=true"));
    assert_eq!(server.send(raw.body("{\"rawPath\":\"/r\"}")).await.with_status(202).text(), "012");
}

#[tokio::test]
async fn what_a_handler_streams_is_the_result_of_an_ordinary_call() {
    let server = Server::shared().await;
    let name = streaming(&server, "out.write('{\"a\":'); out.end('1}');", &json!({})).await;
    assert_eq!(server.call(&name, &json!({})).await, json!({"a": 1}));
    let seven = "for (let i = 0; i < 7; i++) out.write(Buffer.alloc(1 << 20)); out.end();";
    let name = streaming(&server, seven, &json!({})).await;
    server.invoke(&name, &json!({})).await.failure(500, "FunctionError");
    let reply = server.get(&format!("/fn/{name}")).await.with_status(200);
    assert_eq!(reply.bytes.len(), 7 << 20);
}

/// Resident memory of the server alone, in MiB.
fn memory(server: &Server) -> u64 {
    Process::running(server.pid()).expect("the server runs").resident_mib()
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions_in_little_memory() {
    const SIZE: usize = 64 << 20;
    let server = Server::start().await;
    let handler = "if (req.method === 'GET') { let left = 1024; const more = () => { while (left > 0) { left--; \
                   if (!res.write(Buffer.alloc(65536, left & 255))) { res.once('drain', more); return; } } res.end(); }; more(); } \
                   else { let n = 0; req.on('data', (d) => n += d.length); \
                   req.on('end', () => res.end(`${n} ${req.headers['content-length']}`)); }";
    let name = listening(&server, handler, &json!({})).await;
    let path = format!("/fn/{name}/");
    server.get(&path).await.with_status(200);
    let before = memory(&server);
    let mut download = server.request(Method::GET, &path).send().await.unwrap();
    let (mut count, mut most) = (0, 0);
    while let Some(chunk) = download.chunk().await.unwrap() {
        count += chunk.len();
        most = most.max(memory(&server));
    }
    assert_eq!(count, SIZE);
    let upload = server.request(Method::POST, &path).body(vec![7; SIZE]);
    let watching = async {
        loop {
            most = most.max(memory(&server));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reply = tokio::select! {
        reply = server.send(upload) => reply.with_status(200),
        () = watching => unreachable!(),
    };
    assert_eq!(reply.text(), format!("{SIZE} {SIZE}"));
    assert!(most < before + 32, "{before} MiB before, {most} MiB meanwhile");
}

#[tokio::test]
async fn a_program_echoes_while_it_still_receives() {
    let server = Server::shared().await;
    let name = listening(&server, "res.writeHead(200); req.pipe(res);", &json!({})).await;
    let mut raw = Raw::open(&server).await;
    let head = format!("POST /fn/{name}/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw.write(head.as_bytes()).await;
    for text in ["ping", "pong"] {
        raw.write(format!("4\r\n{text}\r\n").as_bytes()).await;
        let seen = raw.until(text, 1).await;
        assert!(seen.contains(text), "{seen:?}");
    }
    raw.write(b"0\r\n\r\n").await;
    assert!(raw.until("0\r\n\r\n", 1).await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn a_client_that_hangs_up_in_mid_body_frees_the_slot() {
    let server = Server::shared().await;
    let forever = "out.write('x'); await new Promise(() => {});";
    let limits = json!({"max_concurrency": 1, "timeout_sec": 60});
    let code = format!("if (event.rawPath === '/') {{ {forever} }} out.end('done');");
    let name = streaming(&server, &code, &limits).await;
    let mut response = server.request(Method::GET, &format!("/fn/{name}/")).send().await.unwrap();
    assert_eq!(next(&mut response).await.as_deref(), Some("x"));
    drop(response);
    let again = within("the slot is free", PATIENCE, server.get(&format!("/fn/{name}/again"))).await;
    assert_eq!(again.with_status(200).text(), "done");
    let records = records(&server, &name, 2).await;
    assert!(records.iter().any(|record| record["status"] == "cancelled"), "{records:?}");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_call_alone() {
    let server = Server::shared().await;
    let handler = "if (req.url === '/open') { res.end(`${globalThis.open ?? 0}`); return; } \
                   globalThis.open = (globalThis.open ?? 0) + 1; req.socket.on('close', () => globalThis.open--); \
                   const more = () => { while (res.write(Buffer.alloc(65536))); res.once('drain', more); }; more();";
    let name = listening(&server, handler, &json!({"concurrency": 4, "timeout_sec": 60})).await;
    let path = format!("/fn/{name}/");
    let mut kept = server.request(Method::GET, &path).send().await.unwrap();
    let mut dropped = server.request(Method::GET, &path).send().await.unwrap();
    assert!(next(&mut kept).await.is_some() && next(&mut dropped).await.is_some());
    drop(dropped);
    eventually("the program hears of it", PATIENCE, async || {
        (server.get(&format!("/fn/{name}/open")).await.with_status(200).text() == "1").then_some(())
    })
    .await;
    assert!(next(&mut kept).await.is_some());
}

#[tokio::test]
async fn a_deadline_in_mid_body_breaks_the_reply() {
    let server = Server::shared().await;
    let name =
        streaming(&server, "out.write('x'); await new Promise(() => {});", &json!({"timeout_sec": 1})).await;
    let response = server.request(Method::GET, &format!("/fn/{name}/")).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    breaks_off(response).await;
    assert_eq!(records(&server, &name, 1).await[0]["status"], "timeout");
    let name = listening(&server, "res.write('x');", &json!({"timeout_sec": 1})).await;
    breaks_off(server.request(Method::GET, &format!("/fn/{name}/")).send().await.unwrap()).await;
}

#[tokio::test]
async fn a_deadline_holds_although_nobody_reads() {
    let server = Server::shared().await;
    let body = "while (true) await new Promise((done) => out.write(Buffer.alloc(65536), done));";
    let name = streaming(&server, body, &json!({"timeout_sec": 1})).await;
    let mut raw = Raw::open(&server).await;
    raw.write(format!("GET /fn/{name}/ HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    assert_eq!(records(&server, &name, 1).await[0]["status"], "timeout");
    drop(raw);
}

#[tokio::test]
async fn a_sandbox_that_dies_in_mid_body_breaks_the_reply() {
    let server = Server::shared().await;
    let dies = "out.write('x', () => process.kill(process.pid, 'SIGKILL')); await new Promise(() => {});";
    let name = streaming(&server, dies, &json!({})).await;
    match server.request(Method::GET, &format!("/fn/{name}/")).send().await {
        // The end may be known before anything was sent.
        Ok(response) if response.status().as_u16() == 500 => {}
        Ok(response) => breaks_off(response).await,
        Err(error) => panic!("{error}"),
    }
    let mark = unique("dies");
    let name = listening(&server, &format!("process.title = '{mark}'; res.write('x');"), &json!({})).await;
    let mut response = server.request(Method::GET, &format!("/fn/{name}/")).send().await.unwrap();
    assert_eq!(next(&mut response).await.as_deref(), Some("x"));
    for process in processes_with(&mark) {
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
        let _ended = pid.map(|pid| kill_process(pid, Signal::KILL));
    }
    breaks_off(response).await;
}

#[tokio::test]
async fn lengths_and_replies_without_a_body_are_as_the_program_says() {
    let server = Server::shared().await;
    let handler = "if (req.url === '/none') { res.writeHead(204); res.end(); return; } \
                   res.writeHead(200, { 'Content-Length': 5 }); res.end(req.method === 'HEAD' ? undefined : 'hello');";
    let name = listening(&server, handler, &json!({})).await;
    let got = server.get(&format!("/fn/{name}/")).await.with_status(200);
    assert_eq!((got.header("content-length"), got.text().as_str()), ("5", "hello"));
    let head = server.send(server.request(Method::HEAD, &format!("/fn/{name}/"))).await.with_status(200);
    assert_eq!((head.header("content-length"), head.bytes.len()), ("5", 0));
    server.get(&format!("/fn/{name}/none")).await.with_status(204);
    let records = records(&server, &name, 3).await;
    assert!(records.iter().all(|record| record["status"] == "succeeded"), "{records:?}");
}

#[tokio::test]
async fn a_head_that_is_none_is_a_failure() {
    let server = Server::shared().await;
    let body = "out = awslambda.HttpResponseStream.from(out, { statusCode: 99 }); out.end('x');";
    let name = streaming(&server, body, &json!({})).await;
    server.get(&format!("/fn/{name}/")).await.failure(500, "BadResponse");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_sends_cancels_the_call() {
    let server = Server::shared().await;
    let handler = "if (req.method === 'GET') { res.end('free'); return; } req.resume(); req.on('end', () => res.end());";
    let fields = json!({"max_concurrency": 1, "timeout_sec": 60});
    let name = listening(&server, handler, &fields).await;
    let mut raw = Raw::open(&server).await;
    let head = format!("POST /fn/{name}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nbegun");
    raw.write(head.as_bytes()).await;
    drop(raw);
    let reply = within("the slot is free", PATIENCE, server.get(&format!("/fn/{name}/"))).await;
    assert_eq!(reply.with_status(200).text(), "free");
}

#[tokio::test]
async fn a_program_may_answer_without_reading_the_body() {
    let server = Server::shared().await;
    let name = listening(&server, "res.writeHead(413); res.end('enough');", &json!({})).await;
    for _ in 0..3 {
        let upload = server.request(Method::POST, &format!("/fn/{name}/")).body(vec![0; 8 << 20]);
        assert_eq!(server.send(upload).await.with_status(413).text(), "enough");
    }
}
