//! What bad code gets: a typed answer, and a platform that goes on.

use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::host::processes_with;
use impuls_e2e::{Server, Value, eventually, json, unique, zip_of};
use reqwest::Method;

const NODE_ECHO: &str = "exports.handler = (event) => event;";

#[tokio::test]
async fn a_syntax_error_is_found_at_deploy_with_file_and_line() {
    let server = Server::shared().await;
    let cases = [
        ("nodejs", "index.js", "// one\n\nexports.handler = () => {\n  return 1 +;\n};\n", 4),
        (
            "nodejs",
            "index.mjs",
            "import fs from 'fs';\n\nexport const handler = () => {\n  return 1 +;\n};\n",
            4,
        ),
        ("python", "index.py", "# one\n\ndef handler(event, context):\n    return 1 +\n", 4),
    ];
    for (runtime, file, code, line) in cases {
        let (name, error) =
            server.broken(&json!({"runtime": runtime, "handler": "index.handler", "code": code})).await;
        let stem = |file: &str| file.split('.').next().map(str::to_owned);
        assert_eq!(error["file"].as_str().and_then(stem), stem(file), "{error}");
        assert_eq!(error["line"], line, "{error}");
        assert_eq!(error["type"], "SyntaxError", "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        let shown = server.get(&path(&name)).await.with_status(200).json();
        assert_eq!((&shown["status"], &shown["error"]), (&json!("error"), &error));
        let failure = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
        assert_eq!(failure["error_class"], "SyntaxError", "{failure}");
        let fixed = if runtime == "python" {
            "def handler(event, context):\n    return 1"
        } else {
            "exports.handler = () => 1"
        };
        let repaired = server.update(&name, &json!({"code": fixed})).await;
        assert_eq!((&repaired["status"], &repaired["error"]), (&json!("active"), &Value::Null));
        assert_eq!(server.call(&name, &Value::Null).await, 1);
    }
}

#[tokio::test]
async fn a_syntax_error_in_an_imported_file_names_that_file() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        ("index.js", "require('./lib/bad'); exports.handler = () => 1;"),
        ("lib/bad.js", "\nlet 1;\n"),
    ]);
    let url = format!("{FUNCTIONS}?name={}&runtime=nodejs&handler=index.handler", unique("zip"));
    let upload = server.request(Method::POST, &url).header("content-type", "application/zip").body(archive);
    let created = server.send(upload).await.with_status(201).json();
    assert_eq!(created["status"], "error", "{created}");
    assert_eq!((&created["error"]["file"], &created["error"]["line"]), (&json!("lib/bad.js"), &json!(2)));
}

#[tokio::test]
async fn a_missing_handler_is_found_at_deploy() {
    let server = Server::shared().await;
    let cases = [
        ("nodejs", "index.handler", "exports.other = () => 1", "other"),
        ("nodejs", "index.handler", "exports.handler = 5", "number"),
        ("nodejs", "index.absent", NODE_ECHO, "handler"),
        ("python", "index.handler", "def other(event, context):\n    return 1", "other"),
        ("python", "index.handler", "handler = 5", "int"),
    ];
    for (runtime, handler, code, hint) in cases {
        let (name, error) =
            server.broken(&json!({"runtime": runtime, "handler": handler, "code": code})).await;
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(hint), "{message}");
        server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    }
}

#[tokio::test]
async fn an_error_in_the_top_level_is_found_at_the_call_and_runs_once_a_sandbox() {
    let server = Server::shared().await;
    let node = "console.log('top level'); throw new RangeError('no luck');";
    let python = "print('top level')\nraise LookupError('no luck')";
    for (runtime, code, class) in [("nodejs", node, "RangeError"), ("python", python, "LookupError")] {
        let name = unique("top");
        let created = server
            .create(&json!({"name": name, "runtime": runtime, "handler": "index.handler", "code": code}))
            .await;
        assert_eq!(created["status"], "active", "{created}");
        for _ in 0..2 {
            let reply = server.invoke(&name, &Value::Null).await;
            assert_eq!(reply.logs().trim_start_matches("[INFO] "), "top level");
            let failure = reply.failure(500, "InitError");
            assert_eq!((&failure["error"], &failure["error_class"]), (&json!("no luck"), &json!(class)));
            assert!(failure["stack"].as_str().is_some_and(|stack| stack.contains("index.")), "{failure}");
        }
    }
}

