use std::path::Path;

use impuls_store::conformance::fixture;
use sqlx::SqliteConnection;

use super::*;
use crate::schema;

async fn connect(folder: &Path) -> SqliteConnection {
    schema::open_writer(&folder.join("impuls.db")).await.unwrap()
}

fn creation(name: &str) -> Work {
    let (function, revision) = fixture::function(name);
    Work::Create(Box::new((
        FunctionRow::from_domain(&function),
        RevisionRow::from_domain(&revision).unwrap(),
    )))
}

fn large_records(works: &[Work]) -> Work {
    let Some(Work::Create(rows)) = works.first() else { panic!("a creation comes first") };
    let (mut function, _) = fixture::function("owner");
    function.id = impuls_domain::FunctionId::from_uuid(uuid::Uuid::from_bytes(rows.0.id));
    let record = |n| {
        let mut record = fixture::invocation(&function, n);
        record.logs.push(impuls_domain::LogLevel::Info, &"x".repeat(100_000));
        InvocationRow::from_domain(&record)
    };
    Work::Append((0..40).map(record).collect(), 1_000)
}

async fn count(connection: &mut SqliteConnection, table: &'static str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(statement).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_refused_request_undoes_nothing_of_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    let orphan = Work::PutAlias([7; 16], AliasRow::from_domain(&fixture::alias("live", &[(1, 1)])));
    let group = [creation("a"), creation("a"), creation("b"), orphan, Work::Delete([9; 16]), creation("c")];
    let results = transact(&mut connection, &group).await.unwrap();
    let results: Vec<String> = results
        .into_iter()
        .map(|result| match result {
            Ok(changed) => (changed > 0).to_string(),
            Err(Refusal::Store(error)) => format!("{error:?}"),
            Err(Refusal::Sqlite(error)) => panic!("{error}"),
        })
        .collect();
    assert_eq!(results, ["true", "NameTaken", "true", "NotFound", "false", "true"]);
    assert_eq!(count(&mut connection, "functions").await, 3);
    assert_eq!(count(&mut connection, "revisions").await, 3);
    assert_eq!(count(&mut connection, "aliases").await, 0);
}

/// Commits the group and returns its answers as text.
async fn answers(connection: &mut SqliteConnection, group: Vec<Work>) -> Vec<String> {
    let (jobs, waiting): (Vec<Job>, Vec<_>) = group
        .into_iter()
        .map(|work| {
            let (answer, answered) = oneshot::channel();
            (Job { work, action: "testing", answer }, answered)
        })
        .unzip();
    commit(connection, jobs).await;
    let text = |mut answered: oneshot::Receiver<Result<u64, StoreError>>| match answered.try_recv().unwrap() {
        Ok(changed) => (changed > 0).to_string(),
        Err(StoreError::Backend { action: "testing", .. }) => "failed".to_owned(),
        Err(other) => panic!("{other:?}"),
    };
    waiting.into_iter().map(text).collect()
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    run(&mut connection, "PRAGMA max_page_count = 120").await.unwrap();
    let mut group = vec![creation("a")];
    group.push(large_records(&group));
    group.push(creation("b"));
    assert_eq!(answers(&mut connection, group).await, ["true", "failed", "true"]);
    assert_eq!(count(&mut connection, "functions").await, 2);
    assert_eq!(count(&mut connection, "invocations").await, 0);
}

#[tokio::test]
async fn a_failed_commit_fails_the_whole_group_and_keeps_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    connection.lock_handle().await.unwrap().set_commit_hook(|| false);
    assert_eq!(answers(&mut connection, vec![creation("a"), creation("b")]).await, ["failed", "failed"]);
    connection.lock_handle().await.unwrap().remove_commit_hook();
    assert_eq!(count(&mut connection, "functions").await, 0);
    assert_eq!(answers(&mut connection, vec![creation("a")]).await, ["true"]);
}

