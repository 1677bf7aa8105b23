//! Queries of asynchronous invocations and schedules.

use impuls_domain::{AsyncInvocation, AsyncSettings, FunctionId, InvocationId, Schedule};
use impuls_store::rows::{async_invocation, brief_columns, micros, schedule, settings};
use impuls_store::{AsyncInvocationPage, StoreError};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::row::{Row, keep};
use crate::transaction::bounded;

pub(crate) async fn find_async_invocation(
    pool: &PgPool,
    id: InvocationId,
) -> Result<Option<AsyncInvocation>, StoreError> {
    let query = sqlx::query("SELECT * FROM impuls_async_invocations WHERE id = $1").bind(id.as_uuid());
    let row = bounded("looking up an asynchronous invocation", query.fetch_optional(pool)).await?;
    row.map(|row| async_invocation(&Row(&row))).transpose()
}

pub(crate) async fn find_by_key(
    pool: &PgPool,
    function: FunctionId,
    key: &str,
) -> Result<Option<AsyncInvocation>, StoreError> {
    let query =
        sqlx::query("SELECT * FROM impuls_async_invocations WHERE function = $1 AND idempotency_key = $2");
    let query = query.bind(function.as_uuid()).bind(keep(key));
    let row = bounded("looking up an idempotency key", query.fetch_optional(pool)).await?;
    row.map(|row| async_invocation(&Row(&row))).transpose()
}

const PAGE: &str = "($2::text IS NULL OR status = $2) AND ($3::bigint IS NULL OR created_at >= $3) \
     AND ($4::bigint IS NULL OR created_at < $4) AND ($5::uuid IS NULL OR id < $5) \
     ORDER BY id DESC LIMIT $6 OFFSET $7";

pub(crate) async fn list_async_invocations(
    pool: &PgPool,
    page: AsyncInvocationPage,
) -> Result<Vec<AsyncInvocation>, StoreError> {
    // Apart, so that each takes the index that it needs.
    let whose = if page.function.is_some() { "function = $1" } else { "$1::uuid IS NULL" };
    let columns = if page.is_brief { brief_columns("''::bytea") } else { "*".to_owned() };
    let statement = format!("SELECT {columns} FROM impuls_async_invocations WHERE {whose} AND {PAGE}");
    let query = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(page.function.map(|id| id.as_uuid()))
        .bind(page.status.map(impuls_domain::AsyncStatus::as_str))
        .bind(page.since.map(micros))
        .bind(page.until.map(micros))
        .bind(page.before.map(|id| id.as_uuid()))
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset));
    let rows = bounded("listing asynchronous invocations", query.fetch_all(pool)).await?;
    rows.iter().map(|row| async_invocation(&Row(row))).collect()
}

pub(crate) async fn find_async_settings(
    pool: &PgPool,
    function: FunctionId,
) -> Result<Option<AsyncSettings>, StoreError> {
    let query =
        sqlx::query("SELECT * FROM impuls_async_settings WHERE function = $1").bind(function.as_uuid());
    let row = bounded("looking up settings", query.fetch_optional(pool)).await?;
    row.map(|row| settings(&Row(&row))).transpose()
}

pub(crate) async fn list_schedules(pool: &PgPool, function: FunctionId) -> Result<Vec<Schedule>, StoreError> {
    let query = sqlx::query("SELECT * FROM impuls_schedules WHERE function = $1 ORDER BY name COLLATE \"C\"");
    let rows = bounded("listing schedules", query.bind(function.as_uuid()).fetch_all(pool)).await?;
    rows.iter().map(|row| schedule(&Row(row))).collect()
}

pub(crate) async fn due_schedules(
    pool: &PgPool,
    now: OffsetDateTime,
    limit: u32,
) -> Result<Vec<Schedule>, StoreError> {
    let query =
        sqlx::query("SELECT * FROM impuls_schedules WHERE next_tick <= $1 ORDER BY next_tick, id LIMIT $2")
            .bind(micros(now))
            .bind(i64::from(limit));
    let rows = bounded("looking for due schedules", query.fetch_all(pool)).await?;
    rows.iter().map(|row| schedule(&Row(row))).collect()
}