#[tokio::test]
async fn the_top_level_runs_once_for_many_calls() {
    let server = Server::shared().await;
    let node = "globalThis.loads = (globalThis.loads ?? 0) + 1; let calls = 0;
        exports.handler = () => [globalThis.loads, ++calls];";
    let python = "import builtins\nbuiltins.loads = getattr(builtins, 'loads', 0) + 1\ncalls = 0\n
def handler(event, context):\n    global calls\n    calls += 1\n    return [builtins.loads, calls]";
    for name in [server.node(node).await, server.python(python).await] {
        for call in 1..=5 {
            assert_eq!(server.call(&name, &Value::Null).await, json!([1, call]));
        }
    }
}

#[tokio::test]
async fn a_thrown_error_is_reported_with_type_message_and_stack() {
    let server = Server::shared().await;
    let forms = [
        "exports.handler = () => { throw new TypeError('went wrong'); };",
        "exports.handler = async () => { throw new TypeError('went wrong'); };",
        "exports.handler = () => Promise.reject(new TypeError('went wrong'));",
        "exports.handler = (event, context, done) => done(new TypeError('went wrong'));",
        "exports.handler = async () => { await null; null.x; };",
    ];
    let node = forms.map(|code| (code, server.node(code)));
    for (code, name) in node {
        let failure = server.invoke(&name.await, &Value::Null).await.failure(500, "FunctionError");
        assert_eq!(failure["error_class"], "TypeError", "{code}");
        let message = failure["error"].as_str().unwrap();
        assert!(message == "went wrong" || message.contains("null"), "{message}");
        assert!(failure["stack"].as_str().is_some_and(|stack| stack.contains("index.js:1")), "{failure}");
    }
    let code = "def inner():\n    raise KeyError('went wrong')\n\ndef handler(event, context):\n    inner()";
    let failure = server.invoke(&server.python(code).await, &Value::Null).await.failure(500, "FunctionError");
    assert_eq!(failure["error_class"], "KeyError");
    let stack = failure["stack"].as_str().unwrap();
    assert!(stack.contains("index.py") && stack.contains("line 2") && stack.contains("inner"), "{stack}");
    assert!(!stack.contains("/opt/impuls"), "our own frames are left out: {stack}");
}

#[tokio::test]
async fn anything_may_be_thrown() {
    let server = Server::shared().await;
    let thrown = [
        "'text'",
        "{ code: 7 }",
        "null",
        "undefined",
        "Object.create(null)",
        "new Proxy({}, { get() { throw 1 } })",
    ];
    for value in thrown {
        let name = server.node(&format!("exports.handler = async () => {{ throw {value}; }};")).await;
        let failure = server.invoke(&name, &Value::Null).await.failure(500, "FunctionError");
        let expected = match value {
            "'text'" => "text",
            "{ code: 7 }" => "7",
            _ => "",
        };
        assert!(failure["error"].as_str().unwrap().contains(expected), "{value}: {failure}");
    }
}

#[tokio::test]
async fn a_sandbox_survives_an_error_of_its_function() {
    let server = Server::shared().await;
    let code = "let calls = 0; exports.handler = (event) => { calls++; if (event) throw new Error('x'); return calls; };";
    let name = server.node(code).await;
    for _ in 0..3 {
        server.invoke(&name, &json!(true)).await.failure(500, "FunctionError");
    }
    assert_eq!(server.call(&name, &json!(false)).await, 4);
}

