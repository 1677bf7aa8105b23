//! Functions as files that people read and edit: `--storage file`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use impuls_e2e::functions::path;
use impuls_e2e::{Data, Launch, Server, Value, eventually, json, unique, zip_of};
use reqwest::Method;
use rustix::process::Signal;

/// How long an edit may take to be deployed.
const DEPLOYED: Duration = Duration::from_secs(30);
const ECHO: &str = "exports.handler = async (event) => event;";

fn launch(data: &Data) -> Launch {
    Launch::on(data).arguments(["--storage", "file"])
}

fn file(data: &Data, name: &str) -> PathBuf {
    data.folder().join("functions").join(name)
}

fn read(data: &Data, name: &str) -> String {
    fs::read_to_string(file(data, name)).unwrap_or_default()
}

fn card(data: &Data, name: &str) -> Value {
    serde_json::from_str(&read(data, &format!("metadata/{name}.json"))).unwrap_or_default()
}

async fn called(server: &Server, name: &str, expected: &Value) {
    eventually("a call has the result of the edit", DEPLOYED, async || {
        let reply = server.invoke(name, &json!(1)).await;
        (reply.status == 200 && reply.result() == *expected).then_some(())
    })
    .await;
}

async fn logged(server: &Server, text: &str) {
    eventually(&format!("the log has {text:?}"), DEPLOYED, async || {
        server.log().contains(text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn functions_are_a_tree_that_outlives_the_server() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let name = server.node_with(ECHO, &json!({"environment": {"SECRET": "x"}})).await;
    assert_eq!(read(&data, &format!("code/{name}/function.js")), ECHO);
    let shown = card(&data, &name);
    let listed = server.get(&path(&name)).await.with_status(200).json();
    for member in
        ["id", "name", "runtime", "handler", "code", "memory_mb", "timeout_sec", "environment", "created_at"]
    {
        assert_eq!(shown[member], listed[member], "{member}");
    }
    for (name, mode) in [(String::new(), 0o700), (format!("metadata/{name}.json"), 0o600)] {
        let found = fs::metadata(file(&data, &name)).expect("it is there").permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    assert!(server.stop().await.success());
    // Nobody has to say it again.
    let server = Launch::on(&data).start().await;
    assert!(server.log().contains("so this server has storage file"), "{}", server.log());
    assert_eq!(server.call(&name, &json!(7)).await, json!(7));
    server.update(&name, &json!({"code": "exports.handler = async () => 2;"})).await;
    assert_eq!(read(&data, &format!("code/{name}/function.js")), "exports.handler = async () => 2;");
    server.remove(&name).await;
    assert!(!file(&data, &format!("metadata/{name}.json")).exists());
    assert!(!file(&data, &format!("code/{name}")).exists());
}

#[tokio::test]
async fn an_edit_is_deployed_within_seconds_and_a_bad_one_is_refused() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let name = server.node(ECHO).await;
    let source = file(&data, &format!("code/{name}/function.js"));
    fs::write(&source, "exports.handler = async () => process.env.WHO ?? 2;").expect("written");
    called(&server, &name, &json!(2)).await;
    eventually("the metadata file follows", DEPLOYED, async || {
        (card(&data, &name)["version"] == 2).then_some(())
    })
    .await;
    let mut edited = card(&data, &name);
    edited["environment"] = json!({"WHO": "me"});
    fs::write(file(&data, &format!("metadata/{name}.json")), edited.to_string()).expect("written");
    called(&server, &name, &json!("me")).await;
    // Refused with file and reason: what is no JSON, what cannot be, and code that does not load.
    let metadata = format!("metadata/{name}.json");
    let before = read(&data, &metadata);
    fs::write(file(&data, &metadata), "{").expect("written");
    logged(&server, "it is not JSON").await;
    fs::write(file(&data, &metadata), before.replace("\"memory_mb\": 128", "\"memory_mb\": 1"))
        .expect("written");
    logged(&server, "memory").await;
    fs::write(file(&data, &metadata), &before).expect("written");
    fs::write(&source, "exports.handler = (").expect("written");
    logged(&server, "the version before goes on serving").await;
    assert_eq!(server.call(&name, &json!(1)).await, json!("me"));
    assert_eq!(fs::read_to_string(&source).unwrap_or_default(), "exports.handler = (");
    fs::write(&source, "exports.handler = async () => 'well';").expect("written");
    called(&server, &name, &json!("well")).await;
}

/// Whoever saves again before the first edit is built loses nothing.
#[tokio::test]
async fn what_is_saved_while_an_edit_is_deployed_is_deployed_as_well() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let name = server.node(ECHO).await;
    let source = file(&data, &format!("code/{name}/function.js"));
    let artifacts = || {
        let shards = fs::read_dir(data.folder().join("artifacts/sha256")).into_iter().flatten().flatten();
        shards.filter_map(|shard| fs::read_dir(shard.path()).ok()).map(Iterator::count).sum::<usize>()
    };
    let before = artifacts();
    // Loading it takes long enough for somebody to go on.
    let slow =
        "const end = Date.now() + 3000; while (Date.now() < end); exports.handler = async () => 'first';";
    fs::write(&source, slow).expect("written");
    eventually("the edit is being deployed", DEPLOYED, async || (artifacts() > before).then_some(())).await;
    let second = "exports.handler = async () => 'second';";
    fs::write(&source, second).expect("written");
    called(&server, &name, &json!("second")).await;
    assert_eq!(fs::read_to_string(&source).unwrap_or_default(), second);
}

#[tokio::test]
async fn files_that_come_are_functions_and_files_that_go_are_none() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let (name, other) = (unique("by-hand"), server.node(ECHO).await);
    let folder = file(&data, &format!("code/{name}"));
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("function.js"), "exports.handler = async () => 'new';").expect("written");
    let metadata = json!({"runtime": "nodejs", "handler": "index.handler"});
    fs::write(file(&data, &format!("metadata/{name}.json")), metadata.to_string()).expect("written");
    called(&server, &name, &json!("new")).await;
    assert_eq!(card(&data, &name)["memory_mb"], 128);
    fs::remove_file(file(&data, &format!("metadata/{name}.json"))).expect("removed");
    eventually("the function is gone", DEPLOYED, async || {
        (server.get(&path(&name)).await.status == 404).then_some(())
    })
    .await;
    assert!(!folder.exists());
    assert_eq!(server.call(&other, &json!(1)).await, json!(1));
    // Links are no way out.
    let hostile = unique("hostile");
    symlink("/etc", file(&data, &format!("code/{hostile}"))).expect("linked");
    fs::write(file(&data, &format!("metadata/{hostile}.json")), metadata.to_string()).expect("written");
    logged(&server, "links are refused").await;
    server.get(&path(&hostile)).await.with_status(404);
}

