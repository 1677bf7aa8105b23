//! Servers are killed at any moment: what was acknowledged is there, and nothing is left over.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::host::{Process, cgroup_folders, descendants, mounts_of};
use impuls_e2e::{Data, Launch, Seed, Server, Value, eventually, json, unique};

const ROUNDS: u32 = 20;
/// The longest that a server lives, after it has begun to answer.
const LIFE_MS: usize = 1_500;
const SOON: Duration = Duration::from_secs(30);

/// What was acknowledged: the newest value of each function, and what a change in flight may have made of it.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<String, Vec<u64>>>>);

impl Ledger {
    fn may_be(&self, name: &str, value: u64) {
        self.0.lock().expect("a lock").entry(name.to_owned()).or_default().push(value);
    }

    fn is(&self, name: &str, value: u64) {
        self.0.lock().expect("a lock").insert(name.to_owned(), vec![value]);
    }

    fn entries(&self) -> BTreeMap<String, Vec<u64>> {
        self.0.lock().expect("a lock").clone()
    }
}

fn launch(data: &Data) -> Launch {
    let rules = ["--keep-versions=2", "--keep-versions-for=0s", "--keep-builds-for=0s", "--collect-every=1s"];
    Launch::on(data).arguments(rules).argument("--keep-artifacts-for=60s")
}

fn code(value: u64) -> String {
    format!("exports.handler = async () => {value};")
}

/// Deploys, changes and calls until the server is gone.
async fn use_it(server: Arc<Server>, ledger: Ledger, first: u64) {
    let name = unique("round");
    let fields = json!({"name": name, "runtime": "nodejs", "handler": "index.handler", "code": code(first)});
    let request = server.request("POST".parse().expect("a method"), FUNCTIONS).json(&fields);
    match server.try_send(request).await {
        Ok(reply) if reply.status == 201 => ledger.is(&name, first),
        _ => return,
    }
    for value in first + 1.. {
        ledger.may_be(&name, value);
        let change = json!({"code": code(value)});
        let request = server.request("PUT".parse().expect("a method"), &path(&name)).json(&change);
        match server.try_send(request).await {
            Ok(reply) if reply.status == 200 => ledger.is(&name, value),
            _ => return,
        }
        let call = server.request("POST".parse().expect("a method"), &format!("{}/invoke", path(&name)));
        match server.try_send(call.json(&Value::Null)).await {
            Ok(reply) => assert_eq!(reply.result(), json!(value)),
            Err(_) => return,
        }
    }
}

/// The folders of servers, each called after its process.
fn instances(data: &Data) -> Vec<String> {
    let entries = std::fs::read_dir(data.folder().join("run")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What begins with a dot and `tmp` in a folder and those below.
fn half_made(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".tmp-") {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(half_made(entry.path()));
        }
    }
    found
}

/// Tables of the packet filter that were made by one of these servers.
fn tables(instances: &[String]) -> Vec<String> {
    let listed = Command::new("/usr/sbin/nft").args(["list", "tables"]).output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let processes: Vec<String> = instances
        .iter()
        .filter_map(|instance| instance.split('-').next())
        .map(|process| format!("impuls_{process}"))
        .collect();
    let is_theirs = |line: &&str| processes.iter().any(|process| line.contains(process.as_str()));
    text.lines().filter(is_theirs).map(str::to_owned).collect()
}

async fn is_consistent(server: &Server, ledger: &Ledger) {
    let listed = server.get(&format!("{FUNCTIONS}?limit=1000")).await.with_status(200).json();
    let listed: Vec<_> = listed["functions"].as_array().expect("a list").iter().collect();
    for function in &listed {
        assert_eq!(function["status"], "active", "{function}");
    }
    for (name, values) in ledger.entries() {
        assert!(listed.iter().any(|function| function["name"] == name.as_str()), "{name} was acknowledged");
        let answer = server.call(&name, &Value::Null).await;
        assert!(values.iter().any(|value| answer == json!(value)), "{name}: {answer}, not of {values:?}");
        ledger.is(&name, answer.as_u64().expect("a number"));
    }
}

#[tokio::test]
async fn servers_that_are_killed_lose_nothing_and_leave_nothing() {
    let (data, mut seed, ledger) = (Data::new(), Seed::new("kills"), Ledger::default());
    let (mut families, mut servers) = (Vec::<Process>::new(), Vec::new());
    for round in 0..ROUNDS {
        let server = Arc::new(launch(&data).start().await);
        let users: Vec<_> = (0..3)
            .map(|user| {
                let first = u64::from(round * 3 + user) * 10_000;
                tokio::spawn(use_it(server.clone(), ledger.clone(), first))
            })
            .collect();
        // There is nothing to wait for: any moment will do.
        tokio::time::sleep(Duration::from_millis(seed.below(LIFE_MS) as u64)).await;
        families.extend(descendants(server.pid()));
        servers.extend(instances(&data));
        server.signal(rustix::process::Signal::KILL);
        for user in users {
            user.await.expect("what was answered was right");
        }
        let server = Arc::into_inner(server).expect("nobody else has it");
        server.kill().await;
    }
    let server = launch(&data).start().await;
    is_consistent(&server, &ledger).await;
    let own = instances(&data);
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(half_made(data.folder().join("artifacts")).is_empty());
    assert!(server.stop().await.success());
    let gone = async || families.iter().all(|process| !process.is_running()).then_some(());
    eventually("every process is gone", SOON, gone).await;
    for instance in &servers {
        assert!(cgroup_folders(&format!("impuls-{instance}")).is_empty(), "{instance}");
    }
    assert!(mounts_of(&data.folder()).is_empty(), "{:?}", mounts_of(&data.folder()));
    assert!(tables(&servers).is_empty(), "{:?}", tables(&servers));
    assert!(half_made(data.folder().join("code")).is_empty());
}

#[tokio::test]
async fn servers_that_are_killed_while_they_start_leave_no_process() {
    let (data, mut seed) = (Data::new(), Seed::new("kills at the start"));
    // A program of its own, so that its processes are known whoever their parent is.
    let program = data.scratch().join("impuls");
    std::fs::copy(impuls_e2e::launch::program(), &program).expect("a copy");
    let running = || {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter(|entry| std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program))
            .count()
    };
    for _ in 0..ROUNDS {
        let mut server = Command::new(&program);
        server.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.folder());
        server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut server = server.spawn().expect("the program starts");
        tokio::time::sleep(Duration::from_millis(seed.below(400) as u64)).await;
        server.kill().expect("killed");
        server.wait().expect("it has ended");
    }
    let gone = async || (running() == 0).then_some(());
    eventually("no process is left", SOON, gone).await;
}
