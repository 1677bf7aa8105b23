//! Python functions: contracts, forms of handlers, context, environment, logs.

use impuls_e2e::functions::FUNCTIONS;
use impuls_e2e::launch::SECRET;
use impuls_e2e::{Server, Value, json, unique, zip_of};
use reqwest::Method;

#[tokio::test]
async fn handlers_may_be_sync_and_async_with_and_without_context() {
    let server = Server::shared().await;
    let forms = [
        "def handler(event, context):\n    return event['a'] + 1",
        "def handler(event):\n    return event['a'] + 1",
        "async def handler(event, context):\n    import asyncio\n    await asyncio.sleep(0.005)\n    return event['a'] + 1",
        "handler = lambda event, context: event['a'] + 1",
        "class Handler:\n    def __call__(self, event, context):\n        return event['a'] + 1\nhandler = Handler()",
    ];
    for code in forms {
        let name = server.python(code).await;
        assert_eq!(server.call(&name, &json!({"a": 1})).await, 2, "{code}");
        assert_eq!(server.call(&name, &json!({"a": 41})).await, 42, "{code}");
    }
}

#[tokio::test]
async fn a_handler_may_have_no_dot_and_any_file_name() {
    let server = Server::shared().await;
    let code = "def handler(event, context):\n    return 'here'";
    for handler in ["handler", "index.handler", "app.handler", "src/deep/app.handler"] {
        let name = server.python_with(code, &json!({"handler": handler})).await;
        assert_eq!(server.call(&name, &Value::Null).await, "here", "{handler}");
    }
}

#[tokio::test]
async fn a_scoped_handler_may_take_only_the_event() {
    let server = Server::shared().await;
    let code = "def handler(event):\n    n = event['numbers']\n    return {'sum': sum(n), 'avg': sum(n) / len(n), 'max': max(n)}";
    let name = server.python_with(code, &json!({"contract": "scoped", "handler": "handler"})).await;
    let result = server.call(&name, &json!({"numbers": [1, 2, 6]})).await;
    assert_eq!(result, json!({"sum": 9, "avg": 3.0, "max": 6}));
}

#[tokio::test]
async fn true_false_and_null_are_values_of_the_event() {
    let server = Server::shared().await;
    let code = "def handler(event, context):\n    return [event['yes'] is True, event['no'] is False, event['none'] is None]";
    let name = server.python(code).await;
    let event = json!({"yes": true, "no": false, "none": null});
    assert_eq!(server.call(&name, &event).await, json!([true, true, true]));
}

#[tokio::test]
async fn values_come_back_as_they_were_sent() {
    let server = Server::shared().await;
    let name = server.python("def handler(event, context):\n    return event").await;
    let text = "ünïcödé \u{1F980} \\ \" \n \u{7f} \u{2028} '''";
    for event in
        [json!(null), json!(true), json!(0), json!(-1.5e-7), json!(text), json!({"": {"a": [1, {}]}})]
    {
        assert_eq!(server.call(&name, &event).await, event);
    }
    let nothing = server.python("def handler(event, context):\n    pass").await;
    assert_eq!(server.call(&nothing, &json!(1)).await, Value::Null);
}

#[tokio::test]
async fn the_context_tells_about_function_and_call() {
    let server = Server::shared().await;
    let code = "
def handler(event, context):
    return {'name': context.function_name, 'version': context.function_version, 'id': context.aws_request_id,
            'memory': context.memory_limit_in_mb, 'left': context.get_remaining_time_in_millis(),
            'arn': context.invoked_function_arn, 'group': context.log_group_name, 'stream': context.log_stream_name}
";
    let name = server.python_with(code, &json!({"memory_mb": 256, "timeout_sec": 9})).await;
    let reply = server.invoke(&name, &Value::Null).await;
    let envelope = reply.json();
    let context = reply.result();
    assert_eq!(context["name"], name.as_str());
    assert_eq!((&context["version"], &context["id"]), (&json!("1"), &envelope["request_id"]));
    assert!(context["memory"] == 256 || context["memory"] == "256", "{context}");
    assert_eq!(context["group"], format!("/impuls/{name}"));
    let left = context["left"].as_f64().unwrap();
    assert!((5_000.0..=9_000.0).contains(&left), "{left}");
    assert!(context["arn"].as_str().unwrap().contains(&name), "{context}");
    assert!(!context["stream"].as_str().unwrap().is_empty(), "{context}");
}

#[tokio::test]
async fn an_archive_may_have_packages() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        (
            "app.py",
            "from shop.prices import total\n\ndef handler(event, context):\n    return total(event)\n",
        ),
        ("shop/__init__.py", ""),
        ("shop/prices.py", "from . import tax\n\ndef total(items):\n    return sum(items) * tax.FACTOR\n"),
        ("shop/tax.py", "FACTOR = 2\n"),
    ]);
    let name = unique("zip");
    let url = format!("{FUNCTIONS}?name={name}&runtime=python&handler=app.handler");
    let upload = server.request(Method::POST, &url).header("content-type", "application/zip").body(archive);
    server.send(upload).await.with_status(201);
    assert_eq!(server.call(&name, &json!([1, 2])).await, 6);
}