#[tokio::test]
async fn the_files_of_an_archive_are_edited_one_by_one() {
    let data = Data::new();
    let server = launch(&data).start().await;
    let archive = zip_of(&[
        ("index.js", "exports.handler = async () => require('./lib/word.js');"),
        ("lib/word.js", "module.exports = 'old';"),
    ]);
    let name = unique("archive");
    let query = format!("/api/v1/functions?name={name}&runtime=nodejs&handler=index.handler");
    server.post_bytes(&query, archive).await.with_status(201);
    assert_eq!(read(&data, &format!("code/{name}/lib/word.js")), "module.exports = 'old';");
    assert_eq!(card(&data, &name)["code"], Value::Null);
    fs::write(file(&data, &format!("code/{name}/lib/word.js")), "module.exports = 'edited';")
        .expect("written");
    called(&server, &name, &json!("edited")).await;
}

/// What the first Impuls has written is served, edited while no server was there or not.
#[tokio::test]
async fn the_tree_of_the_first_impuls_is_served_as_it_is() {
    let data = Data::new();
    for (name, code) in [
        ("hello", "exports.handler = async () => 'hello';"),
        ("py", "def handler(event, context):\n    return 'py'\n"),
    ] {
        fs::create_dir_all(file(&data, &format!("code/{name}"))).expect("made");
        fs::create_dir_all(file(&data, "metadata")).expect("made");
        fs::write(file(&data, &format!("code/{name}/function.js")), code).expect("written");
        let runtime = if name == "py" { "python" } else { "nodejs" };
        let metadata = json!({
            "id": "3f1b9f0e-3c57-4d7e-9a45-0d3a7c1f5a11", "name": name, "runtime": runtime,
            "handler": "index.handler", "code": code, "code_path": format!("/x/functions/code/{name}"),
            "memory_mb": 128, "timeout_sec": 30, "environment": null,
            "created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z",
        });
        fs::write(file(&data, &format!("metadata/{name}.json")), metadata.to_string()).expect("written");
    }
    let server = Launch::on(&data).start().await;
    called(&server, "hello", &json!("hello")).await;
    called(&server, "py", &json!("py")).await;
    assert!(server.stop().await.success());
    fs::write(file(&data, "code/hello/function.js"), "exports.handler = async () => 'meanwhile';")
        .expect("written");
    let server = Launch::on(&data).start().await;
    called(&server, "hello", &json!("meanwhile")).await;
    assert!(server.stop().await.success());
    // What another kind of store changes is not undone by old files.
    let server = Launch::on(&data).arguments(["--storage", "sqlite"]).start().await;
    assert!(server.log().contains("are not kept up to date"), "{}", server.log());
    server.update("hello", &json!({"code": "exports.handler = async () => 'newest';"})).await;
    assert!(server.stop().await.success());
    let server = Launch::on(&data).start().await;
    eventually("the files follow", DEPLOYED, async || {
        read(&data, "code/hello/function.js").contains("newest").then_some(())
    })
    .await;
    assert_eq!(server.call("hello", &json!(1)).await, json!("newest"));
}

