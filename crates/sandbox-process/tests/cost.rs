//! What the steps of a sandbox's life cost on this machine. Prints; fails only when something is out of all
//! proportion, because the machine may be busy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

#[path = "support/fixture.rs"]
mod fixture;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fixture::{Fixture, NODE, PYTHON, ZYGOTE};
use impuls_sandbox::RuntimeImage;

const ROUNDS: usize = 20;

fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("  {what:30} median {:>9.3?}  p90 {:>9.3?}  max {:>9.3?}", at(50), at(90), at(100));
    at(50)
}

async fn measure(fixture: &Fixture, name: &str, image: &Arc<RuntimeImage>, file: &str, code: &str) {
    drop(fixture.create(image).await);
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let sandbox = fixture.create(image).await;
        times[0].push(start.elapsed());
        let start = Instant::now();
        fixture.assign(&sandbox, file, code).await.unwrap();
        times[1].push(start.elapsed());
        let start = Instant::now();
        let connection = sandbox.connect().await.unwrap();
        fixture::call(&connection, "1").await.unwrap();
        times[2].push(start.elapsed());
        let start = Instant::now();
        sandbox.destroy().await.unwrap();
        times[3].push(start.elapsed());
    }
    for (what, times) in ["create", "assign", "connect and first call", "destroy"].into_iter().zip(times) {
        let median = report(&format!("{name}: {what}"), times);
        assert!(median < Duration::from_secs(2), "{name}: {what} takes {median:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn every_step_is_quick() {
    let fixture = Fixture::new().await;
    let python = "def handler(event, context):\n    return event\n";
    measure(&fixture, "node", &NODE, "index.js", "exports.handler = async e => e").await;
    measure(&fixture, "python", &PYTHON, "index.py", python).await;
    measure(&fixture, "zygote", &ZYGOTE, "index.py", python).await;
    fixture.driver.shutdown().await;
}
