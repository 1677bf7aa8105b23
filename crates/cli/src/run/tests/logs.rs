use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const TWO: &str = r#"{"items":[{"id":"b","status":"failed","version":2,"duration_ms":3.25,"error":{"type":"FunctionError","class":"Error","message":"boom","stack":"Error: boom\n    at f (index.js:1)"},"logs":"","started_at":"2026-01-02T03:04:06.1Z"},{"id":"a","status":"succeeded","version":1,"duration_ms":12.5,"init_ms":4,"logs":"one\ntwo","started_at":"2026-01-02T03:04:05Z"}],"count":2}"#;

#[test]
fn logs_are_told_from_the_oldest_on() {
    let stub = always(200, TWO);
    let ran = piped(&stub, &["logs", "f", "-n", "5", "--status", "failed"]);
    assert_eq!(
        ran.out,
        "2026-01-02T03:04:05Z  succeeded  version 1  12.5 ms  (cold start 4.00 ms)  a\n  one\n  two\n\
         2026-01-02T03:04:06Z  failed  version 2  3.25 ms  b\n  FunctionError: Error: boom\n      at f (index.js:1)\n"
    );
    assert_eq!(stub.lines(), ["GET /api/v1/functions/f/logs?limit=5&status=failed"]);
    assert_eq!(piped(&stub, &["logs", "f", "--json"]).out, format!("{TWO}\n"));
}

#[test]
fn following_prints_each_record_once_until_the_server_fails() {
    let asked = AtomicUsize::new(0);
    let stub = Stub::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => json(200, r#"{"items":[{"id":"a"}]}"#),
        1 => json(200, r#"{"items":[{"id":"c","x":1.0},{"id":"b"},{"id":"a"}]}"#),
        _ => problem(503, "stopping"),
    });
    let ran = piped(&stub, &["logs", "f", "-f", "--json"]);
    assert_eq!(ran.exit, Exit::Server);
    assert_eq!(ran.out, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c\",\"x\":1.0}\n");
    assert_eq!(stub.lines()[1], "GET /api/v1/functions/f/logs?limit=100&offset=0");
}
