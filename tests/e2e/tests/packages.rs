//! Dependencies: packages are installed when a function is deployed, in a sandbox of the build's own.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use impuls_e2e::functions::{FUNCTIONS, merged, path};
use impuls_e2e::{Data, Launch, Server, Value, eventually, json, unique, zip_of};
use reqwest::Method;

/// A deploy's log and the function as it then is.
struct Deployed {
    log: String,
    function: Value,
}

fn archive(files: &[(&str, &str)]) -> String {
    STANDARD.encode(zip_of(files))
}

async fn deploy(server: &Server, method: Method, path: &str, fields: &Value) -> Deployed {
    let request = server.request(method, path).header("accept", "application/x-ndjson").json(fields);
    let text = server.send(request).await.with_status(200).text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let log = lines.iter().filter_map(|line| line["log"].as_str()).collect();
    let function = lines.last().map(|line| line["function"].clone()).unwrap_or_default();
    assert!(function.is_object(), "{text}");
    Deployed { log, function }
}

/// Creates a function from these files; it must be callable.
async fn create(server: &Server, fields: &Value, files: &[(&str, &str)]) -> (String, String) {
    let name = unique("packages");
    let fields =
        merged(merged(json!({"name": name, "memory_mb": 512}), &json!({"zip": archive(files)})), fields);
    let Deployed { log, function } = deploy(server, Method::POST, FUNCTIONS, &fields).await;
    assert_eq!(function["status"], "active", "{function}\n{log}");
    (name, log)
}

#[tokio::test]
#[ignore = "needs root, npm"]
async fn packages_of_npm_are_installed_once() {
    let server = Server::shared().await;
    let package = json!({"name": unique("app"), "dependencies": {"ms": "2.1.3"}}).to_string();
    let code = "const ms = require('ms'); exports.handler = async (event) => ms(event);";
    let fields = json!({"runtime": "nodejs", "handler": "index.handler"});
    let files = |code| [("index.js", code), ("package.json", package.as_str())];
    let (name, log) = create(&server, &fields, &files(code)).await;
    assert!(log.contains("added 1 package"), "{log}");
    assert_eq!(server.call(&name, &json!("2 days")).await, 172_800_000);
    // Other code with the same dependencies has nothing to install.
    let changed = code.replace("ms(event)", "-ms(event)");
    let change = json!({"zip": archive(&files(&changed))});
    let Deployed { log, .. } = deploy(&server, Method::PUT, &path(&name), &change).await;
    assert_eq!(log, "");
    assert_eq!(server.call(&name, &json!("2 days")).await, -172_800_000);
    // A package that is not there is the deploy's failure, and the version before goes on.
    let missing = json!({"dependencies": {"ms": "999.0.0"}}).to_string();
    let change = json!({"zip": archive(&[("index.js", code), ("package.json", &missing)])});
    let Deployed { log, function } = deploy(&server, Method::PUT, &path(&name), &change).await;
    assert_eq!(function["status"], "error", "{function}");
    assert!(log.contains("No matching version found for ms@999.0.0"), "{log}");
    assert_eq!(server.call(&name, &json!("2 days")).await, -172_800_000);
}

#[tokio::test]
#[ignore = "needs root, npm"]
async fn packages_of_the_archive_itself_are_installed_and_scripts_that_do_not_run_are_named() {
    let server = Server::shared().await;
    let package = json!({"name": unique("app"), "dependencies": {"beside": "file:./beside"}}).to_string();
    let beside = json!({"name": "beside", "version": "1.0.0", "scripts": {"postinstall": "touch made"}});
    let code = "exports.handler = async () => [require('beside'), require('fs').existsSync('node_modules/beside/made')];";
    let files = [
        ("index.js", code),
        ("package.json", &package),
        ("beside/package.json", &beside.to_string()),
        ("beside/index.js", "module.exports = 7;"),
    ];
    let fields = json!({"runtime": "nodejs", "handler": "index.handler"});
    let (name, log) = create(&server, &fields, &files).await;
    let reply = server.call(&name, &Value::Null).await;
    assert_eq!(reply[0], 7);
    // Versions of npm differ in what they run.
    let (ran, named) = (reply[1] == true, log.contains("beside@1.0.0 (postinstall: touch made)"));
    assert!(ran || named, "{reply} {log}");
}

