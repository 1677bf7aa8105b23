//! The container driver keeps every promise of the seam, with each OCI runtime.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/stage.rs"]
mod stage;

use stage::ContainerStage;

async fn crun() -> ContainerStage {
    ContainerStage::open("crun").await
}

async fn runc() -> ContainerStage {
    ContainerStage::open("runc").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, crun"]
async fn containers_of_crun_live_as_the_seam_promises() {
    impuls_sandbox::sandbox_life_conformance!(run crun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, crun"]
async fn containers_of_crun_that_misbehave_are_held() {
    impuls_sandbox::sandbox_abuse_conformance!(run crun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, crun"]
async fn containers_of_crun_are_walled_in() {
    impuls_sandbox::sandbox_walls_conformance!(run crun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, runc"]
async fn containers_of_runc_live_as_the_seam_promises() {
    impuls_sandbox::sandbox_life_conformance!(run runc);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, runc"]
async fn containers_of_runc_that_misbehave_are_held() {
    impuls_sandbox::sandbox_abuse_conformance!(run runc);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, runc"]
async fn containers_of_runc_are_walled_in() {
    impuls_sandbox::sandbox_walls_conformance!(run runc);
}
