//! Changes of asynchronous invocations: those of whoever submits and looks after them. What workers change is in
//! `delivery`, schedules are in `schedules`.

pub(crate) mod delivery;
pub(crate) mod schedules;

use async_trait::async_trait;
use impuls_store::StoreError;
use impuls_store::rows::{AsyncRow, CompletionRow, SettingsRow};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::row::{column, keep, kept, uuid};
use crate::together::Together;
use crate::transaction::{Change, Refusal};
use crate::write::unless_foreign;

/// An invocation that is accepted unless one with its id or its key exists; true if it was.
pub(crate) struct Enqueue<'r>(pub(crate) &'r AsyncRow);

/// One that may be accepted together with others.
#[derive(Debug)]
pub(crate) struct Accept(pub(crate) AsyncRow);

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

/// Rows that are in the way, by id or key, are passed over, and so are those whose function does not exist.
const ACCEPT: &str = "INSERT INTO impuls_async_invocations (id, function, qualifier, status, attempt, due, timeout_ms, policy, \
     destinations, hook, idempotency_key, origin, chain, failures, throttled, broken, deaths, created_at, ready_at, context, \
     event) SELECT n.* FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
     $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::bigint[], $14::bigint[], $15::bigint[], \
     $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bytea[], $21::bytea[]) AS n (id, function) \
     WHERE EXISTS (SELECT FROM impuls_functions f WHERE f.id = n.function) ON CONFLICT DO NOTHING RETURNING id";

#[async_trait]
impl Together for Accept {
    const ACTION: &'static str = "accepting an asynchronous invocation";

    fn id(&self) -> Uuid {
        uuid(&self.0.id)
    }

    fn bytes(&self) -> usize {
        self.0.event.len() + self.0.context.len()
    }

    async fn make_all(all: &[&Self], connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
        let mut rows = column(all, |accept| &accept.0);
        // In one order, so that two servers that are sent the same keys do not wait for each other.
        rows.sort_by(|a, b| (&a.function, &a.key).cmp(&(&b.function, &b.key)));
        let rows = rows.as_slice();
        sqlx::query_scalar(ACCEPT)
            .bind(column(rows, |row| uuid(&row.id)))
            .bind(column(rows, |row| uuid(&row.function)))
            .bind(column(rows, |row| kept(&row.qualifier)))
            .bind(column(rows, |row| row.status))
            .bind(column(rows, |row| i64::from(row.attempt)))
            .bind(column(rows, |row| row.due))
            .bind(column(rows, |row| row.timeout_ms))
            .bind(column(rows, |row| kept(&row.settings.policy)))
            .bind(column(rows, |row| row.settings.destinations.as_deref().map(kept)))
            .bind(column(rows, |row| row.hook.as_deref().map(kept)))
            .bind(column(rows, |row| row.key.as_deref().map(kept)))
            .bind(column(rows, |row| row.origin.as_ref().map(uuid)))
            .bind(column(rows, |row| i64::from(row.chain)))
            .bind(column(rows, |row| i64::from(row.tally.failures)))
            .bind(column(rows, |row| i64::from(row.tally.throttled)))
            .bind(column(rows, |row| i64::from(row.tally.broken)))
            .bind(column(rows, |row| i64::from(row.tally.deaths)))
            .bind(column(rows, |row| row.created_at))
            .bind(column(rows, |row| row.ready_at))
            .bind(column(rows, |row| row.context.as_slice()))
            .bind(column(rows, |row| row.event.as_slice()))
            .fetch_all(connection)
            .await
    }
}

const CANCEL: &str = "UPDATE impuls_async_invocations SET status = $1, due = NULL, completed_at = $2, error_type = $3, \
     error_class = $4, error_message = $5, error_stack = $6, duration_ns = $7, init_duration_ns = $8, memory_mib = $9, \
     measured = $10, log_dropped = $11, logs = $12, result = $13 WHERE id = $14 AND status IN ('queued', 'running')";

#[async_trait]
impl Change for Cancel {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let row = &self.end;
        let failure = row.failure.as_ref();
        let [duration, init_duration, memory] = row.usage;
        let done = sqlx::query(CANCEL)
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
            .bind(self.id)
            .execute(connection)
            .await?;
        Ok(done.rows_affected() > 0)
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
