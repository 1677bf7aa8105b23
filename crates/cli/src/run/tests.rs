//! The subcommands against a stub server: what they send, print and end with.

#[path = "../../../client/tests/support/stub.rs"]
mod stub;

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Cursor, Write};
use std::rc::Rc;

use super::*;
use crate::args::{Command, parse_from};
use stub::{Request, Response, Stub, json, problem};

#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// What a command printed and ended with.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

/// Runs a command; `input` is what a pipe brings, `None` is a person at a terminal.
fn run_with(url: &str, args: &[&str], input: Option<&str>) -> Ran {
    let args = ["impuls", "--server", url].into_iter().chain(args.iter().copied()).map(OsString::from);
    let cli = parse_from(args).unwrap();
    let Command::Client(command) = cli.command else { panic!("not a client's command") };
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut output = Output {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        input: Box::new(Cursor::new(input.unwrap_or("y\n").as_bytes().to_vec())),
        out_is_terminal: input.is_none(),
        err_is_terminal: input.is_none(),
        input_is_terminal: input.is_none(),
        json: cli.globals.json,
    };
    let exit = perform(command, &cli.globals, &mut output);
    Ran { exit, out: out.text(), err: err.text() }
}

fn piped(stub: &Stub, args: &[&str]) -> Ran {
    run_with(&stub.url(), args, Some(""))
}

fn person(stub: &Stub, args: &[&str]) -> Ran {
    run_with(&stub.url(), args, None)
}

fn always(status: u16, body: &'static str) -> Stub {
    Stub::start(move |_| json(status, body))
}

const FUNCTION: &str = r#"{"name":"hello","runtime":"nodejs20","handler":"index.handler","status":"active","version":2,"memory_mb":128,"timeout_sec":30,"package":"zip","code_size":1536,"code_sha256":"ab","updated_at":"2026-01-02T03:04:05.6Z","environment":{"A":"1"},"later":true}"#;

