//! The process driver keeps every promise of the seam, whether a sandbox's process is executed or forked from a zygote.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use fixture::{Fixture, PYTHON, ZYGOTE};
use impuls_sandbox::conformance::Stage;
use impuls_sandbox::{RuntimeImage, SandboxDriver};

struct ProcessStage {
    fixture: Fixture,
    image: Arc<RuntimeImage>,
}

#[async_trait]
impl Stage for ProcessStage {
    fn driver(&self) -> &dyn SandboxDriver {
        self.fixture.driver.as_ref()
    }

    fn folder(&self) -> &Path {
        self.fixture.folder.path()
    }

    fn python(&self) -> Arc<RuntimeImage> {
        self.image.clone()
    }

    fn leftovers(&self) -> BTreeMap<&'static str, usize> {
        let own = format!("impuls-{}-", std::process::id());
        let spawner = fixture::spawner_of(std::process::id()).unwrap();
        BTreeMap::from([
            ("groups", fixture::groups()),
            ("sockets", fixture::sockets(self.folder())),
            ("processes", fixture::members(&own).len()),
            ("mounts", fixture::mounts(spawner)),
        ])
    }

    async fn close(&self) {
        self.fixture.driver.shutdown().await;
        assert_eq!(fixture::groups(), 0);
    }
}

async fn executed() -> ProcessStage {
    ProcessStage { fixture: Fixture::new().await, image: PYTHON.clone() }
}

async fn forked() -> ProcessStage {
    ProcessStage { fixture: Fixture::new().await, image: ZYGOTE.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python"]
async fn executed_processes_live_as_the_seam_promises() {
    impuls_sandbox::sandbox_life_conformance!(run executed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python"]
async fn executed_processes_that_misbehave_are_held() {
    impuls_sandbox::sandbox_abuse_conformance!(run executed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python"]
async fn executed_processes_are_walled_in() {
    impuls_sandbox::sandbox_walls_conformance!(run executed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python"]
async fn forked_processes_live_as_the_seam_promises() {
    impuls_sandbox::sandbox_life_conformance!(run forked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python"]
async fn forked_processes_that_misbehave_are_held() {
    impuls_sandbox::sandbox_abuse_conformance!(run forked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python"]
async fn forked_processes_are_walled_in() {
    impuls_sandbox::sandbox_walls_conformance!(run forked);
}
