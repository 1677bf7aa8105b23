//! Changes of asynchronous invocations.

use std::sync::LazyLock;

use impuls_domain::{Failure, Tally};
use impuls_store::StoreError;
use impuls_store::rows::{AsyncRow, CompletionRow, Key, SettingsRow};
use sqlx::SqliteConnection;

use super::Refusal;
use crate::error::is_foreign_key_violation;

/// Which attempt of which invocation.
pub(crate) type Attempt = (Key, u32);

/// A claim.
#[derive(Debug)]
pub(crate) struct ClaimRow {
    pub(crate) now: i64,
    pub(crate) lease: i64,
    pub(crate) limit: u32,
    pub(crate) share: u32,
    /// A JSON array of pairs: a function in hexadecimal digits, and how many of it.
    pub(crate) rooms: String,
    /// A JSON array of ids in hexadecimal digits.
    pub(crate) only: Option<String>,
    pub(crate) token: Key,
}

/// What is known of an attempt that did not end its invocation.
#[derive(Debug)]
pub(crate) struct PutBackRow {
    pub(crate) due: i64,
    pub(crate) tally: Tally,
    pub(crate) failure: Option<Failure>,
}

/// Which dead letters to drive again.
#[derive(Debug)]
pub(crate) enum DeadRow {
    One(Key),
    Of(Key, u32),
}

/// Which finished invocations to remove.
#[derive(Debug)]
pub(crate) struct PruneRow {
    pub(crate) dead_letters: bool,
    pub(crate) ended_before: i64,
    pub(crate) keep: u32,
    pub(crate) limit: u32,
}

/// A change of asynchronous invocations.
#[derive(Debug)]
pub(crate) enum AsyncWork {
    Enqueue(AsyncRow),
    Claim(ClaimRow),
    Renew(Vec<Attempt>, i64),
    /// With what tells the end.
    Complete(Attempt, CompletionRow, Option<Box<AsyncRow>>),
    PutBack(Attempt, PutBackRow),
    Cancel(Key, CompletionRow),
    Redrive(DeadRow, i64),
    /// By so many microseconds.
    MoveAlong(i64),
    Prune(PruneRow),
    /// What nobody says any more is `None`.
    Settings(Key, Option<SettingsRow>),
}

/// Makes one change; says how much there was to change.
pub(super) async fn apply(connection: &mut SqliteConnection, work: &AsyncWork) -> Result<u64, Refusal> {
    match work {
        AsyncWork::Enqueue(row) => enqueue(connection, row).await,
        AsyncWork::Claim(row) => claim(connection, row).await,
        AsyncWork::Renew(attempts, lease) => renew(connection, attempts, *lease).await,
        AsyncWork::Complete(attempt, row, follow_up) => {
            complete(connection, attempt, row, follow_up.as_deref()).await
        }
        AsyncWork::PutBack(attempt, row) => put_back(connection, attempt, row).await,
        AsyncWork::Cancel(id, row) => cancel(connection, id, row).await,
        AsyncWork::Redrive(which, now) => redrive(connection, which, *now).await,
        AsyncWork::MoveAlong(by) => move_along(connection, *by).await,
        AsyncWork::Prune(row) => prune(connection, row).await,
        AsyncWork::Settings(function, row) => put_settings(connection, function, row.as_ref()).await,
    }
}

/// The head of a statement that accepts invocations, which rows follow.
pub(super) const INSERT: &str = "INSERT INTO async_invocations (id, function, qualifier, status, attempt, due, timeout_ms, \
     policy, destinations, hook, idempotency_key, origin, chain, failures, throttled, broken, deaths, created_at, ready_at, \
     context, event) VALUES";
/// One row of it.
pub(super) const NEW_ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Binds one row of [`NEW_ROW`].
pub(super) fn bind_new<'q>(query: Query<'q>, row: &'q AsyncRow) -> Query<'q> {
    query
        .bind(row.id.to_vec())
        .bind(row.function.to_vec())
        .bind(&row.qualifier)
        .bind(row.status)
        .bind(row.attempt)
        .bind(row.due)
        .bind(row.timeout_ms)
        .bind(&row.settings.policy)
        .bind(row.settings.destinations.as_ref())
        .bind(row.hook.as_ref())
        .bind(row.key.as_ref())
        .bind(row.origin.map(|origin| origin.to_vec()))
        .bind(row.chain)
        .bind(row.tally.failures)
        .bind(row.tally.throttled)
        .bind(row.tally.broken)
        .bind(row.tally.deaths)
        .bind(row.created_at)
        .bind(row.ready_at)
        .bind(&row.context)
        .bind(&row.event)
}

