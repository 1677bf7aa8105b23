//! The command line against a real server.

use std::path::Path;

use impuls_e2e::cli::run;
use impuls_e2e::{Server, json};

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    root.join("examples").join(name).to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_examples_can_be_deployed_called_and_deleted() {
    let server = Server::start().await;
    for name in ["hello-node", "hello-python"] {
        let deployed = run(&server, &["deploy", &example(name)], "").success();
        assert!(deployed.contains(name), "{deployed}");
        let event = "{\"name\": \"Ada\"}";
        let result = run(&server, &["invoke", name, "--data", event], "").success();
        assert!(result.contains("Hello, Ada"), "{result}");
        let result = run(&server, &["invoke", name], event).success();
        assert!(result.contains("Hello, Ada"), "from standard input: {result}");
        let again = run(&server, &["--json", "deploy", &example(name), "--description", "changed"], "");
        assert_eq!(again.json()["version"], 2, "{again:?}");
    }
    let list = run(&server, &["list"], "").success();
    assert!(list.contains("hello-node") && list.contains("hello-python"), "{list}");
    assert_eq!(run(&server, &["list", "--json"], "").json()["count"], 2);
    assert_eq!(run(&server, &["get", "hello-node", "--json"], "").json()["description"], "changed");
    let logs = run(&server, &["logs", "hello-node", "--json"], "").success();
    assert!(logs.contains("succeeded"), "{logs}");
    run(&server, &["rollback", "hello-node"], "").success();
    assert_eq!(run(&server, &["get", "hello-node", "--json"], "").json()["version"], 3);
    assert_eq!(run(&server, &["delete", "hello-node"], "").code, Some(2), "nobody can be asked");
    run(&server, &["delete", "hello-node", "--yes"], "").success();
    assert_eq!(run(&server, &["get", "hello-node"], "").code, Some(3));
}

#[tokio::test]
async fn a_deploy_leaves_other_apis_functions_of_the_same_name_alone() {
    let server = Server::start().await;
    let foreign = json!({"name": "xs", "version": "1.0.0", "runtime": "python", "handler": "main", "code": "cHJpbnQoMSk=",
        "timeout": "30s", "memory_mb": 128, "max_concurrency": 1});
    let foreign = server.post("/functions", &foreign).await.with_status(201).json()["data"].clone();
    let source = server.data().scratch().join("xs.js");
    std::fs::write(&source, "exports.handler = async () => 'native';").unwrap();
    let source = source.to_string_lossy();
    for version in [1, 2] {
        let options = ["--json", "deploy", &source, "--description", &version.to_string()];
        let deployed = run(&server, &options, "").json();
        assert_ne!(deployed["id"], foreign["id"], "{deployed}");
        assert_eq!((&deployed["version"], deployed.get("scope")), (&json!(version), None), "{deployed}");
    }
    assert!(run(&server, &["invoke", "xs", "--data", "{}"], "").success().contains("native"));
    let id = foreign["id"].as_str().unwrap_or_default();
    let untouched = server.get(&format!("/functions/{id}")).await.with_status(200).json()["data"].clone();
    assert_eq!(
        (&untouched["code"], &untouched["runtime"]),
        (&foreign["code"], &json!("python")),
        "{untouched}"
    );
    let native_view = server.get(&format!("/api/v1/functions/{id}")).await.with_status(200).json();
    assert_eq!(native_view["scope"], "gofaas/1.0.0", "{native_view}");
}

#[tokio::test]
async fn exit_codes_tell_failures_apart() {
    let server = Server::start().await;
    let failing = server.node("exports.handler = () => { throw new Error('no luck'); };").await;
    let failed = run(&server, &["invoke", &failing], "");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("no luck"), "{failed:?}");
    assert_eq!(run(&server, &["invoke"], "").code, Some(2));
    assert_eq!(run(&server, &["invoke", "nobody"], "").code, Some(3));
    let name = server.node("exports.handler = (event) => event;").await;
    assert_eq!(run(&server, &["invoke", &name, "--data", "{"], "").code, Some(4));
    let bad = server.data().scratch().join("bad.js");
    std::fs::write(&bad, "exports.handler = (").unwrap();
    let refused = run(&server, &["deploy", &bad.to_string_lossy()], "");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("SyntaxError") && refused.stderr.contains(":1"), "{refused:?}");
    let nobody = run(&server, &["--server", "http://127.0.0.1:1", "list"], "");
    assert_eq!(nobody.code, Some(5), "{nobody:?}");
}

#[tokio::test]
async fn a_raw_call_prints_the_functions_body_byte_for_byte() {
    let server = Server::start().await;
    let name = server.node("exports.handler = () => ({ statusCode: 200, body: 'no newline' });").await;
    assert_eq!(run(&server, &["invoke", &name, "--raw"], "").success(), "no newline");
    let data = json!({"a": [1, null]}).to_string();
    let echo = server.node("exports.handler = (event) => event;").await;
    assert_eq!(
        run(&server, &["invoke", &echo, "--data", &data, "--raw"], "").json(),
        json!({"a": [1, null]})
    );
}

#[tokio::test]
async fn the_doctor_names_every_layer_and_runtime() {
    let server = Server::shared().await;
    let report = run(&server, &["doctor"], "");
    for layer in ["user namespace", "seccomp", "landlock", "memory limit", "nodejs", "python"] {
        assert!(report.stdout.contains(layer), "{layer}: {report:?}");
    }
    assert!(run(&server, &["doctor", "--json"], "").json().is_object());
}

#[tokio::test]
async fn asynchronous_calls_and_schedules_are_looked_after_from_the_command_line() {
    let server = Server::shared().await;
    let name =
        server.node("exports.handler = async (e) => { if (e.fail) throw new Error('no'); return e; };").await;
    let submit = |arguments: &[&str], event: &str| {
        let line = [["invoke", name.as_str(), "--async"].as_slice(), arguments].concat();
        run(&server, &line, event).success().trim().to_owned()
    };
    let get = |id: &str| run(&server, &["invocations", "get", id, "--wait", "60s"], "");
    assert_eq!(get(&submit(&[], "{\"a\":1}")).success(), "{\"a\":1}");
    let dead = submit(&["--max-retries", "0"], "{\"fail\":1}");
    let shown = get(&dead);
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(shown.stderr.contains("Error: no") && shown.stderr.contains("dead"), "{shown:?}");
    let listed = run(&server, &["invocations", "list", &name, "--status", "dead"], "").success();
    assert!(listed.contains(&dead), "{listed}");
    assert_eq!(
        run(&server, &["invocations", "redrive", "--all", &name], "").success(),
        "1 dead letters wait again\n"
    );
    let waiting = submit(&["--delay", "1h"], "{}");
    assert_eq!(
        run(&server, &["invocations", "cancel", &waiting], "").success(),
        format!("{waiting} cancelled\n")
    );
    assert_eq!(run(&server, &["invocations", "cancel", &waiting], "").code, Some(4));
    let set = ["schedules", "set", &name, "daily", "--cron", "0 9 * * *", "--time-zone", "Europe/Berlin"];
    assert!(run(&server, &set, "").success().contains("0 9 * * * (Europe/Berlin)"));
    assert_eq!(run(&server, &["schedules", "get", &name, "daily", "--json"], "").json()["enabled"], true);
    assert_eq!(
        run(&server, &["schedules", "delete", &name, "daily"], "").success(),
        format!("daily of {name} deleted\n")
    );
    assert_eq!(run(&server, &["schedules", "get", &name, "daily"], "").code, Some(3));
}
