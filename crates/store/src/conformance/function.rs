//! Cases of `FunctionStore`.

use impuls_domain::{Environment, FunctionId, FunctionState, LoadFailure, Scope};

use super::fixture::{create, deploy, deployed, function, number, revision, snapshot};
use crate::{FunctionKey, FunctionPage, FunctionStore, StoreError, VersionStore};

fn failed(serving: bool) -> FunctionState {
    let failure = LoadFailure {
        class: "ImportError".to_owned(),
        message: "no module".to_owned(),
        file: None,
        line: Some(1),
    };
    FunctionState::Error { failure, serving }
}

/// No function, no answer, and no error.
pub async fn unknown_function_is_none(store: &impl FunctionStore) {
    let (unknown, _) = function("unknown");
    for key in [FunctionKey::Id(unknown.id), FunctionKey::Name(unknown.scope, unknown.name)] {
        assert_eq!(store.find_function(&key).await.expect("the store answers"), None);
    }
}

/// Both keys lead to the same function, which has its revision and no alias.
pub async fn created_function_is_found_by_id_and_name(store: &impl FunctionStore) {
    let (function, revision) = function("hello");
    store.create_function(&function, &revision).await.expect("created");
    for key in
        [FunctionKey::Id(function.id), FunctionKey::Name(function.scope.clone(), function.name.clone())]
    {
        let found = store.find_function(&key).await.expect("the store answers").expect("found");
        assert_eq!((&found.function, &found.latest), (&function, &revision));
        assert_eq!(found.aliases, []);
    }
}

/// Nothing of a function or a revision is lost or changed.
pub async fn every_field_survives(store: &impl FunctionStore) {
    let failures = [(None, None), (Some("index.js".to_owned()), Some(u32::MAX))];
    for ((file, line), seed) in failures.into_iter().zip(3u8..) {
        let (mut function, _) = function(&format!("fields-{seed}"));
        let mut revision = revision(function.id, seed);
        function.latest = revision.id;
        function.latest_version = number(41);
        function.scope = Scope::new("gofaas/v1 ‘x’");
        function.state = FunctionState::Error {
            failure: LoadFailure {
                class: "SyntaxError".to_owned(),
                message: "Unexpected token '}'\n\u{1f4a5}".to_owned(),
                file,
                line,
            },
            serving: seed == 3,
        };
        if seed == 3 {
            revision.config.environment = Environment::default();
        }
        store.create_function(&function, &revision).await.expect("created");
        let found = snapshot(store, function.id).await;
        assert_eq!((found.function, found.latest), (function, revision));
    }
}

/// A name belongs to one function of a scope, and the loser leaves nothing behind.
pub async fn taken_name_is_refused_and_changes_nothing(store: &impl FunctionStore) {
    let first = create(store, "taken").await;
    let (second, revision) = function("taken");
    let refused = store.create_function(&second, &revision).await;
    assert!(matches!(refused, Err(StoreError::NameTaken)), "{refused:?}");
    assert_eq!(snapshot(store, first.id).await.function, first);
    assert_eq!(store.find_function(&FunctionKey::Id(second.id)).await.expect("the store answers"), None);
    assert_eq!(store.count_functions().await.expect("the store answers"), 1);
}

/// Creating is not repeatable.
pub async fn creating_twice_is_refused(store: &impl FunctionStore) {
    let (function, revision) = function("once");
    store.create_function(&function, &revision).await.expect("created");
    let again = store.create_function(&function, &revision).await;
    assert!(matches!(again, Err(StoreError::NameTaken)), "{again:?}");
}

/// The same name in two scopes names two functions.
pub async fn scopes_are_separate(store: &impl FunctionStore) {
    let native = create(store, "same").await;
    let (mut foreign, revision) = function("same");
    foreign.scope = Scope::new("nqrust/1");
    store.create_function(&foreign, &revision).await.expect("created in its own scope");
    for expected in [native, foreign] {
        let key = FunctionKey::Name(expected.scope.clone(), expected.name.clone());
        let found = store.find_function(&key).await.expect("the store answers").expect("found");
        assert_eq!(found.function, expected);
    }
}