pub(super) async fn enqueue(connection: &mut SqliteConnection, row: &AsyncRow) -> Result<u64, Refusal> {
    static ONE: LazyLock<String> = LazyLock::new(|| format!("{INSERT} {NEW_ROW} ON CONFLICT DO NOTHING"));
    let added = bind_new(sqlx::query(ONE.as_str()), row).execute(connection).await;
    Ok(added.map_err(unless_function_is_missing)?.rows_affected())
}

fn unless_function_is_missing(error: sqlx::Error) -> Refusal {
    if is_foreign_key_violation(&error) { Refusal::Store(StoreError::NotFound) } else { error.into() }
}

/// The statement that claims, out of these candidates. They are cut before they are ranked, so that a claim costs as much as it
/// takes, however many wait.
macro_rules! claim {
    ($candidates:literal) => {
        concat!(
            "WITH rooms (function, room) AS (SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?6)) \
             UPDATE async_invocations SET attempt = attempt + 1, deaths = deaths + (status = 'running'), \
             status = 'running', started_at = ?1, due = ?2, claim = ?3 WHERE id IN (SELECT id FROM \
             (SELECT id, function, row_number() OVER (PARTITION BY function ORDER BY due, id) AS place FROM \
             (SELECT id, function, due FROM async_invocations WHERE due <= ?1 AND ",
            $candidates,
            " AND function NOT IN (SELECT function FROM rooms WHERE room = 0) ORDER BY due, id LIMIT ?4)) AS oldest \
             LEFT JOIN rooms ON rooms.function = oldest.function WHERE place <= coalesce(room, ?5))"
        )
    };
}

const CLAIM_ANY: &str = claim!("?7 IS NULL");
const CLAIM_ONLY: &str = claim!("id IN (SELECT unhex(value) FROM json_each(?7))");

async fn claim(connection: &mut SqliteConnection, row: &ClaimRow) -> Result<u64, Refusal> {
    let statement = if row.only.is_some() { CLAIM_ONLY } else { CLAIM_ANY };
    let claimed = sqlx::query(statement)
        .bind(row.now)
        .bind(row.lease)
        .bind(row.token.to_vec())
        .bind(row.limit)
        .bind(row.share)
        .bind(&row.rooms)
        .bind(row.only.as_ref())
        .execute(connection)
        .await?;
    Ok(claimed.rows_affected())
}

const IS_RUNNING: &str = " WHERE id = ? AND attempt = ? AND status = 'running'";

