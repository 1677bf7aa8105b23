//! Cases of `AsyncInvocationStore`.
#![expect(clippy::indexing_slicing, reason = "a case that does not find what it stored panics")]

use std::time::Duration;

use impuls_domain::{
    AsyncInvocation, AsyncSettings, AsyncStatus, Completion, Destination, Destinations, ErrorType, Failure,
    FunctionId, InvocationId, LogLevel, Logs, Measured, Outcome, Qualifier, RetryChange, RetryPolicy, Tally,
    Usage,
};
use time::OffsetDateTime;

use super::fixture::{at, create};
use crate::{
    AsyncInvocationPage, AsyncInvocationStore, Claim, DeadLetters, DeliveryStore, FunctionStore, Pruning,
    PutBack, StoreError,
};

/// Both sides of a queue.
pub trait Queue: FunctionStore + AsyncInvocationStore + DeliveryStore {}

impl<S: FunctionStore + AsyncInvocationStore + DeliveryStore> Queue for S {}

/// An invocation that is accepted, with nothing special about it.
#[must_use]
pub fn queued(function: FunctionId) -> AsyncInvocation {
    AsyncInvocation {
        id: InvocationId::new(),
        function,
        qualifier: Qualifier::Latest,
        event: b"{\"a\":\xe2\x80\x98}".to_vec(),
        context: b"{}".to_vec(),
        timeout: Some(Duration::from_millis(1_500)),
        hook: None,
        policy: RetryPolicy::DEFAULT,
        destinations: Destinations::default(),
        key: None,
        origin: None,
        chain: 0,
        tally: Tally::default(),
        ready_at: at(0),
        last_failure: None,
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
    let measured =
        Measured { cpu_ns: 1 << 40, memory_peak_bytes: 5, received_bytes: Some(0), sent_bytes: None };
    let measured = result.is_ok().then_some(measured);
    let usage =
        Usage { duration: Duration::from_nanos(1_234_567), memory_mib: 128, measured, ..Usage::default() };
    Completion::of(Outcome { result, logs, usage }, &RetryPolicy::FINAL, at(9))
}

fn failure(error_type: ErrorType) -> Failure {
    Failure {
        error_type,
        class: "Error".to_owned(),
        message: "‘no’".to_owned(),
        stack: Some("at x".to_owned()),
    }
}

fn dead() -> Completion {
    Completion::without_outcome(failure(ErrorType::FunctionError), &RetryPolicy::DEFAULT, at(9))
}

fn back(not_before: OffsetDateTime) -> PutBack {
    PutBack { not_before, tally: Tally::default(), failure: None }
}

async fn enqueue(store: &impl Queue, count: usize) -> Vec<AsyncInvocation> {
    let function = create(store, "queued").await.id;
    let mut all = Vec::new();
    for _ in 0..count {
        let invocation = queued(function);
        store.enqueue(&invocation).await.expect("accepted");
        all.push(invocation);
    }
    all
}

async fn claim(store: &impl Queue, now: OffsetDateTime, limit: u32) -> Vec<AsyncInvocation> {
    store.claim(anything(now, limit)).await.expect("the store answers")
}

fn anything(now: OffsetDateTime, limit: u32) -> Claim {
    let lease_until = now + Duration::from_secs(10);
    Claim { now, lease_until, limit, share: limit, rooms: Vec::new(), only: None }
}

async fn find(store: &impl Queue, id: InvocationId) -> AsyncInvocation {
    store.find_async_invocation(id).await.expect("the store answers").expect("found")
}

/// What is accepted is there, whole, and accepting it again changes nothing.
pub async fn accepted_invocations_come_back_whole(store: &impl Queue) {
    let all = enqueue(store, 1).await;
    let again = AsyncInvocation { event: b"other".to_vec(), ..all[0].clone() };
    assert_eq!(store.enqueue(&again).await.expect("accepted again"), Some(all[0].clone()));
    assert_eq!(find(store, all[0].id).await, all[0]);
    let mut plain = AsyncInvocation { timeout: None, context: Vec::new(), ..queued(all[0].function) };
    plain.qualifier = "3".parse().expect("a version");
    assert_eq!(store.enqueue(&plain).await.expect("accepted"), None);
    assert_eq!(find(store, plain.id).await, plain);
    let full = AsyncInvocation {
        hook: Some("https://example.com/x".parse().expect("an address")),
        policy: policy(),
        destinations: destinations(plain.function),
        key: Some("a key".to_owned()),
        origin: Some(plain.id),
        chain: 3,
        tally: Tally { failures: 1, throttled: 2, broken: 3, deaths: 4 },
        ready_at: at(7),
        not_before: at(8),
        ..queued(plain.function)
    };
    store.enqueue(&full).await.expect("accepted");
    assert_eq!(find(store, full.id).await, full);
}

/// Nothing is accepted for nobody.
pub async fn invocations_of_unknown_functions_are_refused(store: &impl Queue) {
    let refused = store.enqueue(&queued(FunctionId::new())).await;
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
}

/// Oldest first, each once, no more than asked for.
pub async fn each_invocation_is_claimed_once(store: &impl Queue) {
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

fn functions(claimed: &[AsyncInvocation]) -> Vec<FunctionId> {
    claimed.iter().map(|invocation| invocation.function).collect()
}

/// No function gets more than its share or its room, and one without room holds back nobody.
pub async fn a_claim_keeps_to_the_room_of_each_function(store: &impl Queue) {
    let [crowd, other] = [create(store, "crowd").await.id, create(store, "other").await.id];
    for function in [crowd; 5].into_iter().chain([other; 3]) {
        store.enqueue(&queued(function)).await.expect("accepted");
    }
    let claim = async |limit, share, rooms: &[(FunctionId, u32)]| {
        let claim = Claim { share, rooms: rooms.to_vec(), ..anything(at(1), limit) };
        functions(&store.claim(claim).await.expect("the store answers"))
    };
    assert_eq!(claim(9, 9, &[(crowd, 0), (other, 1)]).await, [other]);
    assert_eq!(claim(6, 1, &[]).await, [crowd, other]);
    // Only the two oldest are looked at, of which one has room.
    assert_eq!(claim(2, 9, &[(crowd, 1)]).await, [crowd]);
    assert_eq!(claim(9, 2, &[(other, 9)]).await, [crowd, crowd, other]);
    assert_eq!(claim(9, 9, &[]).await, [crowd]);
}

/// Who is told which wait claims those, if they still do.
pub async fn chosen_invocations_are_claimed_alone(store: &impl Queue) {
    let all = enqueue(store, 4).await;
    let claim = async |ids: &[InvocationId]| {
        let claim = Claim { only: Some(ids.to_vec()), ..anything(at(1), 9) };
        let claimed = store.claim(claim).await.expect("the store answers");
        claimed.iter().map(|invocation| invocation.id).collect::<Vec<_>>()
    };
    let ids: Vec<InvocationId> = all.iter().map(|invocation| invocation.id).collect();
    assert_eq!(claim(&[]).await, []);
    assert_eq!(claim(&[ids[2], InvocationId::new(), ids[0]]).await, [ids[0], ids[2]]);
    assert_eq!(claim(&ids).await, [ids[1], ids[3]]);
    let late = AsyncInvocation { not_before: at(2), ..queued(all[0].function) };
    store.enqueue(&late).await.expect("accepted");
    assert_eq!(claim(&[late.id]).await, []);
}

/// A lease that nobody renews gives the invocation to the next, and the loser can change nothing any more.
pub async fn an_expired_lease_is_taken_over_and_fenced(store: &impl Queue) {
    let id = enqueue(store, 1).await[0].id;
    let claimed = claim(store, at(0), 1).await;
    let later = at(0) + Duration::from_secs(11);
    let again = claim(store, later, 1).await;
    assert_eq!((again[0].id, again[0].attempt), (id, 2));
    assert_eq!([claimed[0].tally.deaths, again[0].tally.deaths], [0, 1]);
    let complete = async |attempt, result: &str| {
        let end = completion(Ok(result.as_bytes().to_vec()));
        store.complete(id, attempt, &end, None).await.expect("the store answers")
    };
    assert!(!complete(1, "1").await);
    assert!(!store.put_back(id, 1, &back(at(0))).await.expect("the store answers"));
    assert_eq!(find(store, id).await.status, AsyncStatus::Running);
    assert!(complete(2, "2").await);
    assert!(!complete(2, "3").await);
    assert_eq!(find(store, id).await.completion.expect("completed").result, Ok(b"2".to_vec()));
}

/// A renewed lease is nobody else's.
pub async fn a_renewed_lease_is_kept(store: &impl Queue) {
    let id = enqueue(store, 1).await[0].id;
    claim(store, at(0), 1).await;
    let (until, later) = (at(0) + Duration::from_secs(60), at(0) + Duration::from_secs(11));
    let unknown = InvocationId::new();
    assert_eq!(store.renew(&[(id, 1), (unknown, 1)], until).await.expect("renewed"), [unknown]);
    // What was sent before and comes after it takes nothing away.
    assert!(store.renew(&[(id, 1)], at(1)).await.expect("renewed").is_empty());
    assert_eq!(claim(store, later, 1).await, []);
    assert_eq!(store.renew(&[(id, 7)], until + Duration::from_secs(60)).await.expect("skipped"), [id]);
    assert_eq!(claim(store, until + Duration::from_secs(1), 1).await.len(), 1);
}

/// What is put back waits as long as it is told to.
pub async fn put_back_invocations_wait(store: &impl Queue) {
    let id = enqueue(store, 1).await[0].id;
    claim(store, at(0), 1).await;
    let later = at(0) + Duration::from_secs(5);
    let tally = Tally { failures: 1, throttled: 2, broken: 3, deaths: 1 };
    let why = failure(ErrorType::FunctionError);
    let put_back = PutBack { not_before: later, tally, failure: Some(why.clone()) };
    assert!(store.put_back(id, 1, &put_back).await.expect("the store answers"));
    let found = find(store, id).await;
    assert_eq!(
        (found.status, found.tally, found.last_failure),
        (AsyncStatus::Queued, tally, Some(why.clone()))
    );
    assert_eq!(claim(store, at(0) + Duration::from_secs(4), 1).await, []);
    assert_eq!(claim(store, later, 1).await[0].attempt, 2);
    assert!(store.put_back(id, 2, &back(later)).await.expect("the store answers"));
    assert_eq!(find(store, id).await.last_failure, Some(why), "nothing new is known");
}

/// Results, failures, logs and usage survive.
pub async fn completions_come_back_whole(store: &impl Queue) {
    let results =
        [Ok(b"null".to_vec()), Err(failure(ErrorType::FunctionError)), Err(failure(ErrorType::Timeout))];
    let all = enqueue(store, results.len()).await;
    claim(store, at(0), 9).await;
    for (invocation, result) in all.iter().zip(results) {
        let completion = completion(result);
        assert!(store.complete(invocation.id, 1, &completion, None).await.expect("the store answers"));
        let found = find(store, invocation.id).await;
        assert_eq!((found.status, &found.last_failure), (completion.status, &None));
        assert_eq!(found.completion, Some(completion));
    }
    let page = AsyncInvocationPage { limit: 9, is_brief: true, ..AsyncInvocationPage::default() };
    for brief in store.list_async_invocations(page).await.expect("the store answers") {
        let mut whole = find(store, brief.id).await;
        (whole.event, whole.context) = (Vec::new(), Vec::new());
        let end = whole.completion.as_mut().expect("it has ended");
        end.logs = Logs::default();
        if let Ok(result) = &mut end.result {
            result.clear();
        }
        assert_eq!(brief, whole);
    }
}

/// Pages are newest first, by function, status, time and place.
pub async fn invocations_list_newest_first(store: &impl Queue) {
    let all = enqueue(store, 4).await;
    let other = create(store, "other").await.id;
    let later = AsyncInvocation { created_at: at(20), ..queued(other) };
    store.enqueue(&later).await.expect("accepted");
    claim(store, at(0), 1).await;
    let list = async |page| {
        let found = store.list_async_invocations(page).await.expect("the store answers");
        found.into_iter().map(|invocation| invocation.id).collect::<Vec<_>>()
    };
    let page = AsyncInvocationPage { limit: 9, ..AsyncInvocationPage::default() };
    let own = AsyncInvocationPage { function: Some(all[0].function), ..page };
    assert_eq!(list(page).await.len(), 5);
    assert_eq!(list(AsyncInvocationPage { offset: 1, limit: 2, ..own }).await, [all[2].id, all[1].id]);
    assert_eq!(list(AsyncInvocationPage { status: Some(AsyncStatus::Running), ..own }).await, [all[0].id]);
    assert_eq!(list(AsyncInvocationPage { before: Some(all[2].id), ..page }).await, [all[1].id, all[0].id]);
    assert_eq!(list(AsyncInvocationPage { since: Some(at(20)), ..page }).await, [later.id]);
    assert_eq!(list(AsyncInvocationPage { until: Some(at(20)), limit: 1, ..page }).await, [all[3].id]);
}

/// A key stands for the first invocation of its function.
pub async fn a_key_is_taken_once_in_its_function(store: &impl Queue) {
    let function = create(store, "keyed").await.id;
    let other = create(store, "other").await.id;
    let keyed = |function| AsyncInvocation { key: Some("k".to_owned()), ..queued(function) };
    let first = keyed(function);
    assert_eq!(store.enqueue(&first).await.expect("accepted"), None);
    assert_eq!(store.enqueue(&keyed(function)).await.expect("known"), Some(first));
    assert_eq!(store.enqueue(&keyed(other)).await.expect("accepted"), None);
    let page = AsyncInvocationPage { limit: 9, ..AsyncInvocationPage::default() };
    assert_eq!(store.list_async_invocations(page).await.expect("the store answers").len(), 2);
}

/// Many who submit at the same time get what each of them would have got alone.
pub async fn what_is_accepted_at_once_is_answered_apart(store: &impl Queue) {
    let function = create(store, "busy").await.id;
    let [one, plain, other] = [queued(function), queued(function), queued(function)];
    let twin = AsyncInvocation { event: b"twin".to_vec(), ..one.clone() };
    let keyed = || AsyncInvocation { key: Some("k".to_owned()), ..queued(function) };
    let (key, same_key, nobody) = (keyed(), keyed(), queued(FunctionId::new()));
    let (ones, twins, keys, same_keys, refused, plains, others) = tokio::join!(
        store.enqueue(&one),
        store.enqueue(&twin),
        store.enqueue(&key),
        store.enqueue(&same_key),
        store.enqueue(&nobody),
        store.enqueue(&plain),
        store.enqueue(&other),
    );
    for (first, second) in [((&one, ones), (&twin, twins)), ((&key, keys), (&same_key, same_keys))] {
        let answers = [first.1.expect("answered"), second.1.expect("answered")];
        let kept = if answers[0].is_none() { first.0 } else { second.0 };
        assert_eq!(answers.iter().flatten().collect::<Vec<_>>(), [kept], "one is accepted");
        assert_eq!(find(store, kept.id).await, *kept);
    }
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
    assert_eq!([plains.expect("accepted"), others.expect("accepted")], [None, None]);
    assert_eq!(claim(store, at(1), 99).await.len(), 4);
}

/// Many that end at the same time end as each of them would have alone, and whoever renews them meanwhile waits for none.
pub async fn what_ends_at_once_is_answered_apart(store: &impl Queue) {
    let all = enqueue(store, 4).await;
    claim(store, at(0), 9).await;
    let end = |result: &str| completion(Ok(result.as_bytes().to_vec()));
    let (zero, one, late, failed) = (end("0"), end("1"), end("late"), dead());
    let held: Vec<_> = all.iter().map(|held| (held.id, 1)).collect();
    let (first, second, again, stale, last, renewed) = tokio::join!(
        store.complete(all[0].id, 1, &zero, None),
        store.complete(all[1].id, 1, &one, None),
        store.complete(all[1].id, 1, &late, None),
        store.complete(all[2].id, 7, &late, None),
        store.complete(all[3].id, 1, &failed, None),
        store.renew(&held, at(60)),
    );
    let answers = [first, second, again, stale, last].map(|answer| answer.expect("answered"));
    assert_eq!((answers[0], answers[1] != answers[2], answers[3], answers[4]), (true, true, false, true));
    assert!(!renewed.expect("answered").contains(&all[2].id), "it is running");
    let winner = if answers[1] { one } else { late };
    for (invocation, end) in [(&all[0], zero), (&all[1], winner), (&all[3], failed)] {
        assert_eq!(find(store, invocation.id).await.completion, Some(end));
    }
    assert_eq!(find(store, all[2].id).await.status, AsyncStatus::Running);
}

/// Who cancels ends it for whoever runs it.
pub async fn a_cancelled_invocation_has_ended(store: &impl Queue) {
    let all = enqueue(store, 2).await;
    claim(store, at(0), 1).await;
    let cancelled = Completion::cancelled(at(9));
    for invocation in &all {
        assert!(store.cancel(invocation.id, &cancelled).await.expect("the store answers"));
        assert!(!store.cancel(invocation.id, &cancelled).await.expect("the store answers"));
        let found = find(store, invocation.id).await;
        assert_eq!((found.status, found.completion), (AsyncStatus::Cancelled, Some(cancelled.clone())));
    }
    assert!(!store.complete(all[0].id, 1, &dead(), None).await.expect("the store answers"));
    assert_eq!(store.renew(&[(all[0].id, 1)], at(99)).await.expect("the store answers"), [all[0].id]);
    assert_eq!(claim(store, at(99), 9).await, []);
}

/// Dead letters wait again with clean hands, and their attempts count on.
pub async fn dead_letters_are_driven_again(store: &impl Queue) {
    let all = enqueue(store, 4).await;
    claim(store, at(0), 3).await;
    for invocation in &all[..3] {
        store.complete(invocation.id, 1, &dead(), None).await.expect("completed");
    }
    let redrive = async |which| store.redrive(which, at(30)).await.expect("the store answers");
    assert_eq!(redrive(DeadLetters::One(all[3].id)).await, 0, "it is no dead letter");
    assert_eq!(redrive(DeadLetters::One(all[0].id)).await, 1);
    assert_eq!(redrive(DeadLetters::One(all[0].id)).await, 0);
    let again = find(store, all[0].id).await;
    assert_eq!((again.status, again.tally, again.attempt), (AsyncStatus::Queued, Tally::default(), 1));
    assert_eq!((again.ready_at, again.not_before, again.completion), (at(30), at(30), None));
    let early = store.redrive(DeadLetters::Of(all[0].function, 9), at(2)).await.expect("the store answers");
    assert_eq!(early, 0, "they were no dead letters then");
    assert_eq!(redrive(DeadLetters::Of(all[0].function, 1)).await, 1);
    assert_eq!(redrive(DeadLetters::Of(all[0].function, 9)).await, 1);
    assert_eq!(claim(store, at(30), 9).await.len(), 4);
}

/// What tells an end is there exactly if the end is.
pub async fn an_end_and_what_tells_it_are_one(store: &impl Queue) {
    let all = enqueue(store, 2).await;
    let teller = |function| AsyncInvocation { origin: Some(all[0].id), ..queued(function) };
    let (told, fenced, nobody) =
        (teller(all[0].function), teller(all[0].function), teller(FunctionId::new()));
    claim(store, at(0), 2).await;
    let complete = async |at: usize, attempt, teller: &AsyncInvocation| {
        let end = completion(Ok(b"1".to_vec()));
        store.complete(all[at].id, attempt, &end, Some(teller)).await.expect("the store answers")
    };
    assert!(!complete(0, 9, &fenced).await);
    assert!(complete(0, 1, &told).await);
    assert!(complete(1, 1, &nobody).await, "an end does not depend on who is told");
    let is_there = async |id| store.find_async_invocation(id).await.expect("the store answers").is_some();
    assert_eq!([is_there(fenced.id).await, is_there(nobody.id).await], [false, false]);
    assert_eq!(find(store, told.id).await, told);
}

/// Retention takes finished invocations only, dead letters apart, by number and by age, some at a time.
pub async fn unfinished_invocations_are_never_pruned(store: &impl Queue) {
    let all = enqueue(store, 6).await;
    claim(store, at(0), 5).await;
    for invocation in &all[..3] {
        store.complete(invocation.id, 1, &completion(Ok(b"1".to_vec())), None).await.expect("completed");
    }
    store.complete(all[3].id, 1, &dead(), None).await.expect("completed");
    let keep = Pruning { dead_letters: false, ended_before: at(0), keep: 1, limit: 1 };
    let prune = async |pruning| store.prune_async_invocations(pruning).await.expect("pruned");
    assert_eq!([prune(keep).await, prune(keep).await, prune(keep).await], [1, 1, 0]);
    let is_left =
        async |at: usize| store.find_async_invocation(all[at].id).await.expect("the store answers").is_some();
    assert_eq!([is_left(0).await, is_left(1).await, is_left(2).await], [false, false, true]);
    let old = Pruning { ended_before: at(10), keep: 9, limit: 9, ..keep };
    assert_eq!(prune(old).await, 1);
    assert_eq!(
        [is_left(2).await, is_left(3).await, is_left(4).await, is_left(5).await],
        [false, true, true, true]
    );
    assert_eq!(prune(Pruning { dead_letters: true, ..old }).await, 1);
    assert_eq!([is_left(3).await, is_left(4).await], [false, true]);
}

fn policy() -> RetryPolicy {
    let change = RetryChange {
        max_retries: Some(7),
        first_wait: Some(Duration::from_millis(150)),
        max_wait: Some(Duration::from_secs(9)),
        max_age: Some(Duration::from_secs(61)),
        dead_letter: Some(false),
    };
    RetryPolicy::DEFAULT.with(change).expect("within its bounds")
}

fn destinations(function: FunctionId) -> Destinations {
    Destinations {
        on_success: Some(Destination::Function(function, "3".parse().expect("a version"))),
        on_failure: Some(Destination::Hook("https://example.com/x".parse().expect("an address"))),
    }
}

/// Settings come back whole, are replaced, removed, and go with their function.
pub async fn settings_come_back_whole(store: &impl Queue) {
    let function = create(store, "set").await.id;
    let found = async || store.find_async_settings(function).await.expect("the store answers");
    assert_eq!(found().await, None);
    for settings in
        [AsyncSettings { policy: policy(), destinations: destinations(function) }, AsyncSettings::default()]
    {
        store.put_async_settings(function, Some(&settings)).await.expect("kept");
        assert_eq!(found().await, Some(settings));
    }
    store.put_async_settings(function, None).await.expect("removed");
    store.put_async_settings(function, None).await.expect("removed again");
    assert_eq!(found().await, None);
    let refused = store.put_async_settings(FunctionId::new(), Some(&AsyncSettings::default())).await;
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
    store.put_async_settings(function, Some(&AsyncSettings::default())).await.expect("kept");
    store.delete_function(function).await.expect("deleted");
    assert_eq!(found().await, None);
}

/// An invocation goes with its function.
pub async fn deleting_a_function_takes_its_queue_along(store: &impl Queue) {
    let all = enqueue(store, 2).await;
    store.delete_function(all[0].function).await.expect("deleted");
    assert_eq!(claim(store, at(1), 9).await, []);
    assert_eq!(store.find_async_invocation(all[0].id).await.expect("the store answers"), None);
}
