//! The compose file and the manifests: valid by their schemas, without a flag or variable that the program does not have,
//! and with the privileges that `container.rs` proves to be enough.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on ends by panicking, and Python and Go are found by the user's environment"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use impuls_e2e::container::USER;
use impuls_e2e::launch::program;
use impuls_e2e::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/deployment.py");
/// The package of PyPI with Kubernetes' schemas; it brings a reader of YAML and one of schemas.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
/// The Go module with the compose specification's schema, and its place there.
const COMPOSE_GO: &str = "github.com/compose-spec/compose-go/v2@v2.9.1";
const COMPOSE_SCHEMA: &str = "schema/compose-spec.json";

/// The services that are servers of ours.
const SERVERS: [&str; 4] = ["impuls", "impuls-dev", "controller", "worker"];

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// The folder with the Python packages, filled once.
fn packages(scratch: &Path) -> PathBuf {
    let folder = scratch.join(VALIDATOR);
    let complete = folder.join("complete");
    if !complete.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--disable-pip-version-check", "--target"]);
        output(pip.arg(&folder).arg(VALIDATOR));
        fs::write(complete, "").expect("a file");
    }
    folder
}

fn compose_schema(scratch: &Path) -> PathBuf {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", COMPOSE_GO]).current_dir(scratch);
    go.env("GOMODCACHE", scratch.join("go")).env("GOFLAGS", "-modcacherw");
    let about: Value = serde_json::from_str(&output(&mut go)).expect("JSON, as asked for");
    Path::new(about["Dir"].as_str().expect("a folder")).join(COMPOSE_SCHEMA)
}

/// What the script says.
fn facts() -> &'static Value {
    static FACTS: OnceLock<Value> = OnceLock::new();
    FACTS.get_or_init(|| {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deployment");
        fs::create_dir_all(&scratch).expect("a folder");
        let mut python = Command::new("python3");
        python.arg(SCRIPT).arg(ROOT).arg(compose_schema(&scratch));
        let text = output(python.env("PYTHONPATH", packages(&scratch)));
        serde_json::from_str(&text).expect("JSON, as promised")
    })
}

