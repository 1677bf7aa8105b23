//! Cases of `RetentionStore`.

use impuls_domain::{ArtifactDigest, Built, Destination, Destinations, FunctionId, RetryPolicy};

use super::async_invocation::{Queue, queued};
use super::fixture::{alias, at, create, deploy, number, revision, snapshot};
use crate::{BuildStore, NotedBuild, RetentionStore, VersionStore};

/// What the cases need.
pub trait Retention: Queue + VersionStore + BuildStore + RetentionStore {}

impl<S: Queue + VersionStore + BuildStore + RetentionStore> Retention for S {}

const fn digest(byte: u8) -> ArtifactDigest {
    ArtifactDigest::from_bytes([byte; 32])
}

async fn numbers(store: &impl Retention, function: FunctionId) -> Vec<u64> {
    let found = store.list_versions(function, None, 100).await.expect("the store answers");
    found.into_iter().map(|entry| entry.number.get()).collect()
}

async fn delete_all(store: &impl Retention, function: FunctionId) -> u64 {
    let all: Vec<_> = (1..20).map(number).collect();
    store.delete_versions(function, &all).await.expect("the store answers")
}

/// And with them their revisions; versions of others stay.
pub async fn versions_that_nothing_names_are_deleted(store: &impl Retention) {
    let other = create(store, "other").await;
    deploy(store, &other, 9).await;
    let mut function = create(store, "old").await;
    for seed in 1..5 {
        function = deploy(store, &function, seed).await;
    }
    let two = [number(1), number(3)];
    assert_eq!(store.delete_versions(function.id, &two).await.expect("the store answers"), 2);
    assert_eq!(numbers(store, function.id).await, [5, 4, 2]);
    assert_eq!(store.find_version(function.id, number(3)).await.expect("the store answers"), None);
    assert_eq!(store.delete_versions(function.id, &two).await.expect("the store answers"), 0);
    assert_eq!(store.delete_versions(function.id, &[]).await.expect("the store answers"), 0);
    assert_eq!(numbers(store, other.id).await, [2, 1]);
    assert_eq!(snapshot(store, function.id).await.function, function);
}

/// The newest can be called, and so can all others that somebody has a name for.
pub async fn versions_that_something_names_stay(store: &impl Retention) {
    let mut function = create(store, "named").await;
    for seed in 1..7 {
        function = deploy(store, &function, seed).await;
    }
    let id = function.id;
    store.put_alias(id, &alias("live", &[(1, 90), (2, 10)])).await.expect("kept");
    let invocation =
        impuls_domain::AsyncInvocation { qualifier: "3".parse().expect("a version"), ..queued(id) };
    store.enqueue(&invocation).await.expect("kept");
    let told = Destination::Function(id, "4".parse().expect("a version"));
    let destinations = Destinations { on_success: Some(told), on_failure: None };
    let other = create(store, "teller").await.id;
    let settings = impuls_domain::AsyncSettings { policy: RetryPolicy::DEFAULT, destinations };
    store.put_async_settings(other, Some(&settings)).await.expect("kept");
    assert_eq!(delete_all(store, id).await, 2);
    assert_eq!(numbers(store, id).await, [7, 4, 3, 2, 1]);
    assert_eq!(snapshot(store, id).await.aliases.len(), 1);
    assert!(store.delete_alias(id, &"live".parse().expect("a name")).await.expect("the store answers"));
    assert_eq!(delete_all(store, id).await, 2);
    assert_eq!(numbers(store, id).await, [7, 4, 3]);
}

/// A build that is noted again is a new one.
pub async fn builds_that_were_not_noted_lately_are_forgotten(store: &impl Retention) {
    for key in 1..6 {
        store.put_build(&digest(key), &digest(key), at(i64::from(key))).await.expect("noted");
    }
    store.put_build(&digest(1), &digest(1), at(9)).await.expect("noted");
    assert_eq!(store.delete_builds(at(5), 2).await.expect("the store answers"), 2);
    assert_eq!(store.delete_builds(at(5), 2).await.expect("the store answers"), 1);
    assert_eq!(store.delete_builds(at(5), 2).await.expect("the store answers"), 0);
    for (key, known) in [(1, true), (2, false), (3, false), (4, false), (5, true)] {
        let found = store.find_build(&digest(key)).await.expect("the store answers");
        assert_eq!(found.is_some(), known, "{key}");
    }
}

/// A new revision of source 7, of which archive 3 was built.
async fn deploy_built(store: &impl Retention, function: &impuls_domain::Function) {
    let built = || impuls_domain::Revision {
        artifact: digest(7),
        built: Built::Archive(digest(3)),
        ..revision(function.id, 1)
    };
    let next = crate::conformance::fixture::deployed(function, &built());
    let latest = impuls_domain::Revision { id: next.latest, ..built() };
    store.deploy_revision(function, &next, &latest).await.expect("kept");
}

/// Page by page. What nobody runs is kept for the sake of builds to come alone.
pub async fn builds_are_listed_with_whether_somebody_runs_them(store: &impl Retention) {
    let function = create(store, "built").await;
    deploy_built(store, &function).await;
    for (key, archive) in [(9, 3), (2, 4), (5, 3)] {
        store.put_build(&digest(key), &digest(archive), at(i64::from(key))).await.expect("noted");
    }
    let noted = |key, archive, is_deployed| NotedBuild {
        key: digest(key),
        archive: digest(archive),
        noted_at: at(i64::from(key)),
        is_deployed,
    };
    let page = store.list_builds(None, 2).await.expect("the store answers");
    assert_eq!(page, [noted(2, 4, false), noted(5, 3, true)]);
    let page = store.list_builds(Some(digest(5)), 2).await.expect("the store answers");
    assert_eq!(page, [noted(9, 3, true)]);
    store.delete_function(function.id).await.expect("deleted");
    let all = store.list_builds(None, 9).await.expect("the store answers");
    assert!(all.iter().all(|build| !build.is_deployed), "{all:?}");
}

/// Source, what was built of it, and what builds are known, page by page.
pub async fn artifacts_that_something_names_are_listed_once(store: &impl Retention) {
    let function = create(store, "code").await;
    deploy_built(store, &function).await;
    let first = store.find_version(function.id, number(1)).await.expect("the store answers");
    let first = first.expect("found").revision;
    store.put_build(&digest(1), &digest(3), at(1)).await.expect("noted");
    store.put_build(&digest(2), &digest(250), at(1)).await.expect("noted");
    let mut expected = vec![first.artifact, digest(7), digest(3), digest(250)];
    expected.extend(match first.built {
        Built::Archive(archive) => Some(archive),
        Built::AsIs | Built::Failed(_) => None,
    });
    expected.sort_unstable();
    expected.dedup();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_artifacts(after, 2).await.expect("the store answers");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        found.extend(page);
    }
    assert_eq!(found, expected);
    store.delete_function(function.id).await.expect("deleted");
    assert_eq!(store.list_artifacts(None, 10).await.expect("the store answers"), [digest(3), digest(250)]);
}
