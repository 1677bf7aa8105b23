//! Node.js functions: contracts, forms of handlers, context, environment, logs.

#![expect(clippy::expect_used, reason = "a helper of a test, which ends by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use impuls_e2e::functions::FUNCTIONS;
use impuls_e2e::launch::SECRET;
use impuls_e2e::{Data, Launch, Server, Value, json, unique, zip_of};
use reqwest::Method;

#[tokio::test]
async fn handlers_may_be_sync_async_and_callback() {
    let server = Server::shared().await;
    let forms = [
        "exports.handler = (event) => event.a + 1;",
        "exports.handler = async (event, context) => event.a + 1;",
        "exports.handler = (event) => new Promise((done) => setTimeout(done, 5, event.a + 1));",
        "exports.handler = (event, context, done) => { setTimeout(() => done(null, event.a + 1), 5); };",
        "exports.handler = function (event, context, done) { done(null, event.a + 1); };",
        "module.exports = { handler: async ({ a }) => a + 1 };",
    ];
    for code in forms {
        let name = server.node(code).await;
        assert_eq!(server.call(&name, &json!({"a": 1})).await, 2, "{code}");
        assert_eq!(server.call(&name, &json!({"a": 41})).await, 42, "{code}");
    }
}

#[tokio::test]
async fn modules_may_be_commonjs_or_es_modules() {
    let server = Server::shared().await;
    let forms = [
        "const os = require('os'); exports.handler = () => typeof os.EOL;",
        "import os from 'node:os';\nexport const handler = async () => typeof os.EOL;",
        "export async function handler() { const os = await import('os'); return typeof os.EOL; }",
        "const os = await import('os');\nexport default { handler: () => typeof os.EOL };",
        "import { createRequire } from 'module';\nconst require = createRequire(import.meta.url);\n\
         export const handler = () => typeof require('os').EOL;",
    ];
    for code in forms {
        let name = server.node(code).await;
        assert_eq!(server.call(&name, &Value::Null).await, "string", "{code}");
    }
}

#[tokio::test]
async fn a_handler_may_have_no_dot_and_any_file_name() {
    let server = Server::shared().await;
    for handler in ["handler", "index.handler", "app.handler", "src/deep/app.handler", "my.app.handler"] {
        let name = server.node_with("exports.handler = () => 'here'", &json!({"handler": handler})).await;
        assert_eq!(server.call(&name, &Value::Null).await, "here", "{handler}");
    }
}

#[tokio::test]
async fn a_scoped_handler_need_not_be_exported() {
    let server = Server::shared().await;
    let forms = [
        "async function handler(event) { return { message: 'Hi ' + event.name }; }",
        "const handler = (event, context) => ({ message: 'Hi ' + event.name });",
        "function handler(event) { return { message: 'Hi ' + event.name }; } // the last line is a comment",
        "exports.handler = (event) => ({ message: 'Hi ' + event.name });",
    ];
    for code in forms {
        for handler in ["handler", "index.handler"] {
            let name = server.node_with(code, &json!({"contract": "scoped", "handler": handler})).await;
            assert_eq!(
                server.call(&name, &json!({"name": "you"})).await,
                json!({"message": "Hi you"}),
                "{code}"
            );
        }
    }
}

#[tokio::test]
async fn values_come_back_as_they_were_sent() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = (event) => event;").await;
    let text = "ünïcödé \u{1F980} \\ \" \n \u{7f} \u{2028}";
    let deep = (0..100).fold(json!([]), |inner, _| json!([inner]));
    for event in
        [json!(null), json!(true), json!(0), json!(-1.5e-7), json!(text), json!({"": {"a": [1, {}]}}), deep]
    {
        assert_eq!(server.call(&name, &event).await, event);
    }
    let nothing = server.node("exports.handler = () => {};").await;
    assert_eq!(server.call(&nothing, &json!(1)).await, Value::Null);
}

