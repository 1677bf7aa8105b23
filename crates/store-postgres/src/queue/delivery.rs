//! What workers change of asynchronous invocations.
//!
//! A claim passes over rows that another server is claiming in the same moment (`SKIP LOCKED`), so servers do not wait
//! for each other, and no row is claimed twice.

use async_trait::async_trait;
use impuls_domain::{AsyncInvocation, Failure};
use impuls_store::PutBack;
use impuls_store::rows::{AsyncRow, CompletionRow, async_invocation, micros};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::Enqueue;
use crate::row::{Row, column, keep, kept, uuid};
use crate::together::Together;
use crate::transaction::{Change, Refusal};

/// Invocations that are taken.
pub(crate) struct ClaimDue {
    pub(crate) now: i64,
    pub(crate) lease: i64,
    pub(crate) limit: u32,
    pub(crate) share: u32,
    /// Functions with less room than the share, and how much.
    pub(crate) functions: Vec<Uuid>,
    pub(crate) rooms: Vec<i64>,
    /// Functions without room.
    pub(crate) full: Vec<Uuid>,
    pub(crate) only: Option<Vec<Uuid>>,
}

/// The statement that claims, out of these candidates. They are cut before they are ranked, so that a claim costs as much as it
/// takes, however many wait; those that are ranked out are free again with the commit.
macro_rules! claim {
    ($candidates:literal) => {
        concat!(
            "WITH oldest AS (SELECT id, function, due FROM impuls_async_invocations WHERE due <= $1 AND ",
            $candidates,
            " AND function <> ALL ($7::uuid[]) ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED), \
             ranked AS (SELECT o.id, row_number() OVER (PARTITION BY o.function ORDER BY o.due, o.id) AS place, \
             coalesce(r.room, $4) AS room FROM oldest o \
             LEFT JOIN unnest($5::uuid[], $6::bigint[]) AS r (function, room) ON r.function = o.function) \
             UPDATE impuls_async_invocations a SET attempt = a.attempt + 1, \
             deaths = a.deaths + CASE a.status WHEN 'running' THEN 1 ELSE 0 END, \
             status = 'running', started_at = $1, due = $2 FROM ranked \
             WHERE a.id = ranked.id AND ranked.place <= ranked.room RETURNING a.*"
        )
    };
}

const CLAIM_ANY: &str = claim!("$8::uuid[] IS NULL");
const CLAIM_ONLY: &str = claim!("id = ANY ($8::uuid[])");

const NOBODYS: &str =
    "UPDATE impuls_async_invocations SET status = 'queued', due = $2 WHERE id = ANY ($1::uuid[])";

/// Leases that hold longer; what comes of it are the ids of those that do.
pub(crate) struct Renew {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) attempts: Vec<i64>,
    pub(crate) lease: i64,
}

/// The end of an attempt; true if it was running.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) id: Uuid,
    pub(crate) attempt: u32,
    pub(crate) row: CompletionRow,
}

/// The end of an attempt, with what tells it.
pub(crate) struct Complete {
    pub(crate) end: End,
    pub(crate) follow_up: AsyncRow,
}

/// An attempt that did not end its invocation.
pub(crate) struct Again<'p> {
    pub(crate) id: Uuid,
    pub(crate) attempt: u32,
    pub(crate) put_back: &'p PutBack,
}

#[async_trait]
impl Change for ClaimDue {
    type Made = Vec<AsyncInvocation>;

    async fn make(&self, connection: &mut PgConnection) -> Result<Vec<AsyncInvocation>, Refusal> {
        let rows = sqlx::query(if self.only.is_some() { CLAIM_ONLY } else { CLAIM_ANY })
            .bind(self.now)
            .bind(self.lease)
            .bind(i64::from(self.limit))
            .bind(i64::from(self.share))
            .bind(&self.functions)
            .bind(&self.rooms)
            .bind(&self.full)
            .bind(self.only.as_ref())
            .fetch_all(&mut *connection)
            .await?;
        let (mut claimed, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            match async_invocation(&Row(row)) {
                Ok(invocation) => claimed.push(invocation),
                Err(error) => {
                    let id: Uuid = row.try_get("id")?;
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %id, "an invocation cannot be read by this release; another may");
                    unreadable.push(id);
                }
            }
        }
        if !unreadable.is_empty() {
            // Nobody holds them; that they wait is no death of a worker.
            let query = sqlx::query(NOBODYS).bind(&unreadable).bind(self.lease);
            query.execute(connection).await?;
        }
        claimed.sort_by_key(|invocation| invocation.id);
        Ok(claimed)
    }
}

/// Waits for nobody: who has one of the rows locked is ending it, or putting it back, and holds it no longer than the lease. So
/// renewing and ending many at once do not wait for each other crosswise.
/// What was sent long ago and comes now, after the network was away, takes no time from a lease that was renewed since.
const RENEW: &str = "WITH held AS (SELECT a.id FROM impuls_async_invocations a \
     JOIN unnest($1::uuid[], $2::bigint[]) AS h (id, attempt) ON a.id = h.id AND a.attempt = h.attempt \
     WHERE a.status = 'running' FOR NO KEY UPDATE OF a SKIP LOCKED), \
     renewed AS (UPDATE impuls_async_invocations a SET due = greatest(a.due, $3) FROM held WHERE a.id = held.id) \
     SELECT a.id FROM impuls_async_invocations a JOIN unnest($1::uuid[], $2::bigint[]) AS h (id, attempt) \
     ON a.id = h.id AND a.attempt = h.attempt WHERE a.status = 'running'";

