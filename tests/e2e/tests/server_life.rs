//! The server's own life: how it starts, whom it lets in, how it stops, and what is left when it is killed.

use std::time::Duration;

use impuls_e2e::functions::{marked, path};
use impuls_e2e::host::{Process, cgroup_folders, descendants, mounts_of, processes_with};
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Raw, Server, Value, eventually, json, unique, within};
use reqwest::Method;
use rustix::process::Signal;

/// A function that takes as many milliseconds as the event says, and the mark of its process.
fn slow() -> (String, String) {
    let mark = unique("life");
    let code = marked(&mark, "return new Promise((done) => setTimeout(done, event, 'finished'));");
    (mark, code)
}

async fn running(mark: &str) -> Process {
    let runs = async || processes_with(mark).first().copied();
    eventually("the function runs", Duration::from_secs(5), runs).await
}

/// Within the second that anything may outlive a server that could not clean up.
async fn nothing_stays(server_processes: &[Process], data: &Data) {
    let ended = async || server_processes.iter().all(|process| !process.is_running()).then_some(());
    eventually("all processes of the server have ended", Duration::from_secs(1), ended).await;
    assert_eq!(mounts_of(data.scratch()), [""; 0]);
}

async fn stops_after_the_call(signal: Signal) {
    let data = Data::new();
    let mut server = Launch::on(&data).start().await;
    let (mark, code) = slow();
    let name = server.node(&code).await;
    let mut call = Raw::open(&server).await;
    call.invoke(&name, "1500").await;
    let sandbox = running(&mark).await;
    let cgroup = sandbox.server_cgroup();
    let ours = descendants(server.pid());
    assert!(ours.contains(&sandbox), "sandboxes are below the server");
    server.signal(signal);
    let reply = call.reply().await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("\"finished\""), "{reply}");
    let status = server.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    // Not a moment longer than the server: it has destroyed its sandboxes itself.
    assert_eq!(processes_with(&mark), []);
    nothing_stays(&ours, &data).await;
    assert!(cgroup.is_none_or(|cgroup| cgroup_folders(&cgroup).is_empty()));
}

#[tokio::test]
async fn sigterm_lets_calls_finish_and_leaves_nothing() {
    stops_after_the_call(Signal::TERM).await;
}

#[tokio::test]
async fn sigint_does_the_same() {
    stops_after_the_call(Signal::INT).await;
}

