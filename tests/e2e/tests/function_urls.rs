//! Function URLs: requests become events, and results become responses.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use impuls_e2e::{Server, Value, json};
use reqwest::Method;

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
    server.get(&format!("/fn/{name}")).await.failure(500, "FunctionError");
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
