use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json as value};

use super::*;

const LOADED: &str = r#"{"name":"hello","runtime":"nodejs20","handler":"hello.handler","status":"active","version":1,"code_size":3}"#;

/// A server that knows no function, or one with this runtime.
fn server(runtime: Option<&'static str>) -> Stub {
    Stub::start(move |request| match (request.line.split(' ').next(), runtime) {
        (Some("GET"), None) => problem(404, "function hello not found"),
        (Some("GET"), Some(runtime)) => {
            json(200, &value!({ "id": "7", "name": "hello", "runtime": runtime }).to_string())
        }
        (Some("POST"), _) => json(201, LOADED),
        _ => json(200, LOADED),
    })
}

fn source(name: &str) -> (tempfile::TempDir, String) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join(name);
    std::fs::write(&path, "x=1").unwrap();
    let path = path.to_str().unwrap().to_owned();
    (scratch, path)
}

fn sent(stub: &Stub) -> (String, Value) {
    let last = stub.requests().pop().unwrap();
    (last.line, serde_json::from_slice(&last.body).unwrap())
}

#[test]
fn a_new_file_is_created_with_name_runtime_and_handler_of_its_own() {
    let (_scratch, path) = source("hello.mjs");
    let stub = server(None);
    let ran = piped(&stub, &["deploy", &path]);
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Success, "hello version 1 (nodejs20, hello.handler, 3 B)\n")
    );
    let expected = value!({"name":"hello","runtime":"nodejs","handler":"hello.handler","code":"x=1"});
    assert_eq!(sent(&stub), ("POST /api/v1/functions".to_owned(), expected));
}

#[test]
fn every_setting_reaches_the_server() {
    let (_scratch, path) = source("a.py");
    let stub = server(None);
    let flags = "--name hello --runtime python3 --handler a.run --memory 256 --timeout 5 --env A=1 --env B=2 \
                 --concurrency 2 --max-concurrency 9 --vcpu 0.5 --idle-timeout 60 --min-warm 1 --contract scoped \
                 --description d";
    let args: Vec<&str> = ["deploy", &path].into_iter().chain(flags.split_whitespace()).collect();
    assert_eq!(piped(&stub, &args).exit, Exit::Success);
    let expected = value!({
        "name": "hello", "runtime": "python3", "handler": "a.run", "code": "x=1", "memory_mb": 256,
        "timeout_sec": 5, "environment": {"A": "1", "B": "2"}, "concurrency": 2, "max_concurrency": 9,
        "vcpu": 0.5, "idle_timeout_sec": 60, "min_warm": 1, "contract": "scoped", "description": "d",
    });
    assert_eq!(sent(&stub).1, expected);
}

#[test]
fn an_existing_function_keeps_what_is_not_given() {
    let (_scratch, path) = source("hello.js");
    let stub = server(Some("nodejs18"));
    piped(&stub, &["deploy", &path]);
    assert_eq!(sent(&stub), ("PUT /api/v1/functions/7".to_owned(), value!({"code": "x=1"})));
    let stub = server(Some("python311"));
    piped(&stub, &["deploy", &path, "--timeout", "9"]);
    let expected = value!({"runtime":"nodejs","handler":"hello.handler","code":"x=1","timeout_sec":9});
    assert_eq!(sent(&stub).1, expected);
}

#[test]
fn a_function_that_somebody_else_created_meanwhile_is_updated() {
    let (_scratch, path) = source("hello.js");
    let is_taken = AtomicBool::new(false);
    let stub = Stub::start(move |request| match request.line.split(' ').next() {
        Some("GET") if is_taken.load(Ordering::Relaxed) => json(200, r#"{"id":"7","name":"hello"}"#),
        Some("GET") => problem(404, "no"),
        Some("POST") => {
            is_taken.store(true, Ordering::Relaxed);
            problem(409, "taken")
        }
        _ => json(200, LOADED),
    });
    assert_eq!(piped(&stub, &["deploy", &path]).exit, Exit::Success);
    assert_eq!(sent(&stub).0, "PUT /api/v1/functions/7");
}

#[test]
fn another_apis_function_of_the_name_is_left_alone() {
    let (_scratch, path) = source("hello.js");
    let stub = Stub::start(|request| match request.line.split(' ').next() {
        Some("GET") => json(200, r#"{"id":"7","name":"hello","scope":"gofaas/1.0.0","runtime":"python311"}"#),
        Some("POST") => json(201, LOADED),
        _ => problem(500, "nothing is to be changed"),
    });
    assert_eq!(piped(&stub, &["deploy", &path]).exit, Exit::Success);
    assert_eq!(sent(&stub).0, "POST /api/v1/functions");
}

#[test]
fn a_folder_goes_as_an_archive() {
    let (scratch, _) = source("index.js");
    let stub = server(None);
    piped(&stub, &["deploy", scratch.path().to_str().unwrap(), "--name", "hello"]);
    let (_, body) = sent(&stub);
    assert_eq!((&body["runtime"], &body["handler"]), (&value!("nodejs"), &value!("index.handler")));
    assert!(body["zip"].as_str().unwrap().starts_with("UEsDB") && body.get("code").is_none());
}

#[test]
fn code_that_does_not_load_ends_with_four_and_its_place() {
    let (_scratch, path) = source("hello.js");
    let broken = r#"{"name":"hello","status":"error","version":1,"error":{"type":"SyntaxError","message":"Unexpected token","file":"hello.js","line":3}}"#;
    let stub =
        Stub::start(
            |request| {
                if request.line.starts_with("GET") { problem(404, "no") } else { json(201, broken) }
            },
        );
    let ran = piped(&stub, &["deploy", &path]);
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(
        ran.err,
        "error: the code of hello cannot be used: hello.js:3: SyntaxError: Unexpected token\n"
    );
    let ran = piped(&stub, &["deploy", &path, "--json"]);
    assert_eq!((ran.exit, ran.out), (Exit::Refused, format!("{broken}\n")));
}

#[test]
fn what_cannot_be_deployed_is_refused_before_anything_is_sent() {
    let (scratch, path) = source("notes.txt");
    let stub = server(None);
    let ran = piped(&stub, &["deploy", &path]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("give --runtime"), "{}", ran.err);
    assert_eq!(piped(&stub, &["deploy", "/nonexistent"]).exit, Exit::Usage);
    assert!(Path::new(&path).exists() && stub.lines().is_empty());
    // Only the server can know whether a folder without a usual file is new.
    let ran = piped(&stub, &["deploy", scratch.path().to_str().unwrap(), "--name", "hello"]);
    assert!(ran.err.contains("--runtime and --handler"), "{}", ran.err);
}
