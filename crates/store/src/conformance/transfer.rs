//! The cases of `Transfer`.

use impuls_domain::{ArtifactDigest, AsyncSettings, Destinations, RetryPolicy};

use super::async_invocation::queued;
use super::fixture::{alias, at, create, deploy, invocation, snapshot};
use super::schedule::schedule;
use crate::{
    AsyncInvocationStore, BuildStore, Cell, Filling, FunctionStore, Hold, InvocationStore, Row,
    ScheduleStore, StoreError, Table, Transfer, VersionStore,
};

/// Says that the store is being filled.
async fn begin(store: &impl Transfer, started_at: i64) -> Filling {
    let filling = Filling { source: "elsewhere".to_owned(), started_at: at(started_at), ended_at: None };
    store.put_filling(&filling).await.expect("said");
    filling
}

/// Every row, table by table.
pub async fn all_rows(store: &impl Transfer) -> Vec<(Table, Vec<Row>)> {
    let mut state = store.snapshot().await.expect("a snapshot");
    let mut all = Vec::new();
    for table in Table::ALL {
        let rows = state.rows(table, None, 1_000).await.expect("the rows");
        assert_eq!(state.count_rows(table).await.expect("a count"), rows.len() as u64);
        all.push((table, rows));
    }
    all
}

/// What is taken out of a store and put back is the same, whether it was still there or not.
pub async fn everything_that_is_taken_can_be_put_back<S>(store: &S)
where
    S: Transfer + FunctionStore + VersionStore + InvocationStore,
    S: BuildStore + AsyncInvocationStore + ScheduleStore,
{
    let function = create(store, "transferred").await;
    let function = deploy(store, &function, 2).await;
    store.put_alias(function.id, &alias("live", &[(1, 3), (2, 1)])).await.expect("an alias");
    store.append_invocations(&[invocation(&function, 5)], 10).await.expect("a record");
    let mut one = queued(function.id);
    one.key = Some("a\0key".to_owned());
    store.enqueue(&one).await.expect("accepted");
    let settings = AsyncSettings { policy: RetryPolicy::DEFAULT, destinations: Destinations::default() };
    store.put_async_settings(function.id, Some(&settings)).await.expect("settings");
    store.put_schedule(&schedule(function.id, "often")).await.expect("a schedule");
    let key = ArtifactDigest::from_bytes([7; 32]);
    store.put_build(&key, &key, at(1)).await.expect("a build");
    let (before, was) = (all_rows(store).await, snapshot(store, function.id).await);
    assert!(before.iter().all(|(_, rows)| !rows.is_empty()), "{before:?}");
    let filling = begin(store, 1).await;
    // Once over what is there, once where it was.
    for _ in 0..2 {
        for (table, rows) in &before {
            store.put_rows(&filling, *table, rows.clone()).await.expect("put");
        }
        assert_eq!(all_rows(store).await, before);
        assert_eq!(snapshot(store, function.id).await, was);
        store.delete_function(function.id).await.expect("deleted");
    }
}

/// Pages follow each other without a gap.
pub async fn rows_come_in_pages_in_the_order_of_their_keys<S: Transfer + FunctionStore>(store: &S) {
    for n in 0..40 {
        create(store, &format!("paged-{n}")).await;
    }
    let mut state = store.snapshot().await.expect("a snapshot");
    for table in [Table::Functions, Table::Versions] {
        let all = state.rows(table, None, 100).await.expect("the rows");
        assert_eq!(all.len(), 40);
        let mut paged: Vec<Row> = Vec::new();
        loop {
            let page = state.rows(table, paged.last(), 7).await.expect("a page");
            assert!(page.len() <= 7);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all);
        let key = |row: &Row| match row.0.first() {
            Some(Cell::Bytes(id)) => Some(id.clone()),
            _ => None,
        };
        assert!(all.iter().all(|row| key(row).is_some()));
        assert!(all.is_sorted_by_key(key));
    }
}

/// Nothing that happens later is in it.
pub async fn a_snapshot_does_not_see_later_changes<S: Transfer + FunctionStore>(store: &S) {
    create(store, "before").await;
    let mut state = store.snapshot().await.expect("a snapshot");
    create(store, "after").await;
    for table in [Table::Functions, Table::Revisions] {
        assert_eq!(state.count_rows(table).await.expect("a count"), 1);
        assert_eq!(state.rows(table, None, 9).await.expect("the rows").len(), 1);
    }
}

/// A row that is no row of its table changes nothing.
pub async fn rows_of_another_shape_are_refused<S: Transfer + FunctionStore>(store: &S) {
    let filling = begin(store, 1).await;
    let refused = store.put_rows(&filling, Table::Builds, vec![Row(vec![Cell::Null])]).await;
    assert!(refused.is_err());
    let cells = [Cell::Text("a".to_owned()), Cell::Integer(1), Cell::Null];
    assert!(store.put_rows(&filling, Table::Builds, vec![Row(cells.to_vec())]).await.is_err());
    assert_eq!(
        store.snapshot().await.expect("a snapshot").count_rows(Table::Builds).await.expect("a count"),
        0
    );
}

/// What was said last holds.
pub async fn what_fills_a_store_is_kept(store: &impl Transfer) {
    assert_eq!(store.find_filling().await.expect("an answer"), None);
    let mut filling = begin(store, 1).await;
    for ended_at in [None, Some(at(2)), Some(at(2))] {
        filling.ended_at = ended_at;
        store.put_filling(&filling).await.expect("said");
        assert_eq!(store.find_filling().await.expect("an answer").as_ref(), Some(&filling));
        let mut state = store.snapshot().await.expect("a snapshot");
        assert_eq!(state.find_filling().await.expect("an answer").as_ref(), Some(&filling));
    }
    assert!(matches!(store.hold().await, Ok(Hold::Held(_))));
}

/// Whoever was overtaken by another filling, or by its end, puts nothing any more.
pub async fn a_filling_that_is_over_puts_nothing(store: &impl Transfer) {
    let row = || Row(vec![Cell::Bytes(vec![7; 32]), Cell::Bytes(vec![8; 32]), Cell::Integer(1)]);
    let (first, second) = (begin(store, 1).await, begin(store, 2).await);
    let late = store.put_rows(&first, Table::Builds, vec![row()]).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    let late = store.put_filling(&Filling { ended_at: Some(at(3)), ..first }).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    store.put_rows(&second, Table::Builds, vec![row()]).await.expect("put");
    store.put_filling(&Filling { ended_at: Some(at(3)), ..second.clone() }).await.expect("said");
    let late = store.put_rows(&second, Table::Builds, vec![row()]).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
}

/// Whatever is asked, and whatever is put into it.
pub async fn a_store_stays_the_one_it_is(store: &impl Transfer) {
    let id = store.identity().await.expect("an identity");
    assert!(!id.is_nil());
    let filling = begin(store, 1).await;
    store.put_filling(&Filling { ended_at: Some(at(2)), ..filling }).await.expect("said");
    assert_eq!(store.identity().await.expect("an identity"), id);
    assert_eq!(store.snapshot().await.expect("a snapshot").identity().await.expect("an identity"), id);
}
