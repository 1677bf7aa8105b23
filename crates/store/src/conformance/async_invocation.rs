//! Cases of `AsyncInvocationStore`.
#![expect(clippy::indexing_slicing, reason = "a case that does not find what it stored panics")]

use std::time::Duration;

use impuls_domain::{
    AsyncInvocation, AsyncStatus, Completion, ErrorType, Failure, FunctionId, InvocationId, LogLevel, Logs,
    Qualifier, Usage,
};
use time::OffsetDateTime;

use super::fixture::{at, create};
use crate::{AsyncInvocationPage, AsyncInvocationStore, Claim, FunctionStore, StoreError};

fn queued(function: FunctionId) -> AsyncInvocation {
    AsyncInvocation {
        id: InvocationId::new(),
        function,
        qualifier: Qualifier::Latest,
        event: b"{\"a\":\xe2\x80\x98}".to_vec(),
        context: b"{}".to_vec(),
        timeout: Some(Duration::from_millis(1_500)),
        status: AsyncStatus::Queued,
        attempt: 0,
        not_before: at(0),
        created_at: at(0),
        started_at: None,
        completion: None,
    }
}

fn completion(result: Result<Vec<u8>, Failure>) -> Completion {
    let mut logs = Logs::default();
    logs.push(LogLevel::Warn, "line");
    let usage =
        Usage { duration: Duration::from_nanos(1_234_567), init_duration: Duration::ZERO, memory_mib: 128 };
    Completion { result, logs, usage, completed_at: at(9) }
}

async fn enqueue(store: &(impl FunctionStore + AsyncInvocationStore), count: usize) -> Vec<AsyncInvocation> {
    let function = create(store, "queued").await.id;
    let mut all = Vec::new();
    for _ in 0..count {
        let invocation = queued(function);
        store.enqueue(&invocation).await.expect("accepted");
        all.push(invocation);
    }
    all
}

async fn claim(store: &impl AsyncInvocationStore, now: OffsetDateTime, limit: u32) -> Vec<AsyncInvocation> {
    let lease_until = now + Duration::from_secs(10);
    store.claim(Claim { now, lease_until, limit }).await.expect("the store answers")
}

async fn find(store: &impl AsyncInvocationStore, id: InvocationId) -> AsyncInvocation {
    store.find_async_invocation(id).await.expect("the store answers").expect("found")
}

/// What is accepted is there, whole, and accepting it again changes nothing.
pub async fn accepted_invocations_come_back_whole(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let all = enqueue(store, 1).await;
    store.enqueue(&all[0]).await.expect("accepted again");
    assert_eq!(find(store, all[0].id).await, all[0]);
    let mut plain = AsyncInvocation { timeout: None, context: Vec::new(), ..queued(all[0].function) };
    plain.qualifier = "3".parse().expect("a version");
    store.enqueue(&plain).await.expect("accepted");
    assert_eq!(find(store, plain.id).await, plain);
}

/// Nothing is accepted for nobody.
pub async fn invocations_of_unknown_functions_are_refused(
    store: &(impl FunctionStore + AsyncInvocationStore),
) {
    let refused = store.enqueue(&queued(FunctionId::new())).await;
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
}

/// Oldest first, each once, no more than asked for.
pub async fn each_invocation_is_claimed_once(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let all = enqueue(store, 3).await;
    let first = claim(store, at(1), 2).await;
    let second = claim(store, at(1), 9).await;
    let ids: Vec<InvocationId> = first.iter().chain(&second).map(|claimed| claimed.id).collect();
    assert_eq!(ids, all.iter().map(|invocation| invocation.id).collect::<Vec<_>>());
    for claimed in first.iter().chain(&second) {
        assert_eq!(
            (claimed.status, claimed.attempt, claimed.started_at),
            (AsyncStatus::Running, 1, Some(at(1)))
        );
    }
    assert_eq!(claim(store, at(1), 9).await, []);
}

/// A lease that nobody renews gives the invocation to the next, and the loser can change nothing any more.
pub async fn an_expired_lease_is_taken_over_and_fenced(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let id = enqueue(store, 1).await[0].id;
    claim(store, at(0), 1).await;
    let later = at(0) + Duration::from_secs(11);
    let again = claim(store, later, 1).await;
    assert_eq!((again[0].id, again[0].attempt), (id, 2));
    assert!(!store.complete(id, 1, &completion(Ok(b"1".to_vec()))).await.expect("the store answers"));
    assert!(!store.put_back(id, 1, at(0)).await.expect("the store answers"));
    assert_eq!(find(store, id).await.status, AsyncStatus::Running);
    assert!(store.complete(id, 2, &completion(Ok(b"2".to_vec()))).await.expect("the store answers"));
    assert!(!store.complete(id, 2, &completion(Ok(b"3".to_vec()))).await.expect("the store answers"));
    assert_eq!(find(store, id).await.completion.expect("completed").result, Ok(b"2".to_vec()));
}