#[tokio::test]
async fn a_result_that_is_no_json_is_a_bad_response() {
    let server = Server::shared().await;
    let node = [
        "10n",
        "(() => { const a = {}; a.a = a; return a; })()",
        "() => 1",
        "Symbol('x')",
        "'x'.repeat(6291455)",
    ];
    for value in node {
        let name = server.node(&format!("exports.handler = async () => {value};")).await;
        server.invoke(&name, &Value::Null).await.failure(500, "BadResponse");
    }
    for value in ["{1, 2}", "object()", "b'x'", "float('nan')", "'x' * 6291455"] {
        let name = server.python(&format!("def handler(event, context):\n    return {value}")).await;
        server.invoke(&name, &Value::Null).await.failure(500, "BadResponse");
    }
}

#[tokio::test]
async fn a_process_that_ends_is_exited_and_the_next_call_has_a_new_one() {
    let server = Server::shared().await;
    let node = "exports.handler = (event) => { console.log('bye'); if (event) process.exit(event); return 'alive'; };";
    let python = "import os, sys\n
def handler(event, context):\n    print('bye')\n    if event: sys.exit(event)\n    return 'alive'";
    for name in [server.node(node).await, server.python(python).await] {
        for code in [3, 7] {
            let reply = server.invoke(&name, &json!(code)).await;
            assert!(reply.logs().contains("bye"), "{}", reply.text());
            let failure = reply.failure(500, "Exited");
            assert!(failure["error"].as_str().unwrap().contains(&code.to_string()), "{failure}");
            assert_eq!(server.call(&name, &json!(0)).await, "alive");
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_is_exited() {
    let server = Server::shared().await;
    let node = "exports.handler = (event) => { process.kill(process.pid, 'SIGKILL'); return new Promise(() => {}); };";
    let python = "import os\n\ndef handler(event, context):\n    os.abort()";
    for (name, signal) in [(server.node(node).await, "9"), (server.python(python).await, "6")] {
        let failure = server.invoke(&name, &Value::Null).await.failure(500, "Exited");
        assert!(failure["error"].as_str().unwrap().contains(signal), "{failure}");
    }
}

#[tokio::test]
async fn a_crash_between_two_calls_costs_nobody_a_call() {
    let server = Server::shared().await;
    let code = "exports.handler = () => { setTimeout(() => process.exit(1), 1); return 'fine'; };";
    let name = server.node(code).await;
    for _ in 0..20 {
        let reply = server.invoke(&name, &Value::Null).await;
        // The crash may hit a call that has begun, which is that call's; it must never be a platform failure.
        assert!(reply.status == 200 || reply.json()["error_type"] == "Exited", "{}", reply.text());
    }
}

fn spinner(mark: &str) -> [(&'static str, String); 3] {
    let child = format!(
        "require('child_process').spawn(process.execPath, ['-e', 'for (;;);', '{mark}'], {{ detached: true, stdio: 'ignore' }});"
    );
    [
        (
            "nodejs",
            format!(
                "exports.handler = () => {{ process.title = '{mark}'; console.log('begun'); {child} for (;;); }};"
            ),
        ),
        (
            "nodejs",
            format!(
                "exports.handler = async () => {{ process.title = '{mark}'; console.log('begun'); {child} await new Promise(() => {{}}); }};"
            ),
        ),
        (
            "python",
            format!(
                "import os, subprocess, sys\n\ndef handler(event, context):\n    print('begun')\n    \
             subprocess.Popen([sys.executable, '-c', 'while True: pass', '{mark}'], start_new_session=True)\n    \
             while True: pass"
            ),
        ),
    ]
}

#[tokio::test]
async fn an_endless_loop_is_killed_at_the_deadline_with_everything_it_started() {
    let server = Server::shared().await;
    let mark = unique("spinner");
    for (runtime, code) in spinner(&mark) {
        let fields = json!({"timeout_sec": 1});
        let name = match runtime {
            "python" => server.python_with(&code, &fields).await,
            _ => server.node_with(&code, &fields).await,
        };
        let begun = tokio::time::Instant::now();
        let (reply, seen) = tokio::join!(server.invoke(&name, &Value::Null), async {
            let seen = async || Some(processes_with(&mark)).filter(|found| !found.is_empty());
            eventually("the function's processes show", Duration::from_secs(5), seen).await
        });
        let took = begun.elapsed();
        // Not eventually: when the caller hears of it, nothing is left.
        assert_eq!(processes_with(&mark), [], "{runtime}");
        assert!(seen.iter().all(|process| !process.is_running()));
        assert_eq!(reply.logs().trim_start_matches("[INFO] "), "begun");
        let failure = reply.failure(504, "Timeout");
        assert!(failure["error"].as_str().unwrap().contains("1 second"), "{failure}");
        assert!((1..4).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test]
async fn a_top_level_that_never_ends_is_a_timeout_of_the_call() {
    let server = Server::shared().await;
    let code = "for (;;);";
    let fields = json!({"name": unique("endless"), "runtime": "nodejs", "handler": "index.handler", "code": code, "timeout_sec": 1});
    let created = server.create(&fields).await;
    let name = created["name"].as_str().unwrap();
    server.invoke(name, &Value::Null).await.failure(504, "Timeout");
    assert_eq!(server.call(&server.node(NODE_ECHO).await, &json!(1)).await, 1);
}

#[tokio::test]
async fn what_setsid_left_behind_ends_with_its_sandbox() {
    let server = Server::shared().await;
    let mark = unique("leftover");
    let node = format!(
        "exports.handler = () => {{ require('child_process').spawn(process.execPath,
            ['-e', 'setInterval(() => {{}}, 1000)', '{mark}'], {{ detached: true, stdio: 'ignore' }}).unref(); return 'left'; }};"
    );
    let python = format!(
        "import os, subprocess, sys\n\ndef handler(event, context):\n    if os.fork() == 0:\n        os.setsid()\n        \
         subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])\n        os._exit(0)\n    \
         return 'left'"
    );
    for name in [server.node(&node).await, server.python(&python).await] {
        assert_eq!(server.call(&name, &Value::Null).await, "left");
        let shows = async || (!processes_with(&mark).is_empty()).then_some(());
        eventually("the daemon shows", Duration::from_secs(5), shows).await;
        server.remove(&name).await;
        let gone = async || processes_with(&mark).is_empty().then_some(());
        eventually("the daemon is gone", Duration::from_secs(5), gone).await;
    }
}

#[tokio::test]
async fn an_event_that_is_no_json_is_the_callers_mistake() {
    let server = Server::shared().await;
    let (node, python) =
        (server.node(NODE_ECHO), server.python("def handler(event, context):\n    return event"));
    for name in [node.await, python.await] {
        let invoke = format!("{}/invoke", path(&name));
        for event in ["{", "nope", "{'a': 1}", "1 2", "\u{feff}1"] {
            let message = server.post_bytes(&invoke, event).await.problem(400);
            assert!(message.contains("not JSON"), "{event:?}: {message}");
        }
        server.post_bytes(&invoke, vec![b'"', 0xff, b'"']).await.problem(400);
        assert_eq!(server.call(&name, &json!([1])).await, json!([1]));
    }
}

#[tokio::test]
#[ignore = "needs 40 seconds"]
async fn a_function_may_take_forty_seconds() {
    let server = Server::shared().await;
    let code = "exports.handler = () => new Promise((done) => setTimeout(done, 40000, 'at last'));";
    let name = server.node_with(code, &json!({"timeout_sec": 60})).await;
    let reply = server.invoke(&name, &Value::Null).await;
    assert!(reply.json()["duration_ms"].as_u64().is_some_and(|time| time >= 40_000), "{}", reply.text());
    assert_eq!(reply.result(), "at last");
}
