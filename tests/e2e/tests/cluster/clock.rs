//! Nodes whose clocks differ: who holds what, and what is due, is decided by the clock of the database.

use std::collections::HashSet;

use impuls_e2e::clock::apart;

use super::*;

const AHEAD: &str = "+1h";
/// Takes a while, and says which run it was.
const SLOW: &str = "exports.handler = async (event) => { await new Promise((done) => setTimeout(done, 2_000)); \
                    return [event, require('crypto').randomUUID()]; };";

impl Cluster {
    async fn ahead(&self, role: &str, arguments: [&str; 2]) -> Server {
        apart(self.launch(role, &Data::new()), AHEAD).arguments(arguments).start().await
    }
}

#[tokio::test]
#[ignore = "needs postgres, faketime"]
async fn a_node_an_hour_ahead_takes_over_nothing_that_is_alive() {
    let cluster = Cluster::new().await;
    let _right = cluster.worker("right").await;
    let wrong = cluster.ahead("worker", ["--worker-id", "wrong"]).await;
    let controller = cluster.controller().await;
    let early = cluster.ahead("controller", ["--log-level", "info"]).await;
    assert!(wrong.log().contains("is not this machine's"), "the clock is wrong: {}", wrong.log());
    let name = controller.node(SLOW).await;
    answers(&early, &name).await;
    let mut jobs = Vec::new();
    for number in 0..40 {
        let through = if number % 2 == 0 { &*controller } else { &early };
        jobs.push((number, submit(through, &name, &json!(number)).await));
    }
    // A delay is a span, whoever counts it.
    let delayed = format!("{}/invocations?delay=2s", path(&name));
    for (number, through) in [(40, &*controller), (41, &early)] {
        let id = through.post(&delayed, &json!(number)).await.with_status(202).json()["id"].clone();
        jobs.push((number, id.as_str().expect("an id").to_owned()));
    }
    let mut runs = HashSet::new();
    for (number, id) in &jobs {
        let found = ended(&controller, id, SOON).await;
        assert_eq!((&found["status"], &found["attempts"]), (&json!("succeeded"), &json!(1)), "{found}");
        assert_eq!(found["result"][0], json!(number), "{found}");
        assert!(runs.insert(found["result"][1].to_string()), "{found}");
    }
}

#[tokio::test]
#[ignore = "needs postgres, faketime"]
async fn schedulers_whose_clocks_differ_make_each_tick_once() {
    let cluster = Cluster::new().await;
    let _worker = cluster.worker("one").await;
    let right = cluster.controller().await;
    let ahead = cluster.ahead("controller", ["--log-level", "info"]).await;
    let name = right.node(ECHO).await;
    answers(&ahead, &name).await;
    for (through, schedule) in [(&*right, "right"), (&ahead, "ahead")] {
        let put =
            through.put(&format!("{}/schedules/{schedule}", path(&name)), &json!({"interval_sec": 1})).await;
        assert!([200, 201].contains(&put.status), "{}", put.text());
    }
    let succeeded = format!("{}/invocations?status=succeeded&limit=200", path(&name));
    let ticks = async || {
        let list = right.get(&succeeded).await.with_status(200).json();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        (items.len() >= 12).then_some(items)
    };
    let mut seen = HashSet::new();
    let mut of = [0, 0];
    for item in eventually("twelve ticks have run", SOON, ticks).await {
        let id = item["id"].as_str().expect("an id");
        let row = right.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
        assert!(seen.insert(row["result"].to_string()), "a tick ran twice: {row}");
        of[usize::from(row["result"]["schedule"] == "ahead")] += 1;
    }
    assert!(of.iter().all(|ticks| (4..=8).contains(ticks)), "one of them ticks for an hour at once: {of:?}");
}
