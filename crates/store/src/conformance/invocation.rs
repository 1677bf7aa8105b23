//! Cases of `InvocationStore`.

use impuls_domain::limits::LOG_LIMIT;
use impuls_domain::{
    EXCERPT_LIMIT, ErrorType, Excerpt, Exchange, Failure, Function, FunctionId, Invocation, InvocationStatus,
    LogLevel, Logs, Usage,
};

use super::fixture::{create, function, invocation};
use crate::{FunctionStore, InvocationPage, InvocationStore};

const MANY: u32 = 10_000;

async fn list(store: &impl InvocationStore, function: FunctionId, page: InvocationPage) -> Vec<Invocation> {
    store.list_invocations(function, page).await.expect("the store answers")
}

async fn list_all(store: &impl InvocationStore, function: FunctionId) -> Vec<Invocation> {
    list(store, function, InvocationPage { status: None, offset: 0, limit: MANY }).await
}

async fn append(store: &impl InvocationStore, batch: &[Invocation], keep: u32) {
    store.append_invocations(batch, keep).await.expect("the records are appended");
}

/// Records from the oldest to the newest.
fn records(function: &Function, count: i64) -> Vec<Invocation> {
    (0..count).map(|n| invocation(function, n)).collect()
}

fn reversed(mut records: Vec<Invocation>) -> Vec<Invocation> {
    records.reverse();
    records
}

/// No function, no records, and no error.
pub async fn unknown_function_has_no_records(store: &(impl FunctionStore + InvocationStore)) {
    let (unknown, _) = function("unknown");
    assert_eq!(list_all(store, unknown.id).await, []);
}

/// Nothing of a record is lost or changed, whatever its status and its failure.
pub async fn every_kind_of_record_comes_back_whole(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "kinds").await;
    let mut batch = records(&function, 1);
    for (error_type, micros) in ErrorType::ALL.into_iter().zip(1..) {
        let stack = (micros % 2 == 0).then(|| "Error: no\n    at x (index.js:1)".to_owned());
        let failure =
            Failure { error_type, class: "TypeError".to_owned(), message: "nö\0\n".to_owned(), stack };
        let status = match error_type {
            ErrorType::Timeout => InvocationStatus::Timeout,
            _ => InvocationStatus::Failed,
        };
        let mut logs = Logs::default();
        logs.push(LogLevel::Warn, "careful\nnow");
        logs.push(LogLevel::Stdout, "");
        batch.push(Invocation { status, failure: Some(failure), logs, ..invocation(&function, micros) });
    }
    let cancelled = InvocationStatus::Cancelled;
    for (response, micros) in [(None, 50), (Some("[]".repeat(EXCERPT_LIMIT)), 51)] {
        let response = response.map(|text| Excerpt::of(text.as_bytes()));
        let exchange = Exchange { event: Excerpt::of(b"{\"n\": 1}"), response };
        batch.push(Invocation { exchange: Some(exchange.into()), ..invocation(&function, micros) });
    }
    batch.push(Invocation { status: cancelled, usage: Usage::default(), ..invocation(&function, 99) });
    append(store, &batch, MANY).await;
    assert_eq!(list_all(store, function.id).await, reversed(batch));
}

/// Logs at their bound keep every level, the cut and the count of what was cut.
pub async fn full_logs_come_back_whole(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "logs").await;
    let mut logs = Logs::default();
    let levels = [
        LogLevel::Stdout,
        LogLevel::Stderr,
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Warn,
        LogLevel::Error,
    ];
    for level in levels {
        logs.push(level, &"é".repeat(LOG_LIMIT / 11));
    }
    logs.add_dropped(100_000_000);
    assert!(logs.dropped_bytes() > 100_000_000, "the bound was reached");
    let record = Invocation { logs, ..invocation(&function, 0) };
    append(store, std::slice::from_ref(&record), MANY).await;
    assert_eq!(list_all(store, function.id).await, [record]);
}

/// A batch of nothing is a batch.
pub async fn an_empty_batch_changes_nothing(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "empty").await;
    let batch = records(&function, 2);
    append(store, &batch, MANY).await;
    append(store, &[], 0).await;
    assert_eq!(list_all(store, function.id).await, reversed(batch));
}

/// A batch may be repeated, also together with new records, and the first of two with one id stays.
pub async fn appending_again_changes_nothing(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "again").await;
    let batch = records(&function, 3);
    append(store, batch.get(..2).unwrap_or_default(), MANY).await;
    append(store, &batch, MANY).await;
    let changed: Vec<Invocation> = batch
        .iter()
        .map(|record| Invocation { status: InvocationStatus::Cancelled, ..record.clone() })
        .collect();
    append(store, &changed, MANY).await;
    assert_eq!(list_all(store, function.id).await, reversed(batch));
}