#[async_trait]
impl Change for Renew {
    type Made = Vec<Uuid>;

    async fn make(&self, connection: &mut PgConnection) -> Result<Vec<Uuid>, Refusal> {
        let query = sqlx::query_scalar(RENEW).bind(&self.ids).bind(&self.attempts).bind(self.lease);
        Ok(query.fetch_all(connection).await?)
    }
}

const END: &str = "UPDATE impuls_async_invocations a SET status = e.status, due = NULL, completed_at = e.completed_at, \
     error_type = e.error_type, error_class = e.error_class, error_message = e.error_message, error_stack = e.error_stack, \
     duration_ns = e.duration_ns, init_duration_ns = e.init_duration_ns, memory_mib = e.memory_mib, measured = e.measured, \
     log_dropped = e.log_dropped, logs = e.logs, result = e.result FROM unnest($1::uuid[], $2::bigint[], $3::text[], \
     $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], \
     $13::bigint[], $14::bytea[], $15::bytea[]) AS e (id, attempt, status, completed_at, error_type, error_class, \
     error_message, error_stack, duration_ns, init_duration_ns, memory_mib, measured, log_dropped, logs, result) \
     WHERE a.id = e.id AND a.attempt = e.attempt AND a.status = 'running' RETURNING a.id";

#[async_trait]
impl Together for End {
    const ACTION: &'static str = "completing an asynchronous invocation";

    fn id(&self) -> Uuid {
        self.id
    }

    fn bytes(&self) -> usize {
        self.row.result.as_ref().map_or(0, Vec::len) + self.row.logs.as_ref().map_or(0, Vec::len)
    }

    async fn make_all(all: &[&Self], connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
        let rows = column(all, |end| &end.row);
        let rows = rows.as_slice();
        let failed = |of: fn(&Failure) -> Option<&str>| {
            column(rows, move |row| row.failure.as_ref().and_then(of).map(kept))
        };
        sqlx::query_scalar(END)
            .bind(column(all, |end| end.id))
            .bind(column(all, |end| i64::from(end.attempt)))
            .bind(column(rows, |row| row.status))
            .bind(column(rows, |row| row.completed_at))
            .bind(failed(|failure| Some(failure.error_type.as_str())))
            .bind(failed(|failure| Some(failure.class.as_str())))
            .bind(failed(|failure| Some(failure.message.as_str())))
            .bind(failed(|failure| failure.stack.as_deref()))
            .bind(column(rows, |row| row.usage[0]))
            .bind(column(rows, |row| row.usage[1]))
            .bind(column(rows, |row| row.usage[2]))
            .bind(column(rows, |row| row.measured.as_deref()))
            .bind(column(rows, |row| row.log_dropped))
            .bind(column(rows, |row| row.logs.as_deref()))
            .bind(column(rows, |row| row.result.as_deref()))
            .fetch_all(connection)
            .await
    }
}

#[async_trait]
impl Change for Complete {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        if End::make_all(&[&self.end], connection).await?.is_empty() {
            return Ok(false);
        }
        // Held, so that it does not go before what tells the end is there.
        let function: Option<Uuid> =
            sqlx::query_scalar("SELECT id FROM impuls_functions WHERE id = $1 FOR KEY SHARE")
                .bind(uuid(&self.follow_up.function))
                .fetch_optional(&mut *connection)
                .await?;
        if function.is_some() {
            Enqueue(&self.follow_up).make(connection).await?;
        }
        Ok(true)
    }
}

#[async_trait]
impl Change for Again<'_> {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let PutBack { not_before, tally, failure } = self.put_back;
        let failure = failure.as_ref();
        let done = sqlx::query(
            "UPDATE impuls_async_invocations SET status = 'queued', due = $3, failures = $4, throttled = $5, \
             broken = $6, deaths = $7, \
             error_type = CASE WHEN $8 THEN $9 ELSE error_type END, \
             error_class = CASE WHEN $8 THEN $10 ELSE error_class END, \
             error_message = CASE WHEN $8 THEN $11 ELSE error_message END, \
             error_stack = CASE WHEN $8 THEN $12 ELSE error_stack END \
             WHERE id = $1 AND attempt = $2 AND status = 'running'",
        )
        .bind(self.id)
        .bind(i64::from(self.attempt))
        .bind(micros(*not_before))
        .bind(i64::from(tally.failures))
        .bind(i64::from(tally.throttled))
        .bind(i64::from(tally.broken))
        .bind(i64::from(tally.deaths))
        .bind(failure.is_some())
        .bind(failure.map(|failure| failure.error_type.as_str()))
        .bind(failure.map(|failure| keep(&failure.class)))
        .bind(failure.map(|failure| keep(&failure.message)))
        .bind(failure.and_then(|failure| failure.stack.as_deref().map(keep)))
        .execute(connection)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
