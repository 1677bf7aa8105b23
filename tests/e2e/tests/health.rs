//! What probes are told.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::time::Duration;

use impuls_e2e::{Data, Launch, Server, eventually, json};
use impuls_testkit::{Postgres, PostgresOptions};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(20);
const ECHO: &str = "exports.handler = async (event) => event;";

async fn becomes(server: &Server, code: u16, status: &str) {
    let told = async || {
        let reply = server.get("/health/ready").await;
        (reply.status == code && reply.json()["status"] == status).then_some(())
    };
    eventually(status, SOON, told).await;
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_says_so_and_answers_for_a_while() {
    let mut server = Launch::on(&Data::new()).argument("--shutdown-delay=10m").start().await;
    let name = server.node(ECHO).await;
    becomes(&server, 200, "ready").await;
    server.signal(Signal::TERM);
    becomes(&server, 503, "draining").await;
    // Also on new connections.
    assert_eq!(server.call(&name, &json!(1)).await, json!(1));
    let live = server.get("/health/live").await.with_status(200).json();
    assert_eq!(live, json!({"status": "alive"}));
    assert_eq!(server.get("/health").await.with_status(200).json()["status"], "healthy");
    // A second signal ends the wait.
    server.signal(Signal::TERM);
    assert!(server.ended(SOON).await.success());
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_server_without_its_store_is_alive_and_not_ready() {
    let (mut postgres, url) = tokio::task::spawn_blocking(|| {
        let postgres = Postgres::start(PostgresOptions::default());
        let url = postgres.url(&postgres.database());
        (postgres, url)
    })
    .await
    .expect("PostgreSQL starts");
    let launch =
        Launch::on(&Data::new()).arguments(["--storage", "postgres"]).variable("IMPULS_DB_CONN", url);
    let server = launch.start().await;
    server.expect_error("invocation records are lost");
    let name = server.node(ECHO).await;
    becomes(&server, 200, "ready").await;
    let mut postgres = tokio::task::spawn_blocking(move || {
        postgres.kill();
        postgres
    })
    .await
    .expect("PostgreSQL is killed");
    becomes(&server, 503, "store_unavailable").await;
    server.get("/health/live").await.with_status(200);
    assert_eq!(server.call(&name, &json!(2)).await, json!(2));
    let resumed = tokio::task::spawn_blocking(move || {
        postgres.resume();
        postgres
    });
    let _postgres = resumed.await.expect("PostgreSQL starts again");
    becomes(&server, 200, "ready").await;
}
