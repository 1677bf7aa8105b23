//! Changes of schedules.

use impuls_domain::schedule::SCHEDULES_PER_FUNCTION;
use impuls_store::StoreError;
use impuls_store::rows::{AsyncRow, Key, ScheduleRow};
use sqlx::SqliteConnection;

use super::{Refusal, async_invocations};
use crate::error::is_foreign_key_violation;

/// A tick that is due.
#[derive(Debug)]
pub(crate) struct TickRow {
    pub(crate) schedule: Key,
    pub(crate) at: i64,
    pub(crate) next: Option<i64>,
    pub(crate) invocation: AsyncRow,
}

/// A change of schedules.
#[derive(Debug)]
pub(crate) enum ScheduleWork {
    Put(ScheduleRow),
    Delete(Key),
    Fire(TickRow),
}

/// Makes one change; true if there was anything to change.
pub(super) async fn apply(connection: &mut SqliteConnection, work: &ScheduleWork) -> Result<bool, Refusal> {
    match work {
        ScheduleWork::Put(row) => put(connection, row).await,
        ScheduleWork::Delete(id) => {
            let query = sqlx::query("DELETE FROM schedules WHERE id = ?").bind(id.to_vec());
            Ok(query.execute(connection).await?.rows_affected() > 0)
        }
        ScheduleWork::Fire(row) => fire(connection, row).await,
    }
}

async fn put(connection: &mut SqliteConnection, row: &ScheduleRow) -> Result<bool, Refusal> {
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM schedules WHERE function = ? AND name <> ?")
        .bind(row.function.to_vec())
        .bind(&row.name)
        .fetch_one(&mut *connection)
        .await?;
    if others >= SCHEDULES_PER_FUNCTION as i64 {
        return Err(Refusal::Store(StoreError::Full));
    }
    sqlx::query("DELETE FROM schedules WHERE function = ? AND name = ?")
        .bind(row.function.to_vec())
        .bind(&row.name)
        .execute(&mut *connection)
        .await?;
    let (expression, time_zone) = row.cron.as_ref().map(|(text, zone)| (text, zone)).unzip();
    let added = sqlx::query(
        "INSERT INTO schedules (id, function, name, qualifier, interval_ms, expression, time_zone, enabled, \
         next_tick, last_tick, created_at, updated_at, event) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.id.to_vec())
    .bind(row.function.to_vec())
    .bind(&row.name)
    .bind(&row.qualifier)
    .bind(row.interval_ms)
    .bind(expression)
    .bind(time_zone)
    .bind(row.enabled)
    .bind(row.next_tick)
    .bind(row.last_tick)
    .bind(row.created_at)
    .bind(row.updated_at)
    .bind(row.event.as_ref())
    .execute(connection)
    .await
    .map_err(|error| {
        if is_foreign_key_violation(&error) { Refusal::Store(StoreError::NotFound) } else { error.into() }
    })?;
    Ok(added.rows_affected() > 0)
}

async fn fire(connection: &mut SqliteConnection, row: &TickRow) -> Result<bool, Refusal> {
    let moved =
        sqlx::query("UPDATE schedules SET last_tick = ?2, next_tick = ?3 WHERE id = ?1 AND next_tick = ?2")
            .bind(row.schedule.to_vec())
            .bind(row.at)
            .bind(row.next)
            .execute(&mut *connection)
            .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    async_invocations::enqueue(connection, &row.invocation).await.map(|_added| true)
}
