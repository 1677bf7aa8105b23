//! What is collected, and what is not.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::path::Path;
use std::time::Duration;

use impuls_e2e::functions::path;
use impuls_e2e::{Data, Launch, Server, Value, eventually, json};

/// Two rounds and the time of grace, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn launch(data: &Data) -> Launch {
    let rules = ["--keep-versions=2", "--keep-versions-for=0s", "--keep-builds-for=0s"];
    Launch::on(data).arguments(rules).arguments(["--keep-artifacts-for=2s", "--collect-every=1s"])
}

fn code(number: u32) -> String {
    format!("exports.handler = async () => {number};")
}

/// How many artifacts there are.
fn artifacts(data: &Data) -> usize {
    let shards = std::fs::read_dir(data.folder().join("artifacts/sha256")).expect("a folder");
    let in_shard = |shard: &Path| std::fs::read_dir(shard).expect("a folder").count();
    shards.map(|shard| in_shard(&shard.expect("a folder").path())).sum()
}

async fn versions(server: &Server, name: &str) -> Vec<Value> {
    let listed = server.get(&format!("{}/versions", path(name))).await.with_status(200).json();
    let listed = listed["versions"].as_array().expect("a list").iter();
    listed.map(|version| version["version"].clone()).collect()
}

async fn calls(server: &Server, name: &str, qualifier: &str, expected: u32) {
    let at = match qualifier {
        "latest" => format!("{}/invoke", path(name)),
        other => format!("{}/invoke?qualifier={other}", path(name)),
    };
    assert_eq!(server.post(&at, &Value::Null).await.result(), json!(expected));
}

#[tokio::test]
async fn old_versions_go_with_their_code_unless_something_names_them() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let name = server.node(&code(1)).await;
    for number in 2..7 {
        server.update(&name, &json!({"code": code(number)})).await;
    }
    server.put(&format!("{}/aliases/live", path(&name)), &json!({"version": 1})).await.with_status(200);
    // Far in the future, so that it asks for version 2 all the time.
    let later = format!("{}/invocations?qualifier=2&delay=10h", path(&name));
    server.post(&later, &json!(null)).await.with_status(202);
    assert_eq!(artifacts(&data), 6);
    assert!(server.stop().await.success());

    let server = launch(&data).start().await;
    let collected = async || (versions(&server, &name).await == [6, 5, 2, 1]).then_some(());
    eventually("versions are collected", SOON, collected).await;
    let swept = async || (artifacts(&data) == 4).then_some(());
    eventually("their code is collected", SOON, swept).await;
    for (qualifier, expected) in [("live", 1), ("2", 2), ("5", 5), ("6", 6), ("latest", 6)] {
        calls(&server, &name, qualifier, expected).await;
    }
    let gone = format!("{}/invoke?qualifier=3", path(&name));
    server.post(&gone, &Value::Null).await.with_status(404);
    assert!(server.log().contains("collected what nothing needs any more versions=2"), "{}", server.log());
    // What was collected can be deployed again.
    server.update(&name, &json!({"code": code(3)})).await;
    calls(&server, &name, "latest", 3).await;
    server.remove(&name).await;
    let empty = async || (artifacts(&data) == 0).then_some(());
    eventually("the code of a deleted function is collected", SOON, empty).await;
}

#[tokio::test]
async fn deploys_meet_collections_and_lose_nothing() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let mut names = Vec::new();
    for round in 0..8 {
        // Code that was collected, is about to be, or belongs to somebody.
        let name = server.node(&code(round % 3)).await;
        calls(&server, &name, "latest", round % 3).await;
        if round % 2 == 0 {
            server.remove(&name).await;
        } else {
            names.push((name, round % 3));
        }
    }
    assert!(server.stop().await.success());
    // Without the unpacked copies: what is called is what is kept.
    std::fs::remove_dir_all(data.folder().join("code")).expect("a cache of code");
    let server = launch(&data).start().await;
    for (name, expected) in &names {
        calls(&server, name, "latest", *expected).await;
    }
}

#[tokio::test]
async fn a_time_of_grace_of_nothing_is_refused() {
    let refused = Launch::on(&Data::new()).argument("--keep-artifacts-for=0s").refused().await;
    assert!(refused.message.contains("at least 1s"), "{}", refused.message);
}

/// What the disk gives to a folder and everything below it, as `du` counts.
fn kib_below(folder: &Path) -> u64 {
    let output = std::process::Command::new("du").arg("-sk").arg(folder).output().expect("du runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test]
async fn unpacked_code_beyond_its_bound_goes_and_comes_back() {
    let data = Data::new();
    let server = Launch::on(&data).argument("--keep-unpacked=1").start().await;
    let mut names = Vec::new();
    for number in 0..5 {
        // Of which one fits.
        let code = format!("{} // {}", code(number), "x".repeat(600 << 10));
        names.push(server.node_with(&code, &json!({"idle_timeout_sec": 1})).await);
    }
    for round in 0..2 {
        for (name, expected) in names.iter().zip(0..) {
            calls(&server, name, "latest", expected).await;
        }
        // Nothing uses any of it after a while.
        let within = async || (kib_below(&data.folder().join("code")) <= 1_024).then_some(());
        eventually(&format!("there is no more than allowed, round {round}"), SOON, within).await;
    }
    assert!(server.log().contains("removed unpacked code"), "{}", server.log());
}

#[tokio::test]
async fn what_was_built_for_nobody_any_more_goes_beyond_its_bound() {
    let data = Data::new();
    let rules = ["--keep-built=0", "--keep-versions=1", "--keep-versions-for=0s"];
    let server = Launch::on(&data).arguments(rules);
    let server = server.arguments(["--keep-artifacts-for=2s", "--collect-every=1s"]).start().await;
    let typed = |number: u32| format!("export const handler = async (): Promise<number> => {number};");
    let fields = json!({"runtime": "typescript", "handler": "index.handler", "code": typed(1)});
    let name = server.node_with(&typed(1), &fields).await;
    calls(&server, &name, "latest", 1).await;
    server.update(&name, &json!({"code": typed(2)})).await;
    // The newest source, and what was built of it.
    let collected = async || (artifacts(&data) == 2).then_some(());
    eventually("the build of the old version is collected", SOON, collected).await;
    calls(&server, &name, "latest", 2).await;
    server.remove(&name).await;
    let empty = async || (artifacts(&data) == 0).then_some(());
    eventually("nothing is kept for builds to come", SOON, empty).await;
}