#[tokio::test]
async fn a_transaction_that_sqlite_gives_up_fails_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    let poison = "CREATE TEMP TRIGGER poison BEFORE INSERT ON functions WHEN new.name = 'poison' \
                  BEGIN SELECT RAISE(ROLLBACK, 'given up'); END";
    run(&mut connection, poison).await.unwrap();
    let group = vec![creation("a"), creation("poison"), creation("b")];
    assert_eq!(answers(&mut connection, group).await, ["failed", "failed", "failed"]);
    assert_eq!(count(&mut connection, "functions").await, 0);
    assert_eq!(answers(&mut connection, vec![creation("a")]).await, ["true"]);
}

/// Invocations of one function, and one of nobody's, accepted in one group: as many as no statement takes exactly.
#[tokio::test]
async fn many_accepted_together_are_answered_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(folder.path()).await;
    let created = creation("a");
    let Work::Create(rows) = &created else { panic!("a creation") };
    let function = impuls_domain::FunctionId::from_uuid(uuid::Uuid::from_bytes(rows.0.id));
    let new = |function| {
        let invocation = impuls_store::conformance::async_invocation::queued(function);
        impuls_store::rows::AsyncRow::from_domain(&invocation)
    };
    let accept = |row| Work::Async(Box::new(AsyncWork::Enqueue(row)));
    transact(&mut connection, &[created]).await.unwrap();
    let first = new(function);
    let again = impuls_store::rows::AsyncRow { id: first.id, ..new(function) };
    let mut group: Vec<Work> = (0..90).map(|_| accept(new(function))).collect();
    group.extend([accept(first), accept(again)]);
    let results = transact(&mut connection, &group).await.unwrap();
    let changed: Vec<u64> = results.into_iter().map(|result| result.unwrap()).collect();
    assert_eq!(changed, [vec![1; 91], vec![0]].concat());
    // One that is refused does not take along those that would have shared its statement.
    let mut group: Vec<Work> = (0..20).map(|_| accept(new(function))).collect();
    group.insert(7, accept(new(impuls_domain::FunctionId::new())));
    let results = transact(&mut connection, &group).await.unwrap();
    let refused: Vec<usize> =
        results.iter().enumerate().filter(|(_, result)| result.is_err()).map(|(place, _)| place).collect();
    assert_eq!(refused, [7]);
    assert_eq!(count(&mut connection, "async_invocations").await, 111);
    // The same of ends: one of an attempt that is none changes nothing.
    let claim = ClaimRow {
        now: i64::MAX - 1,
        lease: i64::MAX,
        limit: 1_000,
        share: 1_000,
        rooms: "[]".to_owned(),
        only: None,
        token: [1; 16],
    };
    transact(&mut connection, &[Work::Async(Box::new(AsyncWork::Claim(claim)))]).await.unwrap();
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT id FROM async_invocations").fetch_all(&mut connection).await.unwrap();
    let end = |(n, id): (usize, Vec<u8>)| {
        let completion = impuls_domain::Completion::cancelled(fixture::at(n as i64));
        let row = impuls_store::rows::CompletionRow::from_domain(&completion);
        let attempt = if n == 50 { 2 } else { 1 };
        Work::Async(Box::new(AsyncWork::Complete((id.try_into().unwrap(), attempt), row, None)))
    };
    let group: Vec<Work> = ids.into_iter().enumerate().map(end).collect();
    let results = transact(&mut connection, &group).await.unwrap();
    let missed: Vec<usize> =
        results.iter().enumerate().filter(|(_, result)| matches!(result, Ok(0))).map(|(n, _)| n).collect();
    assert_eq!(missed, [50]);
    let ends = "SELECT count(DISTINCT completed_at) FROM async_invocations WHERE status = 'cancelled' AND due IS NULL";
    let ends: i64 = sqlx::query_scalar(ends).fetch_one(&mut connection).await.unwrap();
    assert_eq!(ends, 110);
}