#[tokio::test]
async fn what_is_printed_before_the_return_is_in_the_logs_and_not_in_the_result() {
    let server = Server::shared().await;
    let code = "
import logging, os, sys

def handler(event, context):
    print('one', {'two': 2})
    print('three', file=sys.stderr)
    logging.warning('four')
    sys.stdout.write('five, without an end')
    os.write(1, b'six\\n')
    return {'answer': 42}
";
    let name = server.python(code).await;
    for _ in 0..3 {
        let reply = server.invoke(&name, &Value::Null).await;
        let logs = reply.logs();
        assert_eq!(reply.result(), json!({"answer": 42}));
        for text in ["one {'two': 2}", "three", "four", "five, without an end", "six"] {
            assert_eq!(logs.matches(text).count(), 1, "{text}: {logs}");
        }
    }
}

#[tokio::test]
async fn a_function_has_its_own_environment_and_nothing_of_the_servers() {
    let server = Server::shared().await;
    let environment = json!({"GREETING": "Hällo = \"x\"\n2", "EMPTY": ""});
    let code = "import os\n\ndef handler(event, context):\n    return dict(os.environ)";
    let name = server.python_with(code, &json!({"environment": environment})).await;
    let seen = server.call(&name, &Value::Null).await;
    for (variable, value) in environment.as_object().unwrap() {
        assert_eq!(seen[variable], *value, "{variable}");
    }
    assert_eq!(seen["IMPULS_FUNCTION_NAME"], name.as_str());
    let ours = seen.as_object().unwrap().keys().filter(|variable| variable.starts_with("IMPULS_"));
    assert_eq!(ours.collect::<Vec<_>>(), ["IMPULS_FUNCTION_NAME"]);
    assert_eq!(seen[SECRET.0], Value::Null);
    assert_eq!(
        (&seen["HOME"], &seen["TMPDIR"], &seen["LANG"]),
        (&json!("/tmp"), &json!("/tmp"), &json!("C.UTF-8"))
    );
}

#[tokio::test]
async fn a_childs_environment_is_the_functions_too() {
    let server = Server::shared().await;
    let code = "
import json, os, subprocess, sys

def handler(event, context):
    return json.loads(subprocess.check_output([sys.executable, '-c', 'import json, os; print(json.dumps(dict(os.environ)))']))
";
    let name = server.python_with(code, &json!({"environment": {"A": "1"}})).await;
    let seen = server.call(&name, &Value::Null).await;
    assert_eq!((&seen["A"], &seen[SECRET.0]), (&json!("1"), &Value::Null));
}

#[tokio::test]
async fn pythonpath_of_a_function_is_honoured() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        ("index.py", "import found\n\ndef handler(event, context):\n    return found.VALUE\n"),
        ("vendored/found.py", "VALUE = 7\n"),
    ]);
    let environment = "%7B%22PYTHONPATH%22%3A%22/var/task/vendored%22%7D";
    let name = unique("zip");
    let url =
        format!("{FUNCTIONS}?name={name}&runtime=python&handler=index.handler&environment={environment}");
    let upload = server.request(Method::POST, &url).header("content-type", "application/zip").body(archive);
    server.send(upload).await.with_status(201);
    assert_eq!(server.call(&name, &Value::Null).await, 7);
}

#[tokio::test]
async fn pythonunbuffered_and_its_kind_reach_the_interpreter() {
    let server = Server::shared().await;
    let code = "import sys\n\ndef handler(event, context):\n    return sys.flags.optimize";
    let name = server.python_with(code, &json!({"environment": {"PYTHONOPTIMIZE": "2"}})).await;
    assert_eq!(server.call(&name, &Value::Null).await, 2);
}

#[tokio::test]
async fn the_standard_library_is_there() {
    let server = Server::shared().await;
    let code = "
import asyncio, ctypes, decimal, hashlib, sqlite3, ssl, subprocess, sys, threading, zlib, zoneinfo

def handler(event, context):
    open('/tmp/a', 'w').write('text')
    seen = []
    thread = threading.Thread(target=seen.append, args=(7,))
    thread.start()
    thread.join()
    child = subprocess.check_output([sys.executable, '-c', 'print(6 * 7)'], text=True).strip()
    return [hashlib.sha256(b'').hexdigest()[:8], open('/tmp/a').read(), seen, child,
            sqlite3.connect(':memory:').execute('select 1').fetchone()[0]]
";
    let name = server.python(code).await;
    assert_eq!(server.call(&name, &Value::Null).await, json!(["e3b0c442", "text", [7], "42", 1]));
}

#[tokio::test]
async fn sandboxes_from_one_zygote_have_different_random_numbers() {
    let server = Server::shared().await;
    let code = "import os, random, uuid\n\ndef handler(event, context):\n    return [random.random(), os.urandom(8).hex(), str(uuid.uuid4())]";
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4 {
        let name = server.python(code).await;
        for value in server.call(&name, &Value::Null).await.as_array().unwrap() {
            assert!(seen.insert(value.to_string()), "{value} twice");
        }
    }
}