/// Pages meet without gap or overlap, and the last one is short.
pub async fn functions_list_newest_first_in_pages(store: &impl FunctionStore) {
    let mut created = Vec::new();
    for n in 0..5 {
        created.push(create(store, &format!("page-{n}")).await.id);
    }
    created.reverse();
    let mut listed: Vec<FunctionId> = Vec::new();
    let mut sizes = Vec::new();
    while sizes.last() != Some(&0) {
        let page = FunctionPage { before: listed.last().copied(), limit: 2 };
        let found = store.list_functions(page).await.expect("the store answers");
        assert_eq!(
            (found.count(), found.last),
            (found.functions.len(), found.functions.last().map(|one| one.function.id))
        );
        let found = found.all().expect("all can be read");
        assert!(found.iter().all(|one| one.latest.id == one.function.latest));
        sizes.push(found.len());
        listed.extend(found.iter().map(|one| one.function.id));
    }
    assert_eq!(listed, created);
    assert_eq!(sizes, [2, 2, 1, 0]);
}

/// The count follows creating and deleting.
pub async fn functions_are_counted(store: &impl FunctionStore) {
    assert_eq!(store.count_functions().await.expect("the store answers"), 0);
    let one = create(store, "one").await;
    create(store, "two").await;
    assert_eq!(store.count_functions().await.expect("the store answers"), 2);
    store.delete_function(one.id).await.expect("deleted");
    assert_eq!(store.count_functions().await.expect("the store answers"), 1);
}

/// After a deploy the function is the new one, with the new revision.
pub async fn deploy_replaces_the_newest_revision(store: &impl FunctionStore) {
    let first = create(store, "deployed").await;
    let revision = revision(first.id, 1);
    let mut second = deployed(&first, &revision);
    second.state = failed(false);
    store.deploy_revision(&first, &second, &revision).await.expect("deployed");
    let found = snapshot(store, first.id).await;
    assert_eq!((&found.function, &found.latest), (&second, &revision));
    let third = deploy(store, &second, 2).await;
    let active = FunctionState::Active;
    assert_eq!(third.state, second.state);
    let fourth_revision = super::fixture::revision(first.id, 3);
    let fourth = impuls_domain::Function { state: active, ..deployed(&third, &fourth_revision) };
    store.deploy_revision(&third, &fourth, &fourth_revision).await.expect("deployed");
    assert_eq!(snapshot(store, first.id).await.function, fourth);
}

