//! Changes of asynchronous invocations.

use impuls_store::StoreError;
use sqlx::SqliteConnection;

use super::Refusal;
use crate::error::is_foreign_key_violation;
use impuls_store::rows::{AsyncRow, CompletionRow, Key};

/// Which attempt of which invocation.
pub(crate) type Attempt = (Key, u32);

/// A claim.
#[derive(Debug)]
pub(crate) struct ClaimRow {
    pub(crate) now: i64,
    pub(crate) lease: i64,
    pub(crate) limit: u32,
    pub(crate) token: Key,
}

/// A change of asynchronous invocations.
#[derive(Debug)]
pub(crate) enum AsyncWork {
    Enqueue(AsyncRow),
    Claim(ClaimRow),
    Renew(Vec<Attempt>, i64),
    Complete(Attempt, CompletionRow),
    PutBack(Attempt, i64),
    Prune(u32),
}

/// Makes one change; true if there was anything to change.
pub(super) async fn apply(connection: &mut SqliteConnection, work: &AsyncWork) -> Result<bool, Refusal> {
    match work {
        AsyncWork::Enqueue(row) => enqueue(connection, row).await,
        AsyncWork::Claim(row) => claim(connection, row).await,
        AsyncWork::Renew(attempts, lease) => renew(connection, attempts, *lease).await,
        AsyncWork::Complete(attempt, row) => complete(connection, attempt, row).await,
        AsyncWork::PutBack(attempt, due) => put_back(connection, attempt, *due).await,
        AsyncWork::Prune(keep) => prune(connection, *keep).await,
    }
}

async fn enqueue(connection: &mut SqliteConnection, row: &AsyncRow) -> Result<bool, Refusal> {
    let added = sqlx::query(
        "INSERT INTO async_invocations (id, function, qualifier, status, attempt, due, timeout_ms, created_at, \
         context, event) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(row.id.to_vec())
    .bind(row.function.to_vec())
    .bind(&row.qualifier)
    .bind(row.status)
    .bind(row.attempt)
    .bind(row.due)
    .bind(row.timeout_ms)
    .bind(row.created_at)
    .bind(&row.context)
    .bind(&row.event)
    .execute(connection)
    .await
    .map_err(|error| {
        if is_foreign_key_violation(&error) { Refusal::Store(StoreError::NotFound) } else { error.into() }
    })?;
    Ok(added.rows_affected() > 0)
}

async fn claim(connection: &mut SqliteConnection, row: &ClaimRow) -> Result<bool, Refusal> {
    let claimed = sqlx::query(
        "UPDATE async_invocations SET status = 'running', attempt = attempt + 1, started_at = ?1, due = ?2, claim = ?3 \
         WHERE id IN (SELECT id FROM async_invocations WHERE due <= ?1 ORDER BY due, id LIMIT ?4)",
    )
    .bind(row.now)
    .bind(row.lease)
    .bind(row.token.to_vec())
    .bind(row.limit)
    .execute(connection)
    .await?;
    Ok(claimed.rows_affected() > 0)
}

const IS_RUNNING: &str = " WHERE id = ? AND attempt = ? AND status = 'running'";

async fn renew(connection: &mut SqliteConnection, attempts: &[Attempt], lease: i64) -> Result<bool, Refusal> {
    let statement = format!("UPDATE async_invocations SET due = ?{IS_RUNNING}");
    let mut changed = false;
    for (id, attempt) in attempts {
        let query =
            sqlx::query(sqlx::AssertSqlSafe(statement.as_str())).bind(lease).bind(id.to_vec()).bind(*attempt);
        changed |= query.execute(&mut *connection).await?.rows_affected() > 0;
    }
    Ok(changed)
}

async fn complete(
    connection: &mut SqliteConnection,
    (id, attempt): &Attempt,
    row: &CompletionRow,
) -> Result<bool, Refusal> {
    let failure = row.failure.as_ref();
    let [duration, init_duration, memory] = row.usage;
    let statement = format!(
        "UPDATE async_invocations SET status = ?, due = NULL, completed_at = ?, error_type = ?, error_class = ?, \
         error_message = ?, error_stack = ?, duration_ns = ?, init_duration_ns = ?, memory_mib = ?, log_dropped = ?, \
         logs = ?, result = ?{IS_RUNNING}"
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(row.status)
        .bind(row.completed_at)
        .bind(failure.map(|failure| failure.error_type.as_str()))
        .bind(failure.map(|failure| &failure.class))
        .bind(failure.map(|failure| &failure.message))
        .bind(failure.and_then(|failure| failure.stack.as_ref()))
        .bind(duration)
        .bind(init_duration)
        .bind(memory)
        .bind(row.log_dropped)
        .bind(row.logs.as_ref())
        .bind(row.result.as_ref())
        .bind(id.to_vec())
        .bind(*attempt)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

async fn put_back(
    connection: &mut SqliteConnection,
    (id, attempt): &Attempt,
    due: i64,
) -> Result<bool, Refusal> {
    let statement = format!("UPDATE async_invocations SET status = 'queued', due = ?{IS_RUNNING}");
    let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(due).bind(id.to_vec()).bind(*attempt);
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

async fn prune(connection: &mut SqliteConnection, keep: u32) -> Result<bool, Refusal> {
    let pruned = sqlx::query(
        "DELETE FROM async_invocations WHERE id IN \
         (SELECT id FROM async_invocations WHERE due IS NULL ORDER BY id DESC LIMIT -1 OFFSET ?)",
    )
    .bind(keep)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected() > 0)
}
