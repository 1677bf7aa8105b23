//! The server with driver `container`: the same contracts, limits and ends, in containers of an OCI runtime of Debian.

#![expect(clippy::indexing_slicing, reason = "helpers of tests, which end by panicking")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use impuls_e2e::functions::marked;
use impuls_e2e::host::{processes_with, run_folders};
use impuls_e2e::wait::eventually;
use impuls_e2e::{Data, Launch, Server, Value, json, unique};
use tokio::sync::Mutex;

/// What only a container has: our own process 1 as a file.
const IS_CONTAINER: &str = "require('fs').existsSync('/opt/impuls/init')";

fn launch(data: &Data) -> Launch {
    Launch::on(data).arguments(["--driver", "container", "--oci-runtime", "crun"])
}

/// The server that the tests of this file share.
async fn server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(launch(&Data::new()).start().await);
    *shared = Arc::downgrade(&server);
    server
}

async fn deploy(server: &Server, mut fields: Value) -> String {
    let name = unique("contained");
    fields["name"] = json!(name);
    let created = server.create(&fields).await;
    assert_eq!(created["status"], "active", "{created}");
    name
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn handlers_run_in_containers_and_stay_warm() {
    let server = server().await;
    let code =
        format!("let n = 0; exports.handler = async (e) => [{IS_CONTAINER}, e, ++n, process.getuid()];");
    let node = server.node(&code).await;
    assert_eq!(server.call(&node, &json!({"a": "ü"})).await, json!([true, {"a": "ü"}, 1, 1000]));
    assert_eq!(server.call(&node, &json!(2)).await, json!([true, 2, 2, 1000]));
    let code = "import os, sys\nseen = []\ndef handler(event, context):\n    seen.append(event)\n    \
                print('out')\n    print('err', file=sys.stderr)\n    return [os.path.exists('/opt/impuls/init'), seen]\n";
    let python = server.python(code).await;
    let reply = server.invoke(&python, &json!(1)).await;
    assert_eq!(reply.logs(), "out\nerr");
    assert_eq!(reply.result(), json!([true, [1]]));
    assert_eq!(server.call(&python, &json!(2)).await, json!([true, [1, 2]]));
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn programs_commands_bootstraps_and_web_servers_run_in_containers() {
    let server = server().await;
    let code = "import json, os, sys\nevent = json.load(sys.stdin)\n\
                print(json.dumps([event, os.path.exists('/opt/impuls/init')]))\n";
    let fields = json!({"runtime": "python", "contract": "program", "handler": "app.run", "code": code});
    let program = deploy(&server, fields).await;
    assert_eq!(server.call(&program, &json!({"a": 1})).await, json!([{"a": 1}, true]));
    let fields = json!({"runtime": "command", "command": ["/bin/sh", "-c", "echo on stderr >&2; cat; test -e /opt/impuls/init"]});
    let command = deploy(&server, fields).await;
    assert_eq!(server.call(&command, &json!([1, "x"])).await, json!([1, "x"]));
    let code = "require('http').createServer((request, response) => response.end(request.url)).listen(process.env.PORT);";
    let fields = json!({"runtime": "nodejs", "contract": "http", "handler": "app.js", "code": code});
    let web = deploy(&server, fields).await;
    let event = json!({"version": "2.0", "rawPath": "/a", "rawQueryString": "q=1", "headers": {},
                       "requestContext": {"http": {"method": "GET"}}, "body": "", "isBase64Encoded": false});
    assert_eq!(server.call(&web, &event).await["body"], "/a?q=1");
    let fields = json!({"runtime": "provided", "handler": "x.y", "code": "#!/bin/sh\nexit 7"});
    let ended = deploy(&server, fields).await;
    let body = server.invoke(&ended, &Value::Null).await.failure(500, "InitError");
    assert!(body["error"].as_str().expect("text").contains("code 7"), "{body}");
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn a_container_beyond_its_memory_says_so_and_its_neighbour_answers() {
    let server = server().await;
    let neighbour = server.node("exports.handler = async e => e;").await;
    assert_eq!(server.call(&neighbour, &json!(1)).await, 1);
    let bomb =
        "def handler(event, context):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n";
    let bomb = server.python_with(bomb, &json!({"memory_mb": 128})).await;
    server.invoke(&bomb, &json!(1)).await.failure(500, "OutOfMemory");
    assert_eq!(server.call(&neighbour, &json!(2)).await, 2);
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn an_endless_loop_in_a_container_is_killed_with_everything_it_started() {
    let server = server().await;
    let mark = unique("spinner");
    let body = format!(
        "require('child_process').spawn(process.execPath, ['-e', 'for (;;);', '{mark}'], \
         {{ detached: true, stdio: 'ignore' }}); for (;;);"
    );
    let name = server.node_with(&marked(&mark, &body), &json!({"timeout_sec": 1})).await;
    server.invoke(&name, &json!(1)).await.failure(504, "Timeout");
    assert_eq!(processes_with(&mark), []);
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn a_container_without_a_network_reaches_nothing() {
    let server = server().await;
    let code = "exports.handler = () => new Promise((resolve) => {
  const socket = require('net').connect(80, '192.0.2.1');
  socket.on('error', (error) => resolve(error.code)).on('connect', () => resolve('connected')); });";
    let closed = server.node_with(code, &json!({"network": "off"})).await;
    assert_eq!(server.call(&closed, &json!(1)).await, "ENETUNREACH");
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn a_killed_server_leaves_no_container_and_the_next_removes_the_rest() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let mark = unique("orphan");
    let name = server.node(&marked(&mark, "return 1;")).await;
    assert_eq!(server.call(&name, &json!(1)).await, 1);
    assert_eq!(processes_with(&mark).len(), 1);
    let pid = server.pid();
    server.kill().await;
    eventually("containers end with their server", Duration::from_secs(10), async || {
        processes_with(&mark).is_empty().then_some(())
    })
    .await;
    assert!(!run_folders(pid).is_empty(), "a killed server cannot tidy up");
    let next = launch(&data).start().await;
    assert_eq!(run_folders(pid), Vec::<std::path::PathBuf>::new());
    assert!(next.log().contains("sandboxes that an earlier server left"), "{}", next.log());
    let pid = next.pid();
    assert_eq!(next.call(&name, &json!(1)).await, 1);
    assert!(next.stop().await.success());
    assert_eq!(run_folders(pid), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
#[ignore = "needs root, crun"]
async fn each_function_has_the_driver_that_it_asks_for() {
    let server = Arc::new(Launch::on(&Data::new()).arguments(["--oci-runtime", "crun"]).start().await);
    let code = format!("exports.handler = async () => {IS_CONTAINER};");
    for (driver, contained) in [("auto", false), ("process", false), ("container", true)] {
        let name = server.node_with(&code, &json!({"driver": driver, "network": "off"})).await;
        assert_eq!(server.call(&name, &json!(1)).await, contained, "{driver}");
    }
}

#[tokio::test]
async fn a_driver_that_the_server_does_not_have_is_refused_at_deploy() {
    let server = Server::shared().await;
    let fields = json!({"runtime": "nodejs", "handler": "index.handler", "driver": "container",
                        "code": "exports.handler = async () => 1;"});
    let (_, error) = server.broken(&fields).await;
    assert!(error.to_string().contains("set the function's driver to auto, process"), "{error}");
}

#[tokio::test]
async fn a_server_without_its_oci_runtime_says_what_to_do() {
    let launch = Launch::on(&Data::new()).arguments(["--driver", "container"]);
    let refused = launch.variable("PATH", "/nonexistent").refused().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.message.contains("install one (Debian package crun)"), "{}", refused.message);
    let launch = Launch::on(&Data::new()).arguments(["--driver", "container", "--oci-runtime", "/bin/false"]);
    let refused = launch.refused().await;
    assert!(refused.message.contains("--oci-runtime /bin/false"), "{}", refused.message);
}

#[tokio::test]
#[ignore = "needs root, runc"]
async fn an_oci_runtime_with_known_escapes_is_refused_unless_it_is_forced() {
    let arguments = ["--driver", "container", "--oci-runtime", "runc"];
    let refused = Launch::on(&Data::new()).arguments(arguments).refused().await;
    assert!(refused.message.contains("CVE-2025-31133"), "{}", refused.message);
    assert!(refused.message.contains("--allow-unsafe-oci-runtime"), "{}", refused.message);
    let launch = Launch::on(&Data::new()).arguments(arguments).argument("--allow-unsafe-oci-runtime");
    let server = Arc::new(launch.start().await);
    let name = server.node(&format!("exports.handler = async () => {IS_CONTAINER};")).await;
    assert_eq!(server.call(&name, &json!(1)).await, true);
}