#[test]
fn a_list_is_a_table_or_the_servers_json() {
    let page = format!(r#"{{"functions":[{FUNCTION}],"count":1}}"#);
    let stub = Stub::start(move |_| json(200, &page));
    let table = "NAME   RUNTIME   STATUS  VERSION  MEMORY   TIMEOUT  SIZE     UPDATED\n\
                 hello  nodejs20  active  2        128 MiB  30 s     1.5 KiB  2026-01-02T03:04:05Z\n";
    assert_eq!(piped(&stub, &["list"]).out, table);
    let ran = piped(&stub, &["list", "--json"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Success, ""));
    assert_eq!(ran.out, format!("{{\"functions\":[{FUNCTION}],\"count\":1}}\n"));
    assert!(stub.lines()[0].contains("fields=name%2Cruntime"));
    assert_eq!(stub.lines()[1], "GET /api/v1/functions");
}

#[test]
fn pages_are_put_together_without_touching_elements() {
    let stub = Stub::start(|request| {
        if request.line.contains("cursor=n") {
            json(200, r#"{"functions":[{"name":"b","x":1.0}],"count":2}"#)
        } else {
            json(200, r#"{"functions":[{"name":"a"}],"count":2,"next_cursor":"n"}"#)
        }
    });
    let ran = piped(&stub, &["list", "--json"]);
    assert_eq!(ran.out, "{\"functions\":[{\"name\":\"a\"},{\"name\":\"b\",\"x\":1.0}],\"count\":2}\n");
    piped(&stub, &["list", "--json", "--limit", "1"]);
    assert_eq!(stub.lines()[2..], ["GET /api/v1/functions?limit=1"]);
}

#[test]
fn no_functions_is_a_hint_and_no_result() {
    let ran = piped(&always(200, r#"{"functions":[],"count":0}"#), &["list"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Success, ""));
    assert!(ran.err.contains("impuls deploy"));
}

#[test]
fn get_shows_what_is_known() {
    let ran = piped(&always(200, FUNCTION), &["get", "hello"]);
    assert!(ran.out.starts_with("name          hello\nstatus        active\n"), "{}", ran.out);
    assert!(ran.out.contains("\ncode          zip, 1.5 KiB, sha256 ab\n"), "{}", ran.out);
    assert!(ran.out.contains("\nenvironment   A=1\n"), "{}", ran.out);
}

const SUCCEEDED: &str = r#"{"status_code":200,"body":{"b":1.0,"a":[]},"duration_ms":1.5,"logs":"hi\n","request_id":"r","version":2}"#;

#[test]
fn invoke_prints_exact_bytes_to_a_pipe_and_indented_json_to_a_person() {
    let stub = always(200, SUCCEEDED);
    let ran = piped(&stub, &["invoke", "hello"]);
    assert_eq!(
        (ran.exit, ran.out.as_str(), ran.err.as_str()),
        (Exit::Success, r#"{"b":1.0,"a":[]}"#, "hi\n")
    );
    let ran = person(&stub, &["invoke", "hello"]);
    assert_eq!(ran.out, "{\n  \"a\": [],\n  \"b\": 1.0\n}\n");
    assert_eq!(ran.err, "hi\n(1.50 ms, version 2, request r)\n");
    let ran = person(&stub, &["invoke", "hello", "--json"]);
    assert_eq!((ran.out, ran.err.as_str()), (format!("{SUCCEEDED}\n"), ""));
}

#[test]
fn the_event_comes_from_a_flag_a_file_or_a_pipe() {
    let stub = always(200, SUCCEEDED);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("event.json");
    std::fs::write(&file, "[1]").unwrap();
    run_with(&stub.url(), &["invoke", "f", "--data", "{\"a\": 1}"], Some("ignored"));
    run_with(&stub.url(), &["invoke", "f", "--data", &format!("@{}", file.display())], None);
    run_with(&stub.url(), &["invoke", "f"], Some("[2]"));
    run_with(&stub.url(), &["invoke", "f", "--data", "@-", "--qualifier", "live"], Some("[3]"));
    person(&stub, &["invoke", "f"]);
    let bodies: Vec<_> = stub.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [&b"{\"a\": 1}"[..], b"[1]", b"[2]", b"[3]", b""]);
    assert_eq!(stub.lines()[3], "POST /api/v1/functions/f/invoke?qualifier=live");
    let ran = person(&stub, &["invoke", "f", "--data", "@/nonexistent"]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.starts_with("error: cannot read /nonexistent: "), "{}", ran.err);
}

#[test]
fn a_failed_function_ends_with_one_and_says_why() {
    let stub = always(
        504,
        r#"{"status_code":504,"body":null,"duration_ms":9,"logs":"l","error":"late","error_type":"Timeout"}"#,
    );
    let ran = piped(&stub, &["invoke", "f"]);
    assert_eq!(
        (ran.exit, ran.out.as_str(), ran.err.as_str()),
        (Exit::FunctionFailed, "", "l\nTimeout: late\n")
    );
    assert_eq!(piped(&stub, &["invoke", "f", "--json"]).exit, Exit::FunctionFailed);
}

#[test]
fn raw_prints_the_functions_body() {
    let reply = |status| {
        move |_: &Request| Response { status, content_type: "text/plain", body: b"\x01x".into(), headers: "" }
    };
    let stub = Stub::start(reply(404));
    let ran = person(&stub, &["invoke", "f", "--raw"]);
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Success, "\u{1}x", ""));
    assert_eq!(stub.lines(), ["POST /api/v1/functions/f/invoke?raw=true"]);
    assert_eq!(piped(&Stub::start(reply(500)), &["invoke", "f", "--raw"]).exit, Exit::FunctionFailed);
}

#[test]
fn every_refusal_has_its_exit_code() {
    for (status, exit) in [
        (404, Exit::NotFound),
        (400, Exit::Refused),
        (409, Exit::Refused),
        (429, Exit::Refused),
        (500, Exit::Server),
        (503, Exit::Server),
    ] {
        let stub = Stub::start(move |_| problem(status, "because"));
        for args in
            [&["get", "f"][..], &["invoke", "f"], &["invoke", "f", "--raw"], &["delete", "f", "--yes"]]
        {
            let ran = piped(&stub, args);
            assert_eq!((ran.exit, ran.out.as_str()), (exit, ""), "{status} {args:?}");
            assert_eq!(ran.err, "error: because (try again in 3 s)\n");
        }
    }
    let other = Stub::start(|_| json(200, "<html>"));
    assert_eq!(piped(&other, &["runtimes"]).exit, Exit::Server);
}

#[test]
fn an_absent_server_ends_with_five_and_the_remedy() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run_with(&format!("http://{free}"), &["list"], Some(""));
    assert_eq!(ran.exit, Exit::Unreachable);
    let expected = format!("error: no server at http://{free}; start one with `impuls serve`");
    assert!(ran.err.starts_with(&expected) && !ran.err.contains("fields="), "{}", ran.err);
    assert_eq!(run_with("https://h", &["list"], Some("")).exit, Exit::Usage);
}

#[test]
fn delete_asks_a_person_and_needs_yes_from_a_script() {
    let stub = always(200, r#"{"message":"Function deleted successfully","name":"f"}"#);
    let refused = piped(&stub, &["delete", "f"]);
    assert_eq!(refused.exit, Exit::Usage);
    assert!(refused.err.contains("--yes") && stub.lines().is_empty());
    let asked = person(&stub, &["delete", "f"]);
    assert_eq!((asked.exit, asked.out.as_str()), (Exit::Success, "f deleted\n"));
    assert!(asked.err.starts_with("Delete f with all its versions"));
    assert_eq!(piped(&stub, &["delete", "f", "--yes"]).exit, Exit::Success);
}

#[test]
fn aliases_are_set_with_weights_and_shown_as_they_are_typed() {
    let stub = always(
        200,
        r#"{"name":"live","versions":[{"version":3,"weight":90},{"version":4,"weight":10}],"updated_at":"2026-01-02T03:04:05Z"}"#,
    );
    let ran = piped(&stub, &["alias", "set", "f", "live=3:90,4:10"]);
    assert_eq!(
        ran.out,
        "ALIAS  VERSIONS   UPDATED               DESCRIPTION\nlive   3:90,4:10  2026-01-02T03:04:05Z\n"
    );
    assert_eq!(stub.lines(), ["PUT /api/v1/functions/f/aliases/live"]);
    assert_eq!(
        stub.requests()[0].body,
        br#"{"versions":[{"version":3,"weight":90},{"version":4,"weight":10}]}"#
    );
    assert_eq!(piped(&stub, &["alias", "delete", "f", "live"]).out, "live of f deleted\n");
}

#[test]
fn rollback_versions_and_runtimes_print_tables() {
    let stub = Stub::start(|request| match request.line.as_str() {
        "GET /api/v1/runtimes" => json(
            200,
            r#"{"runtimes":[{"name":"nodejs20","aliases":["nodejs","node"],"version":"20.1.0","path":"/usr/bin/node"}]}"#,
        ),
        line if line.ends_with("/versions") => json(
            200,
            r#"{"versions":[{"version":1,"runtime":"nodejs20","handler":"a.b","memory_mb":64,"code_size":3,"code_sha256":"0123456789abcdef","published_at":"2026-01-02T03:04:05Z"}]}"#,
        ),
        _ => json(200, r#"{"name":"f","version":3}"#),
    });
    assert_eq!(
        piped(&stub, &["runtimes"]).out,
        "RUNTIME   ALIASES       VERSION  PROGRAM\nnodejs20  nodejs, node  20.1.0   /usr/bin/node\n"
    );
    assert_eq!(
        piped(&stub, &["versions", "f"]).out,
        "VERSION  RUNTIME   HANDLER  MEMORY  SIZE  SHA256        PUBLISHED\n\
         1        nodejs20  a.b      64 MiB  3 B   0123456789ab  2026-01-02T03:04:05Z\n"
    );
    assert_eq!(
        piped(&stub, &["rollback", "f", "--to", "1"]).out,
        "f rolled back; its current version is 3\n"
    );
    assert_eq!(stub.requests()[2].body, br#"{"version":1}"#);
}

#[test]
fn completions_need_no_server() {
    let ran = run_with("http://127.0.0.1:1", &["completions", "bash"], Some(""));
    assert_eq!(ran.exit, Exit::Success);
    assert!(ran.out.contains("_impuls()") && !ran.out.contains("spawner"));
}

mod deploy;
mod logs;
mod queued;