/// Who decided from an older function must decide again.
pub async fn stale_deploy_is_a_conflict_and_changes_nothing(store: &impl FunctionStore) {
    let first = create(store, "stale").await;
    let current = deploy(store, &first, 1).await;
    let stale = [
        impuls_domain::Function { updated_at: first.updated_at, ..current.clone() },
        impuls_domain::Function { latest: first.latest, ..current.clone() },
        impuls_domain::Function { latest_version: first.latest_version, ..current.clone() },
    ];
    for expected in stale {
        let revision = revision(first.id, 2);
        let refused = store.deploy_revision(&expected, &deployed(&current, &revision), &revision).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(snapshot(store, first.id).await.function, current);
    deploy(store, &current, 3).await;
}

/// A version number is never given twice.
pub async fn deploy_of_a_used_version_is_a_conflict(store: &impl FunctionStore) {
    let first = create(store, "used").await;
    let revision = revision(first.id, 1);
    let again =
        impuls_domain::Function { latest_version: first.latest_version, ..deployed(&first, &revision) };
    let refused = store.deploy_revision(&first, &again, &revision).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    assert_eq!(snapshot(store, first.id).await.function, first);
}

/// A deleted function is not brought back by a deploy.
pub async fn deploy_of_a_gone_function_is_not_found(store: &impl FunctionStore) {
    let function = create(store, "gone").await;
    store.delete_function(function.id).await.expect("deleted");
    let revision = revision(function.id, 1);
    let refused = store.deploy_revision(&function, &deployed(&function, &revision), &revision).await;
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
    assert_eq!(store.count_functions().await.expect("the store answers"), 0);
}

/// A deploy that failed leaves the newest revision as it was, and publishes nothing.
pub async fn a_deploy_without_a_new_revision_changes_the_function_alone(
    store: &(impl FunctionStore + VersionStore),
) {
    let before = create(store, "kept").await;
    let found = snapshot(store, before.id).await;
    let mut after = before.clone();
    after.state = failed(true);
    after.updated_at += time::Duration::seconds(1);
    store.deploy_revision(&before, &after, &found.latest).await.expect("the state is changed");
    let now = snapshot(store, before.id).await;
    assert_eq!((&now.function, &now.latest), (&after, &found.latest));
    assert_eq!(store.list_versions(before.id, None, 10).await.expect("the store answers").len(), 1);
    deploy(store, &after, 1).await;
}

/// A deploy may change the name, which frees the old one.
pub async fn deploy_can_rename(store: &impl FunctionStore) {
    let before = create(store, "before").await;
    let revision = revision(before.id, 1);
    let mut after = deployed(&before, &revision);
    after.name = "after".parse().expect("a function name");
    store.deploy_revision(&before, &after, &revision).await.expect("renamed");
    assert_eq!(snapshot(store, before.id).await.function, after);
    create(store, "before").await;
}

/// A rename cannot take another's name, and then nothing is deployed either.
pub async fn renaming_to_a_taken_name_is_refused(store: &impl FunctionStore) {
    create(store, "mine").await;
    let other = create(store, "other").await;
    let revision = revision(other.id, 1);
    let mut renamed = deployed(&other, &revision);
    renamed.name = "mine".parse().expect("a function name");
    let refused = store.deploy_revision(&other, &renamed, &revision).await;
    assert!(matches!(refused, Err(StoreError::NameTaken)), "{refused:?}");
    assert_eq!(snapshot(store, other.id).await.function, other);
}

/// The second time there is nothing to delete.
pub async fn deleting_is_repeatable(store: &impl FunctionStore) {
    let function = create(store, "deleted").await;
    let kept = create(store, "kept").await;
    assert!(store.delete_function(function.id).await.expect("deleted"));
    assert!(!store.delete_function(function.id).await.expect("the store answers"));
    assert_eq!(store.find_function(&FunctionKey::Id(function.id)).await.expect("the store answers"), None);
    assert_eq!(snapshot(store, kept.id).await.function, kept);
}

/// The next function of the name has another id and nothing of the first.
pub async fn a_deleted_name_is_free_again(store: &impl FunctionStore) {
    let first = create(store, "again").await;
    deploy(store, &first, 1).await;
    store.delete_function(first.id).await.expect("deleted");
    let second = create(store, "again").await;
    let found = snapshot(store, second.id).await;
    assert_eq!(found.function.latest_version, number(1));
}

/// Of calls at the same time exactly one gets the name.
pub async fn concurrent_creates_of_a_name_have_one_winner(store: &impl FunctionStore) {
    let (a, b, c) = (function("race"), function("race"), function("race"));
    let results = tokio::join!(
        store.create_function(&a.0, &a.1),
        store.create_function(&b.0, &b.1),
        store.create_function(&c.0, &c.1),
    );
    let results = [results.0, results.1, results.2];
    let won = results.iter().filter(|result| result.is_ok()).count();
    let lost = results.iter().filter(|result| matches!(result, Err(StoreError::NameTaken))).count();
    assert_eq!((won, lost), (1, 2), "{results:?}");
    assert_eq!(store.count_functions().await.expect("the store answers"), 1);
}

/// Of deploys that were decided from the same function exactly one happens.
pub async fn concurrent_deploys_have_one_winner(store: &impl FunctionStore) {
    let first = create(store, "race").await;
    let (a, b) = (revision(first.id, 1), revision(first.id, 2));
    let (next_a, next_b) = (deployed(&first, &a), deployed(&first, &b));
    let results =
        tokio::join!(store.deploy_revision(&first, &next_a, &a), store.deploy_revision(&first, &next_b, &b));
    let winner = match results {
        (Ok(()), Err(StoreError::Conflict)) => next_a,
        (Err(StoreError::Conflict), Ok(())) => next_b,
        other => return assert!(matches!(other, (Ok(()), Err(StoreError::Conflict))), "{other:?}"),
    };
    assert_eq!(snapshot(store, first.id).await.function, winner);
}

/// A name alone means the newest function that has it.
pub async fn the_newest_of_a_name_is_found_across_scopes(store: &impl FunctionStore) {
    let key = FunctionKey::NewestNamed("shared".parse().expect("a name"));
    assert_eq!(store.find_function(&key).await.expect("the store answers"), None);
    for scope in ["b", "a", ""] {
        let (mut function, revision) = function("shared");
        function.scope = Scope::new(scope);
        store.create_function(&function, &revision).await.expect("created");
        let found = store.find_function(&key).await.expect("the store answers").expect("found");
        assert_eq!(found.function, function);
    }
}
