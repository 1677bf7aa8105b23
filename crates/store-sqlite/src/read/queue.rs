//! Queries of asynchronous invocations and schedules.

use std::collections::HashSet;

use impuls_domain::{AsyncInvocation, AsyncSettings, FunctionId, InvocationId, Schedule};
use impuls_store::rows::{Key, async_invocation, brief_columns, micros, schedule, settings};
use impuls_store::{AsyncInvocationPage, StoreError};
use sqlx::{Row as _, SqlitePool};
use time::OffsetDateTime;

use crate::error::query_failed;
use crate::row::Row;

/// What one claim took.
pub(crate) async fn claimed(readers: &SqlitePool, claim: Key) -> Result<Vec<AsyncInvocation>, StoreError> {
    let query = "SELECT * FROM async_invocations WHERE claim = ?1 AND status = 'running' ORDER BY id";
    let rows = sqlx::query(query).bind(claim.to_vec()).fetch_all(readers).await;
    let rows = rows.map_err(query_failed("reading claimed invocations"))?;
    let readable = |row| match async_invocation(&Row(row)) {
        Ok(invocation) => Some(invocation),
        Err(error) => {
            // The others are not to wait for it.
            tracing::error!(error = &error as &dyn std::error::Error, "an invocation cannot be read");
            None
        }
    };
    Ok(rows.iter().filter_map(readable).collect())
}

/// Those of these attempts that are not running any more.
pub(crate) async fn lost(
    readers: &SqlitePool,
    attempts: &[(InvocationId, u32)],
) -> Result<Vec<InvocationId>, StoreError> {
    let failed = query_failed("looking for lost leases");
    let query = sqlx::query("SELECT id, attempt FROM async_invocations WHERE status = 'running'");
    let mut running = HashSet::new();
    for row in query.fetch_all(readers).await.map_err(&failed)? {
        let id: Vec<u8> = row.try_get("id").map_err(&failed)?;
        running.insert((id, row.try_get::<u32, _>("attempt").map_err(&failed)?));
    }
    let is_lost = |(id, attempt): &&(InvocationId, u32)| {
        !running.contains(&(id.as_uuid().as_bytes().to_vec(), *attempt))
    };
    Ok(attempts.iter().filter(is_lost).map(|(id, _)| *id).collect())
}

pub(crate) async fn find_async_invocation(
    readers: &SqlitePool,
    id: InvocationId,
) -> Result<Option<AsyncInvocation>, StoreError> {
    let query = sqlx::query("SELECT * FROM async_invocations WHERE id = ?1");
    let row = query.bind(id.as_uuid().as_bytes().to_vec()).fetch_optional(readers).await;
    row.map_err(query_failed("looking up an asynchronous invocation"))?
        .as_ref()
        .map(|row| async_invocation(&Row(row)))
        .transpose()
}

pub(crate) async fn find_by_key(
    readers: &SqlitePool,
    function: FunctionId,
    key: &str,
) -> Result<Option<AsyncInvocation>, StoreError> {
    let query = sqlx::query("SELECT * FROM async_invocations WHERE function = ?1 AND idempotency_key = ?2");
    let query = query.bind(function.as_uuid().as_bytes().to_vec()).bind(key);
    let row = query.fetch_optional(readers).await;
    row.map_err(query_failed("looking up an idempotency key"))?
        .as_ref()
        .map(|row| async_invocation(&Row(row)))
        .transpose()
}

const PAGE: &str = "(?2 IS NULL OR status = ?2) AND (?3 IS NULL OR created_at >= ?3) \
     AND (?4 IS NULL OR created_at < ?4) AND (?5 IS NULL OR id < ?5) ORDER BY id DESC LIMIT ?6 OFFSET ?7";

pub(crate) async fn list_async_invocations(
    readers: &SqlitePool,
    page: AsyncInvocationPage,
) -> Result<Vec<AsyncInvocation>, StoreError> {
    // Apart, so that each takes the index that it needs.
    let whose = if page.function.is_some() { "function = ?1" } else { "?1 IS NULL" };
    let columns = if page.is_brief { brief_columns("x''") } else { "*".to_owned() };
    let statement = format!("SELECT {columns} FROM async_invocations WHERE {whose} AND {PAGE}");
    let query = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(page.function.map(|id| id.as_uuid().as_bytes().to_vec()))
        .bind(page.status.map(impuls_domain::AsyncStatus::as_str))
        .bind(page.since.map(micros))
        .bind(page.until.map(micros))
        .bind(page.before.map(|id| id.as_uuid().as_bytes().to_vec()))
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset));
    let rows = query.fetch_all(readers).await.map_err(query_failed("listing asynchronous invocations"))?;
    rows.iter().map(|row| async_invocation(&Row(row))).collect()
}

pub(crate) async fn find_async_settings(
    readers: &SqlitePool,
    function: FunctionId,
) -> Result<Option<AsyncSettings>, StoreError> {
    let query = sqlx::query("SELECT * FROM async_settings WHERE function = ?1");
    let row = query.bind(function.as_uuid().as_bytes().to_vec()).fetch_optional(readers).await;
    row.map_err(query_failed("looking up settings"))?.as_ref().map(|row| settings(&Row(row))).transpose()
}

pub(crate) async fn list_schedules(
    readers: &SqlitePool,
    function: FunctionId,
) -> Result<Vec<Schedule>, StoreError> {
    let query = sqlx::query("SELECT * FROM schedules WHERE function = ?1 ORDER BY name");
    let rows = query.bind(function.as_uuid().as_bytes().to_vec()).fetch_all(readers).await;
    rows.map_err(query_failed("listing schedules"))?.iter().map(|row| schedule(&Row(row))).collect()
}

pub(crate) async fn due_schedules(
    readers: &SqlitePool,
    now: OffsetDateTime,
    limit: u32,
) -> Result<Vec<Schedule>, StoreError> {
    let query = sqlx::query("SELECT * FROM schedules WHERE next_tick <= ?1 ORDER BY next_tick, id LIMIT ?2");
    let rows = query.bind(micros(now)).bind(limit).fetch_all(readers).await;
    rows.map_err(query_failed("looking for due schedules"))?.iter().map(|row| schedule(&Row(row))).collect()
}
