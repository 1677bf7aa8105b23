//! The server as an ordinary user: fewer guarantees, which the log names, and none of the others gone.

use std::os::unix::fs::PermissionsExt as _;

use impuls_e2e::host::processes_with;
use impuls_e2e::launch::program;
use impuls_e2e::probe::Probe;
use impuls_e2e::{Data, Launch, Server, Value, json, unique};
use std::sync::Arc;

/// A user and group that nobody has.
const USER: u32 = 54_321;

/// A server that runs as [`USER`], from a copy of the program that this user can read.
async fn start() -> Arc<Server> {
    let data = Data::new();
    let copy = data.scratch().join("impuls");
    std::fs::copy(program(), &copy)
        .and_then(|_| std::os::unix::fs::chown(data.scratch(), Some(USER), Some(USER)))
        .ok();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).ok();
    let user = USER.to_string();
    let launch = Launch::bare(&data, "/usr/bin/setpriv".into());
    let launch = launch.arguments(["--reuid", &user, "--regid", &user, "--clear-groups"]).argument(copy);
    let launch = launch.arguments(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).argument(data.folder());
    Arc::new(launch.variable("HOME", data.scratch()).start().await)
}

#[tokio::test]
#[ignore = "needs root, to become another user"]
async fn functions_run_in_a_full_sandbox() {
    let server = start().await;
    assert_eq!(server.process().uid(), Some(USER));
    let node = Probe::node(&server, &json!({})).await;
    let python = Probe::python(&server, &json!({})).await;
    assert_eq!(node.run("return 6 * 7;").await, 42);
    assert_eq!(python.run("result = 6 * 7").await, 42);
    let code = "
import os
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
result = [status[name].strip() for name in ['CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp']]
result.append(os.getuid() != 0)
result.append(os.path.exists('/home') or os.path.exists('/root') or len([name for name in os.listdir('/proc') if name.isdigit()]) > 2)
try:
    open('/var/task/x', 'w')
    result.append('written')
except OSError:
    result.append('read-only')
";
    let expected = json!(["0000000000000000", "0000000000000000", "1", "2", true, false, "read-only"]);
    assert_eq!(python.run(code).await, expected);
}

#[tokio::test]
#[ignore = "needs root, to become another user"]
async fn an_endless_loop_is_killed_with_everything_it_started() {
    let server = start().await;
    let mark = unique("spinner");
    let code = format!("exports.handler = () => {{ process.title = '{mark}'; require('child_process').spawn(process.execPath,
        ['-e', 'for (;;);', '{mark}'], {{ detached: true, stdio: 'ignore' }}); for (;;); }};");
    let name = server.node_with(&code, &json!({"timeout_sec": 1})).await;
    server.invoke(&name, &Value::Null).await.failure(504, "Timeout");
    assert_eq!(processes_with(&mark), []);
}

#[tokio::test]
#[ignore = "needs root, to become another user"]
async fn what_is_missing_is_named_in_the_log() {
    let server = start().await;
    let log = server.log();
    for layer in ["own user id", "memory limit", "cpu limit"] {
        assert!(log.contains(&format!("isolation layer missing: {layer}")), "{layer}: {log}");
    }
}
