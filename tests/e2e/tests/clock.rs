//! A server whose clock is set while it works: nothing runs twice, is lost, or waits for the time that was skipped.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::time::Duration;

use impuls_e2e::clock::WallClock;
use impuls_e2e::functions::path;
use impuls_e2e::{Data, Launch, Server, Value, eventually, json};

/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const SLOW: &str = "exports.handler = async (event) => { await new Promise((done) => setTimeout(done, 3_000)); \
                    return event; };";

async fn submit(server: &Server, name: &str, query: &str, event: &Value) -> String {
    let reply = server.post(&format!("{}/invocations{query}", path(name)), event).await.with_status(202);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

async fn runs_once(server: &Server, id: &str, result: Value) {
    let path = format!("/api/v1/invocations/{id}?wait=20s");
    let look = async || {
        let found = server.get(&path).await.with_status(200).json();
        found["completed_at"].is_string().then_some(found)
    };
    let found = eventually("the invocation ends", SOON, look).await;
    assert_eq!((&found["status"], &found["attempts"]), (&json!("succeeded"), &json!(1)), "{found}");
    assert_eq!(found["result"], result, "{found}");
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn a_clock_that_jumps_lets_every_job_run_once() {
    let data = Data::new();
    let clock = WallClock::of(&data);
    let server = clock.rules(Launch::on(&data)).start().await;
    let name = server.node(SLOW).await;
    for (number, difference) in ["+1h", "-2h", "+30m", "+0"].into_iter().enumerate() {
        let mut jobs = Vec::new();
        for job in 0..6 {
            jobs.push((job, submit(&server, &name, "", &json!([number, job])).await));
        }
        // Waits when the clock is set, and is due all the same.
        jobs.push((6, submit(&server, &name, "?delay=4s", &json!([number, 6])).await));
        let running = format!("{}/invocations?status=running", path(&name));
        let run = async || {
            let list = server.get(&running).await.with_status(200).json();
            list["items"].as_array().is_some_and(|items| items.len() == 6).then_some(())
        };
        eventually("the jobs run", SOON, run).await;
        let set = server.log().matches("the clock that asynchronous invocations go by was set").count();
        clock.set(difference);
        let noticed = async || {
            let now = server.log().matches("the clock that asynchronous invocations go by was set").count();
            (now > set).then_some(())
        };
        eventually("the server notices", SOON, noticed).await;
        jobs.push((7, submit(&server, &name, "", &json!([number, 7])).await));
        for (job, id) in &jobs {
            runs_once(&server, id, json!([number, job])).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn what_was_accepted_before_the_clock_was_set_back_runs_after_a_restart() {
    let data = Data::new();
    let clock = WallClock::of(&data);
    clock.set("+3h");
    let server = clock.rules(Launch::on(&data)).start().await;
    let name = server.node("exports.handler = async (event) => event;").await;
    let id = submit(&server, &name, "?delay=5s", &json!("kept")).await;
    server.kill().await;
    clock.set("+0");
    let server = clock.rules(Launch::on(&data)).start().await;
    runs_once(&server, &id, json!("kept")).await;
}
