//! Functions in a PostgreSQL database: servers that start, stop and lose it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Server, eventually, json, unique, within};
use impuls_testkit::{Postgres, PostgresOptions, SomeDatabase};

/// How long a server may take to notice that its database is back.
const RECOVERY: Duration = Duration::from_secs(30);
const ECHO: &str = "exports.handler = async (event) => event;";

async fn database() -> (Postgres, String) {
    let started = tokio::task::spawn_blocking(|| {
        let postgres = Postgres::start(PostgresOptions::default());
        let url = postgres.url(&postgres.database());
        (postgres, url)
    });
    started.await.expect("PostgreSQL starts")
}

/// Where nothing happens to the database itself.
async fn some_database() -> SomeDatabase {
    tokio::task::spawn_blocking(SomeDatabase::get).await.expect("PostgreSQL starts")
}

fn launch(data: &Data, url: &str) -> Launch {
    Launch::on(data).arguments(["--storage", "postgres"]).variable("IMPULS_DB_CONN", url)
}

fn no_password(text: &str) {
    assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn functions_outlive_servers_that_stop_and_that_are_killed() {
    let database = some_database().await;
    let url = database.url();
    let data = Data::new();
    let server = launch(&data, url).start().await;
    let name = server.node(ECHO).await;
    server.put(&format!("{}/aliases/live", path(&name)), &json!({"version": 1})).await.with_status(200);
    assert_eq!(server.call(&name, &json!({"a": 1})).await, json!({"a": 1}));
    server.update(&name, &json!({"code": "exports.handler = async () => 2;"})).await;
    assert!(server.stop().await.success());
    let server = launch(&data, url).start().await;
    assert_eq!(server.call(&name, &json!(1)).await, json!(2));
    let live = format!("{}/invoke?qualifier=live", path(&name));
    assert_eq!(server.post(&live, &json!(1)).await.result(), json!(1));
    server.kill().await;
    let server = launch(&data, url).start().await;
    assert_eq!(server.call(&name, &json!(1)).await, json!(2));
    let pair = server.get(&format!("{}/versions", path(&name))).await.with_status(200).json();
    assert_eq!(pair["versions"].as_array().map(Vec::len), Some(2), "{pair}");
    server.remove(&name).await;
    server.get(&path(&name)).await.with_status(404);
    no_password(&server.log());
    assert!(!data.folder().join("impuls.db").exists());
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_variables_of_an_earlier_server_name_the_database() {
    let (postgres, url) = database().await;
    let (_, name) = url.rsplit_once('/').expect("a database");
    let server = Launch::on(&Data::new())
        .argument("--storage=postgres")
        .variable("DB_HOST", "127.0.0.1")
        .variable("DB_PORT", postgres.port().to_string())
        .variable("DB_PASSWORD", impuls_testkit::postgres::PASSWORD)
        .variable("DB_NAME", name)
        .start()
        .await;
    let function = server.node(ECHO).await;
    assert_eq!(server.call(&function, &json!(7)).await, json!(7));
    assert_eq!(postgres.sql(name, "SELECT name FROM impuls_functions"), function);
}

#[tokio::test]
async fn a_database_that_is_not_named_or_not_there_is_a_clear_error() {
    let refused = Launch::on(&Data::new()).argument("--storage=postgres").refused().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.message.contains("--db-conn postgres://"), "{}", refused.message);
    let wrong = [
        ("mysql://root:p@ss@h/x", "postgres:// is wanted"),
        ("postgres://u:p@ss@127.0.0.1:1/x", "cannot reach PostgreSQL at 127.0.0.1:1"),
        ("host=127.0.0.1 port=1 password='p@ss' sslmode=sure", "sslmode is none of"),
    ];
    for (url, text) in wrong {
        let refused = launch(&Data::new(), url).refused().await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.message.contains(text), "{}", refused.message);
        no_password(&refused.message);
    }
    let refused = Launch::on(&Data::new()).argument("--storage=bogus").refused().await;
    assert!(refused.message.contains("those that are: sqlite, file, postgres"), "{}", refused.message);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn without_its_database_a_server_calls_what_it_knows_and_recovers_by_itself() {
    let (mut postgres, url) = database().await;
    let server = launch(&Data::new(), &url).start().await;
    // What somebody asked for and did not get is an error; so are lost records.
    for text in ["a request failed", "invocation records are lost"] {
        server.expect_error(text);
    }
    let name = server.node(ECHO).await;
    let mut postgres = tokio::task::spawn_blocking(move || {
        postgres.kill();
        postgres
    })
    .await
    .expect("PostgreSQL is killed");
    assert_eq!(server.call(&name, &json!("still here")).await, json!("still here"));
    let fields =
        json!({"name": unique("late"), "runtime": "nodejs", "handler": "index.handler", "code": ECHO});
    let later = [
        server.post(FUNCTIONS, &fields).await,
        server.post(&format!("{}/invocations", path(&name)), &json!(1)).await,
    ];
    for reply in later {
        let reply = reply.with_status(503);
        assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
        no_password(&reply.text());
    }
    assert_eq!(server.call(&name, &json!(2)).await, json!(2));
    let _postgres = tokio::task::spawn_blocking(move || {
        postgres.resume();
        postgres
    })
    .await
    .expect("PostgreSQL starts again");
    let deployed = async || (server.post(FUNCTIONS, &fields).await.status == 201).then_some(());
    eventually("functions can be deployed again", RECOVERY, deployed).await;
    let accepted =
        server.post(&format!("{}/invocations", path(&name)), &json!(1)).await.with_status(202).json();
    let id = accepted["id"].as_str().expect("an id").to_owned();
    let ended = async || {
        let invocation = server.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
        (invocation["status"] == "succeeded").then_some(())
    };
    eventually("the invocation is delivered", RECOVERY, ended).await;
    // The two calls that ended while the database was away are in the log, beside the one that was delivered.
    let logs = format!("{}/logs", path(&name));
    let logged = async || {
        let logs = server.get(&logs).await.with_status(200).json();
        (logs["items"].as_array().is_some_and(|items| items.len() == 3)).then_some(())
    };
    eventually("the calls are in the log", RECOVERY, logged).await;
    no_password(&server.log());
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn tables_are_made_by_whoever_may() {
    let database = some_database().await;
    let url = database.url();
    let refused = launch(&Data::new(), url).argument("--no-auto-migrate").refused().await;
    assert!(refused.message.contains("impuls store schema --storage postgres"), "{}", refused.message);
    let output =
        std::process::Command::new(program()).args(["store", "schema", "--storage", "postgres"]).output();
    let script = String::from_utf8(output.expect("the program runs").stdout).expect("SQL is text");
    database.sql(&script);
    let server: Server = launch(&Data::new(), url).argument("--no-auto-migrate").start().await;
    let function = server.node(ECHO).await;
    assert_eq!(server.call(&function, &json!(1)).await, json!(1));
}

/// Soon: the database tells at once.
const SOON: Duration = Duration::from_secs(20);

async fn says(server: &Server, name: &str, expected: &impuls_e2e::Value) {
    let said = async || {
        let reply = server.invoke(name, &json!(null)).await;
        (reply.status == 200 && reply.json()["body"] == *expected).then_some(())
    };
    eventually(&format!("{name} says {expected}"), SOON, said).await;
}

async fn is_gone(server: &Server, name: &str) {
    let gone = async || (server.invoke(name, &json!(null)).await.status == 404).then_some(());
    eventually(&format!("{name} is gone"), SOON, gone).await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn servers_of_one_database_hear_of_each_others_changes() {
    let (mut postgres, url) = database().await;
    let (here, there) = (Data::new(), Data::new());
    let first = launch(&here, &url).start().await;
    // Code is shared as operators would share it.
    std::fs::create_dir(there.folder()).expect("a data folder");
    let artifacts = here.folder().join("artifacts");
    std::os::unix::fs::symlink(artifacts, there.folder().join("artifacts")).expect("a link");
    let second = launch(&there, &url).start().await;
    for server in [&first, &second] {
        server.expect_error("invocation records are lost");
    }
    let name = first.node("exports.handler = async () => 1;").await;
    says(&second, &name, &json!(1)).await;
    second.update(&name, &json!({"code": "exports.handler = async () => 2;"})).await;
    says(&first, &name, &json!(2)).await;
    first.put(&format!("{}/aliases/live", path(&name)), &json!({"version": 1})).await.with_status(200);
    let live = format!("{}/invoke?qualifier=live", path(&name));
    let aliased = async || (second.post(&live, &json!(null)).await.status == 200).then_some(());
    eventually("the alias is known", SOON, aliased).await;
    // Whichever of them runs it, both hear of its end.
    let accepted =
        first.post(&format!("{}/invocations", path(&name)), &json!(1)).await.with_status(202).json();
    let waiting = format!("/api/v1/invocations/{}?wait=60s", accepted["id"].as_str().expect("an id"));
    for server in [&first, &second] {
        let ended = within("the end is heard of", SOON, server.get(&waiting)).await.with_status(200).json();
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }
    let other = first.node("exports.handler = async () => 3;").await;
    second.remove(&name).await;
    is_gone(&first, &name).await;
    says(&second, &other, &json!(3)).await;
    // What happens while nobody can listen is made good afterwards.
    let _postgres = tokio::task::spawn_blocking(move || {
        postgres.kill();
        postgres.resume();
        postgres
    })
    .await
    .expect("PostgreSQL starts again");
    let removed = async || (first.delete(&path(&other)).await.status == 200).then_some(());
    eventually("functions can be removed again", RECOVERY, removed).await;
    is_gone(&second, &other).await;
    drop((first, second));
}