/// A renewed lease is nobody else's.
pub async fn a_renewed_lease_is_kept(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let id = enqueue(store, 1).await[0].id;
    claim(store, at(0), 1).await;
    let (until, later) = (at(0) + Duration::from_secs(60), at(0) + Duration::from_secs(11));
    store.renew(&[(id, 1), (InvocationId::new(), 1)], until).await.expect("renewed");
    assert_eq!(claim(store, later, 1).await, []);
    store.renew(&[(id, 7)], until + Duration::from_secs(60)).await.expect("skipped");
    assert_eq!(claim(store, until + Duration::from_secs(1), 1).await.len(), 1);
}

/// What is put back waits as long as it is told to.
pub async fn put_back_invocations_wait(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let id = enqueue(store, 1).await[0].id;
    claim(store, at(0), 1).await;
    let later = at(0) + Duration::from_secs(5);
    assert!(store.put_back(id, 1, later).await.expect("the store answers"));
    assert_eq!(find(store, id).await.status, AsyncStatus::Queued);
    assert_eq!(claim(store, at(0) + Duration::from_secs(4), 1).await, []);
    assert_eq!(claim(store, later, 1).await[0].attempt, 2);
}

/// Results, failures, logs and usage survive.
pub async fn completions_come_back_whole(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let failure = |error_type| Failure {
        error_type,
        class: "Error".to_owned(),
        message: "‘no’".to_owned(),
        stack: Some("at x".to_owned()),
    };
    let results =
        [Ok(b"null".to_vec()), Err(failure(ErrorType::FunctionError)), Err(failure(ErrorType::Timeout))];
    let all = enqueue(store, results.len()).await;
    claim(store, at(0), 9).await;
    for (invocation, result) in all.iter().zip(results) {
        let completion = completion(result);
        assert!(store.complete(invocation.id, 1, &completion).await.expect("the store answers"));
        let found = find(store, invocation.id).await;
        assert_eq!(found.status, completion.status());
        assert_eq!(found.completion, Some(completion));
    }
}

/// Pages are newest first, by function and by status.
pub async fn invocations_list_newest_first(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let all = enqueue(store, 4).await;
    let other = create(store, "other").await.id;
    store.enqueue(&queued(other)).await.expect("accepted");
    claim(store, at(0), 1).await;
    let list = async |function, status, offset, limit| {
        let page = AsyncInvocationPage { function, status, offset, limit };
        let found = store.list_async_invocations(page).await.expect("the store answers");
        found.into_iter().map(|invocation| invocation.id).collect::<Vec<_>>()
    };
    let function = Some(all[0].function);
    assert_eq!(list(None, None, 0, 9).await.len(), 5);
    assert_eq!(list(function, None, 1, 2).await, [all[2].id, all[1].id]);
    assert_eq!(list(function, Some(AsyncStatus::Running), 0, 9).await, [all[0].id]);
}

/// Retention takes finished invocations only.
pub async fn unfinished_invocations_are_never_pruned(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let all = enqueue(store, 4).await;
    claim(store, at(0), 3).await;
    for invocation in &all[..2] {
        store.complete(invocation.id, 1, &completion(Ok(b"1".to_vec()))).await.expect("completed");
    }
    assert!(store.prune_async_invocations(1).await.expect("pruned"));
    assert!(!store.prune_async_invocations(1).await.expect("pruned"));
    let left =
        async |at: usize| store.find_async_invocation(all[at].id).await.expect("the store answers").is_some();
    assert_eq!([left(0).await, left(1).await, left(2).await, left(3).await], [false, true, true, true]);
}

/// An invocation goes with its function.
pub async fn deleting_a_function_takes_its_queue_along(store: &(impl FunctionStore + AsyncInvocationStore)) {
    let all = enqueue(store, 2).await;
    store.delete_function(all[0].function).await.expect("deleted");
    assert_eq!(claim(store, at(1), 9).await, []);
    assert_eq!(store.find_async_invocation(all[0].id).await.expect("the store answers"), None);
}