#[tokio::test]
#[ignore = "needs root, pip"]
async fn a_wheel_with_native_code_is_installed() {
    let server = Server::shared().await;
    let code = "import markupsafe, markupsafe._speedups as native\n\
                def handler(event, context):\n    return [str(markupsafe.escape(event)), native.__file__.endswith('.so')]\n";
    let files = [("main.py", code), ("requirements.txt", "# one\nmarkupsafe==3.0.2\n")];
    let (name, log) = create(&server, &json!({"runtime": "python", "handler": "main.handler"}), &files).await;
    assert!(log.contains("Successfully installed markupsafe-3.0.2"), "{log}");
    assert_eq!(server.call(&name, &json!("<i>")).await, json!(["&lt;i&gt;", true]));
}

#[tokio::test]
#[ignore = "needs root, goproxy"]
async fn a_module_of_go_is_fetched() {
    let server = Server::shared().await;
    let code = "package main\n\nimport \"github.com/google/uuid\"\n\n\
                func Handler(name string) string { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String() }\n";
    let module = "module function\n\ngo 1.18\n\nrequire github.com/google/uuid v1.6.0\n";
    let files = [("main.go", code), ("go.mod", module)];
    let (name, _) = create(&server, &json!({"runtime": "go", "handler": "Handler"}), &files).await;
    // RFC 4122, version 5, of "x" in the name space of URLs.
    assert_eq!(server.call(&name, &json!("x")).await, "4cd605e7-afa2-5360-b5b9-c5e9fb5c76f4");
}

#[tokio::test]
#[ignore = "needs root, npm"]
async fn builds_get_the_operators_variables_and_functions_do_not() {
    let package = json!({"dependencies": {"ms": "2.1.3"}}).to_string();
    let files = [("index.js", "exports.handler = async () => 1;"), ("package.json", &package)];
    let fields = json!({"runtime": "nodejs", "handler": "index.handler", "zip": archive(&files)});
    // Where nobody serves packages.
    let variables = [
        "--build-env",
        "npm_config_registry=http://packages.invalid/",
        "--build-env",
        "npm_config_fetch_retries=0",
    ];
    let server = Launch::on(&Data::new()).arguments(variables).start().await;
    let name = unique("packages");
    let fields = merged(json!({"name": name}), &fields);
    let Deployed { log, function } = deploy(&server, Method::POST, FUNCTIONS, &fields).await;
    assert_eq!(function["status"], "error", "{function}");
    assert!(log.contains("packages.invalid"), "{log}");
    let failed = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    assert!(failed["error"].as_str().unwrap_or_default().contains("packages.invalid"), "{failed}");
    let other = server.node(
        "exports.handler = async () => Object.keys(process.env).filter((name) => name.startsWith('npm'));",
    );
    assert_eq!(server.call(&other.await, &Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_call_waits_for_the_functions_first_deploy() {
    let server = Arc::new(Server::start().await);
    let name = unique("packages");
    // A build, and two starts.
    let code = "export const handler = async (event: number): Promise<number> => event + 1;\n";
    let fields = json!({"name": name, "runtime": "typescript", "handler": "index.handler", "code": code, "timeout_sec": 60});
    let deploying = tokio::spawn({
        let server = server.clone();
        async move { server.create(&fields).await }
    });
    let began_before_its_end =
        eventually("a call that finds the function", std::time::Duration::from_secs(60), async || {
            let is_deploying = !deploying.is_finished();
            let reply = server.invoke(&name, &json!(1)).await;
            (reply.status != 404).then(|| {
                assert_eq!(reply.result(), 2);
                is_deploying
            })
        });
    assert!(began_before_its_end.await, "calls were refused until the deploy had ended");
    assert_eq!(deploying.await.unwrap()["status"], "active");
}