/// By time of admission, then by id, however they came in.
pub async fn records_list_newest_first(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "order").await;
    let mut batch: Vec<Invocation> =
        [5, -3, 5, 0, 9, 5].into_iter().map(|micros| invocation(&function, micros)).collect();
    append(store, batch.get(..3).unwrap_or_default(), MANY).await;
    append(store, batch.get(3..).unwrap_or_default(), MANY).await;
    batch.sort_by_key(|record| (record.started_at, record.id));
    assert_eq!(list_all(store, function.id).await, reversed(batch));
}

/// Pages meet without gap or overlap; beyond the last there is nothing.
pub async fn records_come_in_pages(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "pages").await;
    let batch = records(&function, 5);
    append(store, &batch, MANY).await;
    let mut found = Vec::new();
    for (offset, expected) in [(0, 2), (2, 2), (4, 1), (5, 0), (u32::MAX, 0)] {
        let page = list(store, function.id, InvocationPage { status: None, offset, limit: 2 }).await;
        assert_eq!(page.len(), expected, "at {offset}");
        found.extend(page);
    }
    assert_eq!(found, reversed(batch));
    assert_eq!(list(store, function.id, InvocationPage { status: None, offset: 0, limit: 0 }).await, []);
}

/// The filter comes before offset and limit.
pub async fn records_are_filtered_by_status(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "filter").await;
    let mut batch = records(&function, 12);
    for (record, status) in batch.iter_mut().zip(InvocationStatus::ALL.into_iter().cycle()) {
        record.status = status;
    }
    append(store, &batch, MANY).await;
    for status in InvocationStatus::ALL {
        let expected: Vec<Invocation> =
            batch.iter().rev().filter(|record| record.status == status).skip(1).take(1).cloned().collect();
        let page = InvocationPage { status: Some(status), offset: 1, limit: 1 };
        assert_eq!(list(store, function.id, page).await, expected);
    }
}

/// Each batch leaves exactly the newest of its functions, whether they came with it or before.
pub async fn only_the_newest_records_are_kept(store: &(impl FunctionStore + InvocationStore)) {
    let (one, two) = (create(store, "one").await, create(store, "two").await);
    let mut batch = records(&one, 5);
    batch.extend(records(&two, 2));
    append(store, &batch, 3).await;
    let newest = |records: &[Invocation], count: usize| -> Vec<Invocation> {
        records.iter().rev().take(count).cloned().collect()
    };
    let (of_one, of_two) = batch.split_at(5);
    assert_eq!(list_all(store, one.id).await, newest(of_one, 3));
    assert_eq!(list_all(store, two.id).await, newest(of_two, 2));
    // One record older than all that are kept, and one newer.
    let late = [invocation(&one, -1), invocation(&one, 100)];
    append(store, &late, 3).await;
    let mut expected = newest(&late, 1);
    expected.extend(newest(of_one, 2));
    assert_eq!(list_all(store, one.id).await, expected);
    append(store, &late, 1).await;
    assert_eq!(list_all(store, one.id).await, newest(&late, 1));
}

/// A batch trims only the functions that it names.
pub async fn functions_without_new_records_are_not_trimmed(store: &(impl FunctionStore + InvocationStore)) {
    let (busy, quiet) = (create(store, "busy").await, create(store, "quiet").await);
    append(store, &records(&quiet, 4), 4).await;
    append(store, &records(&busy, 4), 2).await;
    assert_eq!(list_all(store, quiet.id).await.len(), 4);
    assert_eq!(list_all(store, busy.id).await.len(), 2);
}

/// A function may be deleted while the records of its last calls are on their way.
pub async fn records_of_gone_functions_are_skipped(store: &(impl FunctionStore + InvocationStore)) {
    let (gone, kept) = (create(store, "gone").await, create(store, "kept").await);
    store.delete_function(gone.id).await.expect("deleted");
    let (orphan, record) = (invocation(&gone, 0), invocation(&kept, 0));
    append(store, &[orphan, record.clone()], MANY).await;
    assert_eq!(list_all(store, gone.id).await, []);
    assert_eq!(list_all(store, kept.id).await, [record]);
}

/// A batch has no size at which records get lost.
pub async fn a_large_batch_is_kept_whole(store: &(impl FunctionStore + InvocationStore)) {
    let (one, two) = (create(store, "one").await, create(store, "two").await);
    let mut batch = records(&one, 1_337);
    batch.extend(records(&two, 203));
    append(store, &batch, MANY).await;
    let (of_one, of_two) = batch.split_at(1_337);
    assert_eq!(list_all(store, one.id).await, reversed(of_one.to_vec()));
    assert_eq!(list_all(store, two.id).await, reversed(of_two.to_vec()));
}

/// Records do not outlive their function.
pub async fn deleting_a_function_takes_its_records_along(store: &(impl FunctionStore + InvocationStore)) {
    let function = create(store, "deleted").await;
    append(store, &records(&function, 3), MANY).await;
    store.delete_function(function.id).await.expect("deleted");
    assert_eq!(list_all(store, function.id).await, []);
}