/// Whatever a kill cuts off between the database and the files, the next server takes nothing of its own for an edit.
#[tokio::test]
async fn a_killed_server_neither_loses_a_deploy_nor_repeats_an_old_one() {
    let data = Data::new();
    let mut server = Arc::new(launch(&data).start().await);
    let name = server.node("exports.handler = async () => 0;").await;
    let (mut accepted, mut tried) = (0, 0);
    for round in 0..4_u64 {
        let deploying = tokio::spawn({
            let (server, name) = (server.clone(), name.clone());
            async move {
                let mut last = None;
                for n in 1..=500 {
                    let number = round * 1_000 + n;
                    let code = json!({"code": format!("exports.handler = async () => {number};")});
                    let request = server.request(Method::PUT, &path(&name)).json(&code);
                    match server.try_send(request).await {
                        Ok(reply) if reply.status == 200 => last = Some(number),
                        _ => return (last, number),
                    }
                }
                (last, 0)
            }
        });
        let shown = format!("code/{name}/function.js");
        eventually("some deploys are made", DEPLOYED, async || {
            let text = read(&data, &shown);
            let number =
                text.rsplit_once("=> ").and_then(|(_, rest)| rest.trim_end_matches(';').parse::<u64>().ok());
            number.is_some_and(|number| number >= round * 1_000 + 2 + round).then_some(())
        })
        .await;
        server.signal(Signal::KILL);
        let (last, cut_off) = deploying.await.expect("it does not panic");
        (accepted, tried) = (last.unwrap_or(accepted), cut_off);
        Arc::into_inner(server).expect("nobody else").kill().await;
        server = Arc::new(launch(&data).start().await);
        let found = server.get(&path(&name)).await.with_status(200).json();
        let code = found["code"].as_str().unwrap_or_default().to_owned();
        let is = |number: u64| code == format!("exports.handler = async () => {number};");
        assert!(is(accepted) || is(tried), "{code}: {accepted} was accepted, {tried} cut off");
        eventually("the files are what the server says", DEPLOYED, async || {
            (read(&data, &shown) == code && card(&data, &name)["version"] == found["version"]).then_some(())
        })
        .await;
        // A further edit shows that the look before it has found nothing else.
        let edited = format!("exports.handler = async () => 'edit {round}';");
        fs::write(file(&data, &shown), edited).expect("written");
        called(&server, &name, &json!(format!("edit {round}"))).await;
        let version = server.get(&path(&name)).await.json()["version"].as_u64();
        assert_eq!(version, found["version"].as_u64().map(|version| version + 1));
    }
    assert!(tried > 0);
}