async fn renew(connection: &mut SqliteConnection, attempts: &[Attempt], lease: i64) -> Result<u64, Refusal> {
    let statement = format!("UPDATE async_invocations SET due = max(due, ?){IS_RUNNING}");
    let mut renewed = 0;
    for (id, attempt) in attempts {
        let query =
            sqlx::query(sqlx::AssertSqlSafe(statement.as_str())).bind(lease).bind(id.to_vec()).bind(*attempt);
        renewed += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(renewed)
}

const END: &str = "UPDATE async_invocations SET status = ?, due = NULL, completed_at = ?, error_type = ?, \
     error_class = ?, error_message = ?, error_stack = ?, duration_ns = ?, init_duration_ns = ?, memory_mib = ?, \
     measured = ?, log_dropped = ?, logs = ?, result = ?";

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// The statement that ends an invocation, with everything bound but the condition.
fn end<'q>(statement: &'q str, row: &'q CompletionRow) -> Query<'q> {
    bind_end(sqlx::query(sqlx::AssertSqlSafe(statement)), row)
}

/// Binds the columns of an end, in the order of [`END`].
pub(super) fn bind_end<'q>(query: Query<'q>, row: &'q CompletionRow) -> Query<'q> {
    let failure = row.failure.as_ref();
    let [duration, init_duration, memory] = row.usage;
    query
        .bind(row.status)
        .bind(row.completed_at)
        .bind(failure.map(|failure| failure.error_type.as_str()))
        .bind(failure.map(|failure| &failure.class))
        .bind(failure.map(|failure| &failure.message))
        .bind(failure.and_then(|failure| failure.stack.as_ref()))
        .bind(duration)
        .bind(init_duration)
        .bind(memory)
        .bind(row.measured.as_ref())
        .bind(row.log_dropped)
        .bind(row.logs.as_ref())
        .bind(row.result.as_ref())
}

async fn complete(
    connection: &mut SqliteConnection,
    (id, attempt): &Attempt,
    row: &CompletionRow,
    follow_up: Option<&AsyncRow>,
) -> Result<u64, Refusal> {
    let statement = format!("{END}{IS_RUNNING}");
    let query = end(&statement, row).bind(id.to_vec()).bind(*attempt);
    let done = query.execute(&mut *connection).await?.rows_affected();
    if done > 0
        && let Some(follow_up) = follow_up
    {
        let function: Option<i64> = sqlx::query_scalar("SELECT 1 FROM functions WHERE id = ?")
            .bind(follow_up.function.to_vec())
            .fetch_optional(&mut *connection)
            .await?;
        if function.is_some() {
            enqueue(connection, follow_up).await?;
        }
    }
    Ok(done)
}

async fn cancel(connection: &mut SqliteConnection, id: &Key, row: &CompletionRow) -> Result<u64, Refusal> {
    let statement = format!("{END} WHERE id = ? AND status IN ('queued', 'running')");
    Ok(end(&statement, row).bind(id.to_vec()).execute(connection).await?.rows_affected())
}

async fn put_back(
    connection: &mut SqliteConnection,
    (id, attempt): &Attempt,
    row: &PutBackRow,
) -> Result<u64, Refusal> {
    let (error, tally) = (row.failure.as_ref(), &row.tally);
    let set = if error.is_some() {
        ", error_type = ?, error_class = ?, error_message = ?, error_stack = ?"
    } else {
        ""
    };
    let statement = format!(
        "UPDATE async_invocations SET status = 'queued', due = ?, failures = ?, throttled = ?, broken = ?, \
         deaths = ?{set}{IS_RUNNING}"
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(row.due)
        .bind(tally.failures)
        .bind(tally.throttled)
        .bind(tally.broken)
        .bind(tally.deaths);
    if let Some(failure) = error {
        query = query
            .bind(failure.error_type.as_str())
            .bind(&failure.class)
            .bind(&failure.message)
            .bind(failure.stack.as_ref());
    }
    Ok(query.bind(id.to_vec()).bind(*attempt).execute(connection).await?.rows_affected())
}

async fn redrive(connection: &mut SqliteConnection, which: &DeadRow, now: i64) -> Result<u64, Refusal> {
    const AGAIN: &str = "UPDATE async_invocations SET status = 'queued', due = ?1, ready_at = ?1, failures = 0, \
         throttled = 0, broken = 0, deaths = 0, completed_at = NULL, logs = NULL, result = NULL \
         WHERE id IN (SELECT id FROM async_invocations WHERE status = 'dead' AND ";
    let (condition, key, limit) = match which {
        DeadRow::One(id) => ("id = ?2 LIMIT ?3)", id, 1),
        DeadRow::Of(function, limit) => {
            ("function = ?2 AND completed_at <= ?1 ORDER BY id LIMIT ?3)", function, *limit)
        }
    };
    let query = sqlx::query(sqlx::AssertSqlSafe(format!("{AGAIN}{condition}")));
    let query = query.bind(now).bind(key.to_vec()).bind(limit);
    Ok(query.execute(connection).await?.rows_affected())
}

/// What waits and what is held has the same time left by a clock that was set.
async fn move_along(connection: &mut SqliteConnection, by: i64) -> Result<u64, Refusal> {
    let moved = sqlx::query(
        "UPDATE async_invocations SET due = due + ?1, ready_at = ready_at + ?1, created_at = created_at + ?1 \
         WHERE due IS NOT NULL",
    );
    Ok(moved.bind(by).execute(connection).await?.rows_affected())
}

async fn prune(connection: &mut SqliteConnection, row: &PruneRow) -> Result<u64, Refusal> {
    let kind = if row.dead_letters { "= 'dead'" } else { "<> 'dead'" };
    let old = format!(
        "DELETE FROM async_invocations WHERE id IN (SELECT id FROM async_invocations \
         WHERE due IS NULL AND status {kind} AND completed_at < ?1 ORDER BY completed_at LIMIT ?2)"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(old)).bind(row.ended_before).bind(row.limit);
    let removed = query.execute(&mut *connection).await?.rows_affected();
    let left = u64::from(row.limit).saturating_sub(removed);
    if left == 0 {
        return Ok(removed);
    }
    let many = format!(
        "DELETE FROM async_invocations WHERE id IN (SELECT id FROM async_invocations \
         WHERE due IS NULL AND status {kind} ORDER BY id DESC LIMIT ?1 OFFSET ?2)"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(many)).bind(left as i64).bind(row.keep);
    Ok(removed + query.execute(connection).await?.rows_affected())
}

async fn put_settings(
    connection: &mut SqliteConnection,
    function: &Key,
    row: Option<&SettingsRow>,
) -> Result<u64, Refusal> {
    let Some(row) = row else {
        let query = sqlx::query("DELETE FROM async_settings WHERE function = ?").bind(function.to_vec());
        return Ok(query.execute(connection).await?.rows_affected());
    };
    let put = sqlx::query(
        "INSERT INTO async_settings (function, policy, destinations) VALUES (?, ?, ?) \
         ON CONFLICT (function) DO UPDATE SET policy = excluded.policy, destinations = excluded.destinations",
    )
    .bind(function.to_vec())
    .bind(&row.policy)
    .bind(row.destinations.as_ref())
    .execute(connection)
    .await
    .map_err(unless_function_is_missing)?;
    Ok(put.rows_affected())
}
