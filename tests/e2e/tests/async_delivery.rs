//! How accepted calls find a place: no function holds back the others, and servers tell each other through Redis.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::time::Duration;

use impuls_e2e::functions::path;
use impuls_e2e::{Data, Launch, Server, Value, eventually, json};
use impuls_testkit::{Postgres, PostgresOptions, Redis, RedisOptions};

/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const ECHO: &str = "exports.handler = async (event) => event;";

async fn submit(server: &Server, name: &str, event: &Value) -> String {
    let accepted = server.post(&format!("{}/invocations", path(name)), event).await.with_status(202).json();
    accepted["id"].as_str().expect("an id").to_owned()
}

async fn succeeds(server: &Server, id: &str) {
    let look = async || {
        let found = server.get(&format!("/api/v1/invocations/{id}?wait=20s")).await.with_status(200).json();
        (found["status"] == "succeeded").then_some(())
    };
    eventually("the invocation succeeds", SOON, look).await;
}

async fn count(server: &Server, name: &str, status: &str) -> usize {
    let list = server.get(&format!("{}/invocations?status={status}&limit=200", path(name))).await;
    list.with_status(200).json()["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_function_with_a_backlog_does_not_hold_back_the_others() {
    let server = Server::start().await;
    // Each takes much longer than is waited here, one runs at a time, and there are more than run at once over all functions.
    let slow = "exports.handler = async () => new Promise((done) => setTimeout(done, 300000));";
    let crowd = server.node_with(slow, &json!({"max_concurrency": 1, "timeout_sec": 600})).await;
    let wide = server.node_with(slow, &json!({"timeout_sec": 600, "concurrency": 64})).await;
    let other = server.node(ECHO).await;
    for name in [&crowd, &wide] {
        for _ in 0..150 {
            submit(&server, name, &Value::Null).await;
        }
    }
    let id = submit(&server, &other, &json!(1)).await;
    succeeds(&server, &id).await;
    assert_eq!(count(&server, &crowd, "running").await, 1, "no more are taken than run");
    let running = count(&server, &wide, "running").await;
    assert!((1..=96).contains(&running), "{running} of one function are taken");
    for name in [&crowd, &wide] {
        server.remove(name).await;
    }
}

async fn servers() -> (Postgres, Redis, String) {
    let started = tokio::task::spawn_blocking(|| {
        let postgres = Postgres::start(PostgresOptions::default());
        let url = postgres.url(&postgres.database());
        (postgres, Redis::start(RedisOptions::default()), url)
    });
    started.await.expect("they start")
}

fn launch(database: &str, redis: &str) -> Launch {
    let launch = Launch::on(&Data::new()).argument("--storage=postgres");
    launch.variable("IMPULS_DB_CONN", database).variable("IMPULS_REDIS", redis)
}

#[tokio::test]
#[ignore = "needs postgres, redis"]
async fn calls_are_offered_through_redis_and_delivered_without_it() {
    let (_postgres, mut redis, database) = servers().await;
    let server = launch(&database, &redis.url()).start().await;
    let name = server.node(ECHO).await;
    let id = submit(&server, &name, &json!(1)).await;
    succeeds(&server, &id).await;
    assert!(redis.command(&["XINFO", "GROUPS", "impuls:invocations"]).contains("impuls"));
    let redis = tokio::task::spawn_blocking(move || {
        redis.kill();
        redis
    });
    let mut redis = redis.await.expect("Redis is killed");
    for n in 0..20 {
        let id = submit(&server, &name, &json!(n)).await;
        succeeds(&server, &id).await;
    }
    let redis = tokio::task::spawn_blocking(move || {
        redis.resume();
        redis
    });
    let redis = redis.await.expect("Redis starts again");
    let used = async || {
        let id = submit(&server, &name, &Value::Null).await;
        succeeds(&server, &id).await;
        redis.command(&["EXISTS", "impuls:invocations"]).contains('1').then_some(())
    };
    eventually("Redis is used again", SOON, used).await;
    let log = server.log();
    assert_eq!(log.matches("cannot use Redis").count(), 1, "{log}");
    assert!(!log.contains("p@ss") && !log.contains("p%40ss"), "{log}");
}

#[tokio::test]
#[ignore = "needs postgres, redis"]
async fn the_variables_of_gofaas_name_the_redis() {
    let (_postgres, redis, database) = servers().await;
    let server = Launch::on(&Data::new())
        .argument("--storage=postgres")
        .variable("IMPULS_DB_CONN", &database)
        .variable("REDIS_ADDR", format!("127.0.0.1:{}", redis.port()))
        .variable("REDIS_PASSWORD", impuls_testkit::redis::PASSWORD)
        .variable("REDIS_DB", "2")
        .start()
        .await;
    let name = server.node(ECHO).await;
    let id = submit(&server, &name, &json!(1)).await;
    succeeds(&server, &id).await;
    let used =
        async || redis.command(&["-n", "2", "EXISTS", "impuls:invocations"]).contains('1').then_some(());
    eventually("the second database is used", SOON, used).await;
}

#[tokio::test]
async fn a_redis_that_is_not_one_is_a_clear_error_and_one_that_is_away_a_warning() {
    let refused = Launch::on(&Data::new()).argument("--redis=http://:p@ss@h").refused().await;
    assert!(refused.message.contains("redis:// nor rediss://"), "{}", refused.message);
    assert!(!refused.message.contains("p@ss"), "{}", refused.message);
    let refused =
        Launch::on(&Data::new()).arguments(["--redis=rediss://h", "--redis-ca=/nowhere"]).refused().await;
    assert!(refused.message.contains("--redis-ca /nowhere"), "{}", refused.message);
    let server = Launch::on(&Data::new()).argument("--redis=redis://127.0.0.1:1").start().await;
    let name = server.node(ECHO).await;
    let id = submit(&server, &name, &json!(1)).await;
    succeeds(&server, &id).await;
    assert_eq!(server.log().matches("cannot use Redis at 127.0.0.1:1").count(), 1, "{}", server.log());
}