#[tokio::test]
async fn the_context_tells_about_function_and_call() {
    let server = Server::shared().await;
    let code = "exports.handler = async (event, context) => ({
        name: context.functionName, version: context.functionVersion, memory: context.memoryLimitInMB,
        left: context.getRemainingTimeInMillis(), id: context.awsRequestId, arn: context.invokedFunctionArn,
        group: context.logGroupName, stream: context.logStreamName, waits: context.callbackWaitsForEmptyEventLoop });";
    let name = server.node_with(code, &json!({"memory_mb": 256, "timeout_sec": 9})).await;
    let reply = server.invoke(&name, &Value::Null).await;
    let envelope = reply.json();
    let context = reply.clone().result();
    assert_eq!(context["name"], name.as_str());
    assert_eq!((&context["version"], &context["memory"]), (&json!("1"), &json!("256")));
    assert_eq!(context["id"], envelope["request_id"]);
    assert_eq!(reply.header("x-impuls-request-id"), context["id"].as_str().unwrap());
    assert_eq!(context["group"], format!("/impuls/{name}"));
    let left = context["left"].as_f64().unwrap();
    assert!((5_000.0..=9_000.0).contains(&left), "{left}");
    assert!(context["arn"].as_str().unwrap().contains(&name), "{context}");
    assert!(!context["stream"].as_str().unwrap().is_empty(), "{context}");
    assert_eq!(context["waits"], true);
}

const MANY_FILES: [(&str, &str); 4] = [
    (
        "src/app.js",
        "const { greet } = require('../lib/greet'); exports.handler = (event) => greet(event.name);",
    ),
    (
        "lib/greet.js",
        "exports.greet = (name) => `${require('words').hello} ${name}${require('./data.json').end}`;",
    ),
    ("lib/data.json", "{\"end\": \"!\"}"),
    ("node_modules/words/index.js", "exports.hello = 'Hello';"),
];

#[tokio::test]
async fn an_archive_may_have_many_files() {
    let server = Server::shared().await;
    let archive = zip_of(&MANY_FILES);
    let name = unique("zip");
    let url = format!(
        "{FUNCTIONS}?name={name}&runtime=nodejs&handler=src/app.handler&timeout_sec=5&environment=%7B%7D"
    );
    let upload =
        server.request(Method::POST, &url).header("content-type", "application/zip").body(archive.clone());
    let created = server.send(upload).await.with_status(201).json();
    assert_eq!((&created["package"], &created["timeout_sec"]), (&json!("zip"), &json!(5)));
    assert_eq!(created["code"], Value::Null);
    assert_eq!(server.call(&name, &json!({"name": "you"})).await, "Hello you!");
    let zip = base64::engine::general_purpose::STANDARD.encode(archive);
    let name = unique("zip");
    server
        .create(&json!({"name": name, "runtime": "nodejs", "handler": "src/app.handler", "zip": zip}))
        .await;
    assert_eq!(server.call(&name, &json!({"name": "me"})).await, "Hello me!");
}

#[tokio::test]
async fn an_archive_may_be_an_es_module_package() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        ("package.json", "{\"type\": \"module\"}"),
        ("index.js", "import { twice } from './twice.js'; export const handler = (event) => twice(event);"),
        ("twice.js", "export const twice = (n) => 2 * n;"),
    ]);
    let url = format!("{FUNCTIONS}?name={}&runtime=nodejs&handler=index.handler", unique("esm"));
    let upload = server.request(Method::POST, &url).header("content-type", "application/zip").body(archive);
    let created = server.send(upload).await.with_status(201).json();
    assert_eq!(server.call(created["name"].as_str().unwrap(), &json!(21)).await, 42);
}

#[tokio::test]
async fn what_is_printed_before_the_return_is_in_the_logs_and_not_in_the_result() {
    let server = Server::shared().await;
    let code = "exports.handler = async () => {
        console.log('one', { two: 2 }); console.error('three'); console.warn('four'); console.info('five');
        console.debug('six'); process.stdout.write('seven\\n'); process.stderr.write('eight, without an end');
        return { answer: 42 }; };";
    let name = server.node(code).await;
    for _ in 0..3 {
        let reply = server.invoke(&name, &Value::Null).await;
        let logs = reply.logs();
        assert_eq!(reply.result(), json!({"answer": 42}));
        for text in [
            "[INFO] one { two: 2 }",
            "[ERROR] three",
            "[WARN] four",
            "[INFO] five",
            "[DEBUG] six",
            "seven",
            "eight, without an end",
        ] {
            assert_eq!(logs.matches(text).count(), 1, "{text}: {logs}");
        }
    }
}

#[tokio::test]
async fn what_a_child_process_prints_is_in_the_logs() {
    let server = Server::shared().await;
    let code = "exports.handler = () => {
        require('child_process').spawnSync(process.execPath, ['-e', 'console.log(\"from a child\")'], { stdio: 'inherit' });
        return 'done'; };";
    let reply = server.invoke(&server.node(code).await, &Value::Null).await;
    assert!(reply.logs().contains("from a child"), "{}", reply.text());
    assert_eq!(reply.result(), "done");
}

