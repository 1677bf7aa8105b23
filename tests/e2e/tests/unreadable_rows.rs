//! Rows that this release cannot read: a newer one may have written them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::time::Duration;

use impuls_e2e::functions::FUNCTIONS;
use impuls_e2e::{Data, Launch, Server, eventually, json};
use impuls_testkit::{Postgres, PostgresOptions};

/// How long a server may take to hear of another's change.
const SOON: Duration = Duration::from_secs(30);
const ECHO: &str = "exports.handler = async (event) => event;";

/// A server on this database whose code is in that folder.
async fn server(url: &str, code: &Data) -> Server {
    let data = Data::new();
    std::fs::create_dir(data.folder()).expect("a data folder");
    let artifacts = code.folder().join("artifacts");
    std::os::unix::fs::symlink(artifacts, data.folder().join("artifacts")).expect("a link");
    let launch = Launch::on(&data).arguments(["--storage", "postgres"]).variable("IMPULS_DB_CONN", url);
    let server = launch.start().await;
    server.expect_error("cannot be read");
    server
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_function_that_cannot_be_read_holds_up_no_other() {
    let started = tokio::task::spawn_blocking(|| {
        let postgres = Postgres::start(PostgresOptions::default());
        let database = postgres.database();
        (postgres, database)
    });
    let (postgres, database) = started.await.expect("PostgreSQL starts");
    let (url, code) = (postgres.url(&database), Data::new());
    std::fs::create_dir_all(code.folder().join("artifacts")).expect("a folder of code");
    let (first, second) = (server(&url, &code).await, server(&url, &code).await);
    let (odd, other) = (first.node(ECHO).await, first.node(ECHO).await);
    let known = async || (second.invoke(&odd, &json!(1)).await.status == 200).then_some(());
    eventually("the other server knows it", SOON, known).await;
    let statement = format!(
        "UPDATE impuls_functions SET state_log = '[[\"dreaming\",1]]' WHERE name = '{odd}'; \
         SELECT pg_notify('impuls_functions', id::text) FROM impuls_functions WHERE name = '{odd}'"
    );
    postgres.sql(&database, &statement);
    // What is changed after it is heard of all the same, and it runs as before.
    first.update(&other, &json!({"code": "exports.handler = async () => 'changed';"})).await;
    let heard = async || (second.invoke(&other, &json!(1)).await.json()["body"] == "changed").then_some(());
    eventually("the other server has heard of the change", SOON, heard).await;
    assert_eq!(second.call(&odd, &json!(2)).await, json!(2));
    let third = server(&url, &code).await;
    assert_eq!(third.call(&other, &json!(1)).await, json!("changed"));
    assert_eq!(third.invoke(&odd, &json!(1)).await.status, 404);
    let listed = third.get(FUNCTIONS).await.with_status(200).text();
    assert!(listed.contains(&other) && !listed.contains(&odd), "{listed}");
    for node in [&second, &third] {
        assert!(node.log().contains("a stored function cannot be read"), "{}", node.log());
    }
}
