//! Changes of asynchronous invocations: those of whoever submits and looks after them. What workers change is in
//! `delivery`, schedules are in `schedules`.

pub(crate) mod delivery;
pub(crate) mod schedules;

use async_trait::async_trait;
use impuls_store::StoreError;
use impuls_store::rows::{AsyncRow, CompletionRow, SettingsRow};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::row::{keep, uuid};
use crate::transaction::{Change, Refusal};
use crate::write::unless_foreign;

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// An invocation that is accepted unless one with its id or its key exists; true if it was.
pub(crate) struct Enqueue<'r>(pub(crate) &'r AsyncRow);

/// The end of an invocation that waits or runs.
pub(crate) struct Cancel {
    pub(crate) id: Uuid,
    pub(crate) end: CompletionRow,
}

/// Dead letters that wait again.
pub(crate) struct Redrive {
    /// The invocation, or the function of which so many.
    pub(crate) which: Result<Uuid, (Uuid, u32)>,
    pub(crate) now: i64,
}

/// Finished invocations that go.
pub(crate) struct Prune {
    pub(crate) dead_letters: bool,
    pub(crate) ended_before: i64,
    pub(crate) keep: u32,
    pub(crate) limit: u32,
}

/// How a function's invocations are handled; `None` is what nobody says any more.
pub(crate) struct PutSettings {
    pub(crate) function: Uuid,
    pub(crate) settings: Option<SettingsRow>,
}

#[async_trait]
impl Change for Enqueue<'_> {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let row = self.0;
        let added = sqlx::query(
            "INSERT INTO impuls_async_invocations (id, function, qualifier, status, attempt, due, timeout_ms, policy, \
             destinations, hook, idempotency_key, origin, chain, failures, throttled, broken, deaths, created_at, \
             ready_at, context, event) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             $17, $18, $19, $20, $21) ON CONFLICT DO NOTHING",
        )
        .bind(uuid(&row.id))
        .bind(uuid(&row.function))
        .bind(keep(&row.qualifier))
        .bind(row.status)
        .bind(i64::from(row.attempt))
        .bind(row.due)
        .bind(row.timeout_ms)
        .bind(keep(&row.settings.policy))
        .bind(row.settings.destinations.as_deref().map(keep))
        .bind(row.hook.as_deref().map(keep))
        .bind(row.key.as_deref().map(keep))
        .bind(row.origin.as_ref().map(uuid))
        .bind(i64::from(row.chain))
        .bind(i64::from(row.tally.failures))
        .bind(i64::from(row.tally.throttled))
        .bind(i64::from(row.tally.broken))
        .bind(i64::from(row.tally.deaths))
        .bind(row.created_at)
        .bind(row.ready_at)
        .bind(row.context.as_slice())
        .bind(row.event.as_slice())
        .execute(connection)
        .await
        .map_err(unless_foreign(StoreError::NotFound))?;
        Ok(added.rows_affected() > 0)
    }
}

/// The columns of an end; the condition begins with `$14`.
macro_rules! end {
    ($condition:literal) => {
        concat!(
            "UPDATE impuls_async_invocations SET status = $1, due = NULL, completed_at = $2, error_type = $3, \
             error_class = $4, error_message = $5, error_stack = $6, duration_ns = $7, init_duration_ns = $8, \
             memory_mib = $9, measured = $10, log_dropped = $11, logs = $12, result = $13 WHERE id = $14 AND ",
            $condition
        )
    };
}

const END_ATTEMPT: &str = end!("attempt = $15 AND status = 'running'");
const END_ANY: &str = end!("status IN ('queued', 'running')");