#[tokio::test]
async fn a_stopping_server_takes_no_new_calls() {
    let mut server = Launch::on(&Data::new()).start().await;
    let (mark, code) = slow();
    let name = server.node(&code).await;
    // The first call of all, so that a process with the mark shows that it has been admitted.
    let mut call = Raw::open(&server).await;
    call.invoke(&name, "3000").await;
    running(&mark).await;
    let mut idle = Raw::open(&server).await;
    idle.invoke(&name, "1").await;
    assert!(idle.reply().await.starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    let refused = async || server.log().contains("stopping").then_some(());
    eventually("the server says that it stops", Duration::from_secs(5), refused).await;
    idle.invoke(&name, "1").await;
    let reply = idle.reply().await;
    assert!(reply.starts_with("HTTP/1.1 503") || reply.is_empty(), "{reply}");
    let new = server.try_send(server.request(Method::GET, "/health")).await;
    assert!(new.is_err() || new.is_ok_and(|reply| reply.status == 503), "a new connection is not served");
    assert!(call.reply().await.contains("\"finished\""));
    assert!(server.ended(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    let data = Data::new();
    let mut server = Launch::on(&data).start().await;
    let (mark, code) = slow();
    let name = server.node(&code).await;
    let mut call = Raw::open(&server).await;
    call.invoke(&name, "25000").await;
    running(&mark).await;
    let ours = descendants(server.pid());
    server.signal(Signal::TERM);
    let stopping = async || server.log().contains("stopping").then_some(());
    eventually("the first signal is seen", Duration::from_secs(5), stopping).await;
    server.signal(Signal::TERM);
    server.ended(Duration::from_secs(3)).await;
    nothing_stays(&ours, &data).await;
}

#[tokio::test]
async fn calls_in_flight_are_cut_off_after_the_shutdown_timeout() {
    let data = Data::new();
    let mut server = Launch::on(&data).arguments(["--shutdown-timeout", "500ms"]).start().await;
    let (mark, code) = slow();
    let name = server.node(&code).await;
    let mut call = Raw::open(&server).await;
    call.invoke(&name, "25000").await;
    let cgroup = running(&mark).await.server_cgroup();
    let ours = descendants(server.pid());
    server.signal(Signal::TERM);
    server.ended(Duration::from_secs(5)).await;
    assert_eq!(processes_with(&mark), []);
    nothing_stays(&ours, &data).await;
    assert!(cgroup.is_none_or(|cgroup| cgroup_folders(&cgroup).is_empty()));
}

#[tokio::test]
async fn a_client_that_stops_sending_does_not_hold_up_the_end() {
    let mut server = Launch::on(&Data::new()).start().await;
    let name = server.node("exports.handler = () => 1;").await;
    let head = |length: usize| {
        let target = format!("{}/invoke", path(&name));
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n1")
    };
    let (mut waiting, mut refused) = (Raw::open(&server).await, Raw::open(&server).await);
    waiting.write(head(1_000).as_bytes()).await;
    refused.write(head(20 << 20).as_bytes()).await;
    assert!(refused.reply().await.starts_with("HTTP/1.1 413"));
    server.signal(Signal::TERM);
    server.ended(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn after_kill_9_nothing_of_ours_runs_for_longer_than_a_second() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let (mark, code) = slow();
    let child = format!(
        "require('child_process').spawn(process.execPath, ['-e', 'for (;;);', '{mark}'], {{ detached: true, stdio: 'ignore' }});"
    );
    let name = server.node(&format!("{child}\n{code}")).await;
    let python = server.python("import time\n\ndef handler(event, context):\n    time.sleep(event)").await;
    let (mut first, mut second) = (Raw::open(&server).await, Raw::open(&server).await);
    first.invoke(&name, "25000").await;
    second.invoke(&python, "25").await;
    let cgroup = running(&mark).await.server_cgroup();
    let ours = descendants(server.pid());
    assert!(ours.len() >= 5, "{ours:?}");
    server.kill().await;
    nothing_stays(&ours, &data).await;
    assert_eq!(processes_with(&mark), []);
    let next = Launch::on(&data).start().await;
    assert!(cgroup.is_none_or(|cgroup| cgroup_folders(&cgroup).is_empty()), "the next start removes cgroups");
    let echo = next.node("exports.handler = (event) => event;").await;
    assert_eq!(next.call(&echo, &json!(1)).await, 1);
}

#[tokio::test]
async fn no_acknowledged_function_is_lost_by_kill_9() {
    let data = Data::new();
    let mut names: Vec<String> = Vec::new();
    for round in 0..4 {
        let server = Launch::on(&data).start().await;
        for name in &names {
            assert_eq!(server.call(name, &json!("there")).await, "there");
        }
        for _ in 0..5 {
            names.push(server.node(&format!("exports.handler = (event) => event; // {round}")).await);
        }
        if let Some(changed) = names.first() {
            server.update(changed, &json!({"description": round.to_string()})).await;
        }
        server.kill().await;
    }
    let server = Launch::on(&data).start().await;
    let list = server.get("/api/v1/functions?fields=name").await.with_status(200).json();
    assert_eq!(list["count"], names.len());
    let changed = server.get(&path(&names[0])).await.with_status(200).json();
    assert_eq!(changed["description"], "3");
}

#[tokio::test]
async fn a_restart_keeps_functions_versions_aliases_and_records() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let name = server.node("exports.handler = () => { console.log('one'); return 1; };").await;
    server.call(&name, &Value::Null).await;
    server.update(&name, &json!({"code": "exports.handler = () => 2;"})).await;
    server.put(&format!("{}/aliases/old", path(&name)), &json!({"version": 1})).await.with_status(200);
    let before = server.get(&path(&name)).await.json();
    assert!(server.stop().await.success());
    let server = Launch::on(&data).start().await;
    assert_eq!(server.get(&path(&name)).await.json(), before);
    assert_eq!(server.call(&name, &Value::Null).await, 2);
    let old = server.post(&format!("{}/invoke?qualifier=old", path(&name)), &Value::Null).await;
    assert_eq!(old.result(), 1);
    let records = server.get(&format!("{}/logs", path(&name))).await.with_status(200).json();
    assert_eq!((&records["count"], &records["items"][2]["logs"]), (&json!(3), &json!("[INFO] one")));
}

#[tokio::test]
async fn two_servers_cannot_share_a_data_folder() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let second = Launch::on(&data).refused().await;
    assert_ne!(second.code, Some(0));
    assert!(second.message.contains("in use by another server"), "{}", second.message);
    server.get("/health").await.with_status(200);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Server::shared().await;
    let address = server.address().to_string();
    let data = Data::new();
    let second = Launch::bare(&data, program()).arguments(["serve", "--listen", &address, "--data-dir"]);
    let second = second.argument(data.folder()).refused().await;
    assert_ne!(second.code, Some(0));
    assert!(second.message.contains(&address), "{}", second.message);
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let cases = [
        (["--storage", "bogus"], "bogus"),
        (["--storage", "postgres"], "postgres"),
        (["--driver", "bogus"], "bogus"),
        (["--listen", "nowhere"], "nowhere"),
        (["--listen", "0.0.0.0:0"], "--insecure-no-auth"),
        (["--shutdown-timeout", "soon"], "soon"),
        (["--colour", "blue"], "--colour"),
    ];
    for (arguments, named) in cases {
        let refused = Launch::on(&Data::new()).arguments(arguments).refused().await;
        assert_ne!(refused.code, Some(0), "{arguments:?}");
        assert!(refused.message.contains(named), "{arguments:?}: {}", refused.message);
    }
    let refused = Launch::on(&Data::new()).variable("STORAGE_TYPE", "bogus").refused().await;
    assert!(refused.message.contains("bogus"), "{}", refused.message);
}

#[tokio::test]
async fn several_addresses_are_served() {
    let server = Launch::on(&Data::new()).arguments(["--listen", "127.0.0.1:0"]).start().await;
    let [first, second] = server.addresses() else { unreachable!("two addresses") };
    assert_ne!(first, second);
    let name = server.node("exports.handler = () => 1;").await;
    let invoke = format!("http://{second}{}/invoke", path(&name));
    let reply = server.send(reqwest::Client::builder().no_proxy().build().unwrap().post(invoke)).await;
    assert_eq!(reply.result(), 1);
}

#[tokio::test]
async fn the_seeds_flags_and_environment_start_a_server() {
    let data = Data::new();
    let seed = data.scratch().join("impuls-server");
    std::os::unix::fs::symlink(program(), &seed).unwrap();
    let launch = Launch::bare(&data, seed).arguments(["--port", "0", "--kernel", "/nowhere/vmlinux"]);
    let launch = launch.variable("DATA_DIR", data.folder()).variable("IMPULS_LOCAL_MODE", "true");
    let server = launch.variable("STORAGE_TYPE", "file").start().await;
    assert!(server.address().ip().is_loopback());
    let name = server.node("exports.handler = () => 1;").await;
    assert!(data.folder().join(format!("functions/metadata/{name}.json")).is_file());
    assert_eq!(server.call(&name, &Value::Null).await, 1);
}

#[tokio::test]
async fn the_variables_of_the_earlier_servers_start_one() {
    let data = Data::new();
    let launch = Launch::bare(&data, program()).argument("serve");
    let launch = launch.variable("SERVER_ADDR", ":0").variable("STORAGE_TYPE", "local");
    let launch = launch.variable("STORAGE_BASE_DIR", data.folder()).variable("RUST_LOG", "warn");
    let server = launch.variable("DB_PASSWORD", "hidden").variable("FAAS_API_KEY", "hidden").start().await;
    assert!(server.address().ip().is_loopback());
    assert!(data.folder().join("impuls.db").is_file());
    let log = server.log();
    assert!(log.contains("SERVER_ADDR names no host"), "{log}");
    assert!(log.contains("have no effect: FAAS_API_KEY;") && !log.contains("hidden"), "{log}");
    assert!(log.contains("DB_PASSWORD: functions are recorded in an SQLite file"), "{log}");
    server.get("/health").await.with_status(200);
    let refused = Launch::bare(&Data::new(), program()).argument("serve").variable("MANAGER_BIND", "nowhere");
    let refused = refused.refused().await;
    assert!(refused.message.contains("MANAGER_BIND"), "{}", refused.message);
}

#[tokio::test]
async fn this_servers_own_variables_beat_those_of_earlier_ones() {
    let data = Data::new();
    let launch = Launch::bare(&data, program()).argument("serve");
    let launch = launch.variable("IMPULS_LISTEN", "127.0.0.1:0").variable("SERVER_ADDR", "nowhere");
    let launch = launch.variable("IMPULS_DATA_DIR", data.folder()).variable("DATA_DIR", "/proc/nowhere");
    let launch = launch.variable("IMPULS_STORAGE_TYPE", "sqlite").variable("STORAGE_TYPE", "bogus");
    let launch = launch.variable("IMPULS_LOG_LEVEL", "warn").variable("RUST_LOG", "=nonsense=");
    let launch = launch.variable("IMPULS_PREWARM", "0").variable("FAAS_DISABLE_PREWARM", "1");
    let server = launch.start().await;
    server.get("/health").await.with_status(200);
    assert!(data.folder().join("impuls.db").is_file());
}

#[tokio::test]
async fn foreign_web_pages_are_refused() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = () => 1;").await;
    let own = format!("http://{}", server.address());
    for route in [format!("{}/invoke", path(&name)), "/api/v1/functions".to_owned()] {
        for (header, value) in
            [("origin", "http://evil.example"), ("origin", "null"), ("host", "evil.example")]
        {
            let request = server.request(Method::POST, &route).header(header, value).body("{}");
            server.send(request).await.problem(403);
        }
    }
    let request = server.request(Method::POST, &format!("{}/invoke", path(&name))).header("origin", &own);
    assert_eq!(server.send(request).await.result(), 1);
}

#[tokio::test]
async fn many_connections_one_after_the_other_and_pipelined_are_served() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = (event) => event;").await;
    let mut connection = Raw::open(&server).await;
    for event in 0..50 {
        connection.invoke(&name, &event.to_string()).await;
        assert!(connection.reply().await.contains(&format!("\"body\":{event},")));
    }
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(Raw::open(&server).await);
    }
    let answer =
        within("idle connections are in nobody's way", Duration::from_secs(5), server.call(&name, &json!(7)))
            .await;
    assert_eq!(answer, 7);
}