/// The manifest of a kind whose name ends so.
fn manifest(kind: &str, name: &str) -> &'static Value {
    let is_it = |object: &&Value| {
        object["kind"] == kind
            && object["metadata"]["name"].as_str().is_some_and(|found| found.ends_with(name))
    };
    let manifests = facts()["manifests"].as_array().expect("a list");
    manifests.iter().map(|manifest| &manifest["object"]).find(is_it).expect("it is there")
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn keys(object: &Value) -> impl Iterator<Item = &str> {
    object.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

/// Fails unless the subcommand has every flag, and the program reads every variable.
fn check(arguments: &Value, variables: &[&str]) {
    let arguments = texts(arguments);
    let help = output(Command::new(program()).arg(arguments[0]).arg("--help"));
    let has =
        |flag: &str| help.lines().any(|line| line.trim_start().split([' ', '[']).any(|word| word == flag));
    for flag in arguments.iter().filter(|argument| argument.starts_with("--")) {
        assert!(has(flag), "{} has no {flag}", arguments[0]);
    }
    let bytes = fs::read(program()).expect("the program can be read");
    for variable in variables {
        let told = help.contains(&format!("[env: {variable}"));
        // Those of earlier servers and of PostgreSQL's and S3's clients are in no help.
        let known = !variable.starts_with("IMPULS_")
            && bytes.windows(variable.len()).any(|window| window == variable.as_bytes());
        assert!(told || known, "{} does not read {variable}", arguments[0]);
    }
}

fn check_service(name: &str) {
    let service = &facts()["compose"]["services"][name];
    check(&service["command"], &keys(&service["environment"]).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn files_meet_their_schemas() {
    assert_eq!(facts()["errors"], json!([]));
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn every_flag_and_variable_of_the_compose_file_exists() {
    check_service("impuls");
    check_service("impuls-dev");
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn servers_of_the_compose_file_have_no_more_privileges_than_were_proven() {
    for name in SERVERS {
        let service = &facts()["compose"]["services"][name];
        assert_eq!(service["user"], format!("{USER}:{USER}"), "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["cap_add"], Value::Null, "{name}");
        assert_eq!(service["privileged"], Value::Null, "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        let expected = json!([
            "no-new-privileges:true",
            "seccomp:deploy/kubernetes/seccomp.json",
            "systempaths=unconfined",
            "apparmor:unconfined"
        ]);
        if name == "controller" {
            assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
        } else {
            assert_eq!(service["security_opt"], expected, "{name}");
        }
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn containers_get_longer_to_stop_than_calls_in_flight() {
    for name in SERVERS {
        let service = &facts()["compose"]["services"][name];
        let command = texts(&service["command"]);
        let at = command.iter().position(|word| *word == "--shutdown-timeout").expect("it is given");
        let grace = seconds(service["stop_grace_period"].as_str().expect("it is given"));
        assert!(grace > seconds(command[at + 1]), "{name}");
    }
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().expect("seconds")
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn what_shares_the_database_shares_the_code() {
    let source = |name: &str| {
        let volumes = texts(&facts()["compose"]["services"][name]["volumes"]);
        volumes.into_iter().find_map(|volume| volume.strip_suffix(":/var/lib/impuls/artifacts"))
    };
    for name in ["impuls", "controller", "worker"] {
        assert_eq!(source(name), Some("artifacts"), "{name}");
    }
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn a_controllers_pod_answers_until_nobody_sends_to_it() {
    let pod = &manifest("Deployment", "controller")["spec"]["template"]["spec"];
    let own = pod["containers"][0]["env"].as_array().expect("variables");
    let delay = own.iter().find(|variable| variable["name"] == "IMPULS_SHUTDOWN_DELAY").expect("it is given");
    let delay = seconds(delay["value"].as_str().expect("a time"));
    let shared = &manifest("ConfigMap", "config")["data"];
    let calls = seconds(shared["IMPULS_SHUTDOWN_TIMEOUT"].as_str().expect("a time"));
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("it is given");
    assert!(delay > 0 && delay + calls < grace, "{delay} {calls} {grace}");
}

/// Arguments and variables of the first container of a deployment.
fn check_deployment(name: &str) {
    let pod = &manifest("Deployment", name)["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let own = container["env"].as_array().into_iter().flatten();
    let own = own.filter_map(|variable| variable["name"].as_str()).filter(|name| *name != "POD_IP");
    let shared = keys(&manifest("ConfigMap", "config")["data"]);
    let secret = keys(&manifest("Secret", "secrets")["stringData"]);
    check(&container["args"], &own.chain(shared).chain(secret).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs roles, pip, pypi, goproxy"]
fn every_flag_and_variable_of_controllers_and_workers_exists() {
    for name in ["controller", "worker"] {
        check_service(name);
        check_deployment(name);
    }
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn workers_have_no_more_privileges_than_were_proven() {
    let pod = &manifest("Deployment", "worker")["spec"]["template"]["spec"];
    let security = &pod["securityContext"];
    assert_eq!((&security["runAsUser"], &security["runAsNonRoot"]), (&json!(USER), &json!(true)));
    let profile = json!({ "type": "Localhost", "localhostProfile": "profiles/impuls.json" });
    assert_eq!(security["seccompProfile"], profile);
    assert_eq!((&pod["hostUsers"], &pod["automountServiceAccountToken"]), (&json!(false), &json!(false)));
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
        "procMount": "Unmasked",
    });
    assert_eq!(pod["containers"][0]["securityContext"], expected);
}

#[test]
#[ignore = "needs pip, pypi, goproxy"]
fn controllers_are_restricted() {
    let pod = &manifest("Deployment", "controller")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"], json!({ "type": "RuntimeDefault" }));
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(pod["containers"][0]["securityContext"], expected);
}