#[tokio::test]
async fn what_the_top_level_prints_is_in_the_logs_of_the_first_call() {
    let server = Server::shared().await;
    let name = server.node("console.log('loading'); exports.handler = () => 1;").await;
    assert_eq!(server.invoke(&name, &Value::Null).await.logs(), "[INFO] loading");
    assert_eq!(server.invoke(&name, &Value::Null).await.logs(), "");
}

#[tokio::test]
async fn a_function_has_its_own_environment_and_nothing_of_the_servers() {
    let server = Server::shared().await;
    let environment = json!({"GREETING": "Hällo = \"x\"\n2", "EMPTY": "", "PATH_TO": "/x"});
    let code = "exports.handler = () => process.env;";
    let name = server.node_with(code, &json!({"environment": environment})).await;
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
    assert_eq!(seen["PATH"], "/usr/local/bin:/usr/bin:/bin");
}

#[tokio::test]
async fn node_options_of_a_function_are_honoured() {
    let server = Server::shared().await;
    let code = "exports.handler = () => [Error.stackTraceLimit, process.env.NODE_OPTIONS];";
    let options = json!({"environment": {"NODE_OPTIONS": "--stack-trace-limit=3"}});
    let name = server.node_with(code, &options).await;
    assert_eq!(server.call(&name, &Value::Null).await, json!([3, "--stack-trace-limit=3"]));
    let plain = server.node(code).await;
    assert_eq!(server.call(&plain, &Value::Null).await, json!([10, null]));
}

#[tokio::test]
async fn the_standard_library_is_there() {
    let server = Server::shared().await;
    let code = "const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib');
        require('https'); require('worker_threads'); require('child_process');
        exports.handler = async () => {
            fs.writeFileSync('/tmp/a', 'text');
            const worker = await new Promise((done) => new (require('worker_threads').Worker)(
                'require(\"worker_threads\").parentPort.postMessage(7)', { eval: true }).on('message', done));
            return [crypto.createHash('sha256').update('').digest('hex').slice(0, 8), fs.readFileSync('/tmp/a', 'utf8'),
                zlib.gunzipSync(zlib.gzipSync('z')).toString(), typeof fetch, worker,
                (1234.5).toLocaleString('de-DE'), new Date(0).toLocaleString('en-GB', { timeZone: 'Europe/Berlin' })]; };";
    let name = server.node(code).await;
    let expected = json!(["e3b0c442", "text", "z", "function", 7, "1.234,5", "01/01/1970, 01:00:00"]);
    assert_eq!(server.call(&name, &Value::Null).await, expected);
}

/// A release of Node.js as npm has it, kept between runs.
fn release(major: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("npm-node-{major}"));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let package = format!("node-linux-{arch}");
    if !folder.join("node_modules").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        let installed = npm.arg(format!("{package}@{major}")).status();
        assert!(installed.is_ok_and(|status| status.success()), "npm cannot install Node.js {major}");
    }
    folder.join("node_modules").join(package)
}

#[tokio::test]
#[ignore = "needs npm"]
async fn every_version_that_is_installed_runs_beside_the_others() {
    const MAJORS: [u32; 3] = [18, 22, 24];
    let data = Data::new();
    let toolchains = data.scratch().join("toolchains");
    std::fs::create_dir(&toolchains).expect("a folder");
    for major in MAJORS {
        std::os::unix::fs::symlink(release(major), toolchains.join(format!("node{major}"))).expect("a link");
    }
    let server = Launch::on(&data).argument("--toolchains").argument(&toolchains).start().await;
    let code = "import { once } from 'node:events';\n\
                export const handler = async (event, context) => { console.log(typeof once); return [process.version, event, context.functionVersion]; };";
    for major in MAJORS {
        for runtime in [format!("nodejs{major}"), format!("nodejs{major}-ts")] {
            let name = unique("node");
            let fields = json!({"name": name, "runtime": runtime, "handler": "index.handler", "code": code});
            server.create(&fields).await;
            let reply = server.invoke(&name, &json!({"n": 1})).await;
            assert_eq!(reply.logs(), "[INFO] function", "{runtime}");
            let result = reply.result();
            assert!(
                result[0].as_str().is_some_and(|version| version.starts_with(&format!("v{major}."))),
                "{result}"
            );
            assert_eq!((&result[1], &result[2]), (&json!({"n": 1}), &json!("1")));
        }
    }
    let programs = "process.stdin.on('data', (event) => process.stdout.write(event))";
    let fields = json!({"name": "cat", "runtime": "nodejs24", "handler": "main", "contract": "program", "code": programs});
    server.create(&fields).await;
    assert_eq!(server.call("cat", &json!([1])).await, json!([1]));
}
