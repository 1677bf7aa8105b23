//! The container driver keeps every promise of the seam, with each OCI runtime.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/stage.rs"]
mod stage;

use std::fs;
use std::sync::Arc;

use impuls_sandbox::conformance::{Stage, fixture};
use impuls_sandbox::{BindMount, RuntimeImage, SandboxLimits};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, crun"]
async fn containers_of_crun_do_not_swap() {
    does_not_swap(crun().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, runc"]
async fn containers_of_runc_do_not_swap() {
    does_not_swap(runc().await).await;
}

/// Neither as they are made nor under the limits of their function, whether it has more or less.
async fn does_not_swap(stage: ContainerStage) {
    for memory_mib in [fixture::LIMITS.memory_mib * 2, fixture::LIMITS.memory_mib / 2] {
        let sandbox = fixture::create(&stage).await;
        check_swap();
        let limits = SandboxLimits { memory_mib, ..fixture::LIMITS };
        let code = "def handler(event, context): return event";
        let assignment = fixture::assignment(&stage, sandbox.as_ref(), code, limits);
        let loaded = sandbox.assign(assignment, fixture::deadline(60)).await;
        assert_eq!(loaded.unwrap(), Ok(()));
        check_swap();
        sandbox.destroy().await.unwrap();
    }
    stage.close().await;
}

/// That no group has room in swap, in either version.
fn check_swap() {
    for group in stage::groups() {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        if let Some(both) = read("memory.memsw.limit_in_bytes") {
            assert_eq!(Some(both), read("memory.limit_in_bytes"), "{}", group.display());
        }
        if let Some(swap) = read("memory.swap.max") {
            assert_eq!(swap, "0\n", "{}", group.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, python, crun"]
async fn a_root_that_could_not_be_put_together_can_be_later() {
    let stage = crun().await;
    let host = stage.folder.path().join("late");
    let python = stage.python();
    let late = BindMount { host: host.clone(), guest: "/opt/late".into() };
    let mounts = python.mounts.iter().cloned().chain([late]).collect();
    let image = Arc::new(RuntimeImage { mounts, ..(*python).clone() });
    assert!(fixture::try_create(&stage, image.clone(), fixture::LIMITS).await.is_err());
    fs::write(host, "").unwrap();
    let sandbox = fixture::try_create(&stage, image, fixture::LIMITS).await.unwrap();
    sandbox.destroy().await.unwrap();
    stage.close().await;
}