/// The statement that ends an invocation, with everything bound but what follows its id.
fn end<'q>(statement: &'static str, id: Uuid, row: &'q CompletionRow) -> Query<'q> {
    let failure = row.failure.as_ref();
    let [duration, init_duration, memory] = row.usage;
    sqlx::query(statement)
        .bind(row.status)
        .bind(row.completed_at)
        .bind(failure.map(|failure| failure.error_type.as_str()))
        .bind(failure.map(|failure| keep(&failure.class)))
        .bind(failure.map(|failure| keep(&failure.message)))
        .bind(failure.and_then(|failure| failure.stack.as_deref().map(keep)))
        .bind(duration)
        .bind(init_duration)
        .bind(memory)
        .bind(row.measured.as_deref())
        .bind(row.log_dropped)
        .bind(row.logs.as_deref())
        .bind(row.result.as_deref())
        .bind(id)
}

#[async_trait]
impl Change for Cancel {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        Ok(end(END_ANY, self.id, &self.end).execute(connection).await?.rows_affected() > 0)
    }
}

#[async_trait]
impl Change for Redrive {
    type Made = u64;

    async fn make(&self, connection: &mut PgConnection) -> Result<u64, Refusal> {
        const AGAIN: &str = "UPDATE impuls_async_invocations SET status = 'queued', due = $1, ready_at = $1, \
             failures = 0, throttled = 0, broken = 0, deaths = 0, completed_at = NULL, logs = NULL, result = NULL \
             WHERE status = 'dead' AND id IN (SELECT id FROM impuls_async_invocations WHERE status = 'dead' \
             AND (id = $2 OR function = $3 AND completed_at <= $1) ORDER BY id LIMIT $4)";
        let (id, function, limit) = match self.which {
            Ok(id) => (Some(id), None, 1),
            Err((function, limit)) => (None, Some(function), limit),
        };
        let query = sqlx::query(AGAIN).bind(self.now).bind(id).bind(function).bind(i64::from(limit));
        Ok(query.execute(connection).await?.rows_affected())
    }
}

#[async_trait]
impl Change for Prune {
    type Made = u64;

    async fn make(&self, connection: &mut PgConnection) -> Result<u64, Refusal> {
        const OLD: &str = "DELETE FROM impuls_async_invocations WHERE id IN (SELECT id FROM impuls_async_invocations \
             WHERE due IS NULL AND (status = 'dead') = $1 AND completed_at < $2 ORDER BY completed_at LIMIT $3 \
             FOR UPDATE SKIP LOCKED)";
        // The conditions twice: a dead letter may have been driven again between being chosen and being removed.
        const MANY: &str = "DELETE FROM impuls_async_invocations WHERE due IS NULL AND (status = 'dead') = $1 \
             AND id IN (SELECT id FROM impuls_async_invocations \
             WHERE due IS NULL AND (status = 'dead') = $1 ORDER BY id DESC LIMIT $2 OFFSET $3)";
        let query = sqlx::query(OLD).bind(self.dead_letters).bind(self.ended_before);
        let removed = query.bind(i64::from(self.limit)).execute(&mut *connection).await?.rows_affected();
        let left = u64::from(self.limit).saturating_sub(removed);
        if left == 0 {
            return Ok(removed);
        }
        let query = sqlx::query(MANY).bind(self.dead_letters).bind(left as i64).bind(i64::from(self.keep));
        Ok(removed + query.execute(connection).await?.rows_affected())
    }
}

#[async_trait]
impl Change for PutSettings {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let Some(settings) = &self.settings else {
            let query = sqlx::query("DELETE FROM impuls_async_settings WHERE function = $1");
            query.bind(self.function).execute(connection).await?;
            return Ok(());
        };
        sqlx::query(
            "INSERT INTO impuls_async_settings (function, policy, destinations) VALUES ($1, $2, $3) \
             ON CONFLICT (function) DO UPDATE SET policy = excluded.policy, destinations = excluded.destinations",
        )
        .bind(self.function)
        .bind(keep(&settings.policy))
        .bind(settings.destinations.as_deref().map(keep))
        .execute(connection)
        .await
        .map_err(unless_foreign(StoreError::NotFound))?;
        Ok(())
    }
}
