//! Cases of `VersionStore`.

use impuls_domain::{FunctionId, VersionNumber};

use super::fixture::{alias, create, deploy, function, number, snapshot};
use crate::{FunctionStore, StoreError, VersionStore};

async fn listed(
    store: &impl VersionStore,
    function: FunctionId,
    before: Option<u64>,
    limit: u32,
) -> Vec<u64> {
    let before = before.map(number);
    let found = store.list_versions(function, before, limit).await.expect("the store answers");
    assert!(found.iter().all(|entry| entry.revision.function == function));
    found.into_iter().map(|entry| entry.number.get()).collect()
}

/// The first deploy is version 1, the next version 2, and each keeps its revision.
pub async fn versions_count_from_one(store: &(impl FunctionStore + VersionStore)) {
    let first = create(store, "versions").await;
    let second = deploy(store, &first, 1).await;
    for (function, n) in [(&first, 1), (&second, 2)] {
        let entry = store.find_version(first.id, number(n)).await.expect("the store answers").expect("found");
        assert_eq!((entry.number, entry.revision.id), (number(n), function.latest));
        assert_eq!(entry.published_at, entry.revision.created_at);
    }
    let newest = store.find_version(first.id, number(2)).await.expect("the store answers").expect("found");
    assert_eq!(newest.revision, snapshot(store, first.id).await.latest);
}

/// Pages go down from the newest, each below the last number of the one before.
pub async fn versions_list_newest_first_in_pages(store: &(impl FunctionStore + VersionStore)) {
    let mut function = create(store, "listed").await;
    for seed in 1..5 {
        function = deploy(store, &function, seed).await;
    }
    assert_eq!(listed(store, function.id, None, 100).await, [5, 4, 3, 2, 1]);
    assert_eq!(listed(store, function.id, None, 2).await, [5, 4]);
    assert_eq!(listed(store, function.id, Some(4), 2).await, [3, 2]);
    assert_eq!(listed(store, function.id, Some(2), 2).await, [1]);
    assert_eq!(listed(store, function.id, Some(1), 2).await, [0; 0]);
}

/// Neither a number beyond the newest nor an unknown function is an error.
pub async fn unknown_version_is_none(store: &(impl FunctionStore + VersionStore)) {
    let known = create(store, "known").await;
    let (unknown, _) = function("unknown");
    for (id, n) in [(known.id, number(2)), (unknown.id, VersionNumber::FIRST)] {
        assert_eq!(store.find_version(id, n).await.expect("the store answers"), None);
    }
    assert_eq!(listed(store, unknown.id, None, 10).await, [0; 0]);
}

/// Each function counts for itself.
pub async fn versions_of_functions_are_separate(store: &(impl FunctionStore + VersionStore)) {
    let (one, two) = (create(store, "one").await, create(store, "two").await);
    deploy(store, &one, 1).await;
    assert_eq!(listed(store, one.id, None, 10).await, [2, 1]);
    assert_eq!(listed(store, two.id, None, 10).await, [1]);
}

/// Putting adds, replaces, and may be repeated.
pub async fn alias_is_added_and_replaced(store: &(impl FunctionStore + VersionStore)) {
    let first = create(store, "aliased").await;
    deploy(store, &first, 1).await;
    for version in [1, 2, 2] {
        let alias = alias("live", &[(version, 1)]);
        store.put_alias(first.id, &alias).await.expect("the alias is put");
        assert_eq!(snapshot(store, first.id).await.aliases, [alias]);
    }
}

/// A function's aliases come sorted, and only its own.
pub async fn aliases_come_by_name(store: &(impl FunctionStore + VersionStore)) {
    let (one, two) = (create(store, "one").await, create(store, "two").await);
    for name in ["prod", "beta", "Live"] {
        store.put_alias(one.id, &alias(name, &[(1, 1)])).await.expect("the alias is put");
    }
    store.put_alias(two.id, &alias("other", &[(1, 1)])).await.expect("the alias is put");
    let aliases = snapshot(store, one.id).await.aliases;
    let names: Vec<&str> = aliases.iter().map(|alias| alias.name().as_str()).collect();
    assert_eq!(names, ["Live", "beta", "prod"]);
}

/// A weighted alias comes back as it was put.
pub async fn weights_and_their_order_survive(store: &(impl FunctionStore + VersionStore)) {
    let mut function = create(store, "weighted").await;
    for seed in 1..4 {
        function = deploy(store, &function, seed).await;
    }
    let alias = alias("canary", &[(3, 90), (1, 0), (4, u32::MAX)]);
    store.put_alias(function.id, &alias).await.expect("the alias is put");
    assert_eq!(snapshot(store, function.id).await.aliases, [alias]);
}

/// An alias never points at nothing; a refused replacement leaves the alias as it was.
pub async fn alias_to_an_unknown_version_is_refused_and_changes_nothing(
    store: &(impl FunctionStore + VersionStore),
) {
    let function = create(store, "refused").await;
    let good = alias("live", &[(1, 1)]);
    store.put_alias(function.id, &good).await.expect("the alias is put");
    for name in ["live", "new"] {
        let refused = store.put_alias(function.id, &alias(name, &[(1, 1), (2, 1)])).await;
        assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
    }
    assert_eq!(snapshot(store, function.id).await.aliases, [good]);
}

/// There is no alias without its function.
pub async fn alias_of_an_unknown_function_is_refused(store: &(impl FunctionStore + VersionStore)) {
    let (unknown, _) = function("unknown");
    let refused = store.put_alias(unknown.id, &alias("live", &[(1, 1)])).await;
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
}

/// A deploy moves `$LATEST`, not the aliases.
pub async fn alias_outlives_a_deploy(store: &(impl FunctionStore + VersionStore)) {
    let function = create(store, "stable").await;
    let live = alias("live", &[(1, 1)]);
    store.put_alias(function.id, &live).await.expect("the alias is put");
    deploy(store, &function, 1).await;
    assert_eq!(snapshot(store, function.id).await.aliases, [live]);
}

/// The second time there is nothing to delete.
pub async fn deleting_an_alias_is_repeatable(store: &(impl FunctionStore + VersionStore)) {
    let function = create(store, "unaliased").await;
    let (gone, kept) = (alias("gone", &[(1, 1)]), alias("kept", &[(1, 1)]));
    for alias in [&gone, &kept] {
        store.put_alias(function.id, alias).await.expect("the alias is put");
    }
    assert!(store.delete_alias(function.id, gone.name()).await.expect("deleted"));
    assert!(!store.delete_alias(function.id, gone.name()).await.expect("the store answers"));
    assert_eq!(snapshot(store, function.id).await.aliases, [kept]);
}

/// Nothing of a deleted function can be found any more.
pub async fn deleting_a_function_takes_versions_and_aliases_along(
    store: &(impl FunctionStore + VersionStore),
) {
    let first = create(store, "deleted").await;
    let second = deploy(store, &first, 1).await;
    store.put_alias(first.id, &alias("live", &[(1, 1), (2, 1)])).await.expect("the alias is put");
    assert!(store.delete_function(second.id).await.expect("deleted"));
    assert_eq!(listed(store, first.id, None, 10).await, [0; 0]);
    assert_eq!(store.find_version(first.id, number(1)).await.expect("the store answers"), None);
    assert!(!store.delete_alias(first.id, alias("live", &[(1, 1)]).name()).await.expect("the store answers"));
}
