//! Changes of schedules.

use async_trait::async_trait;
use impuls_domain::schedule::SCHEDULES_PER_FUNCTION;
use impuls_store::StoreError;
use impuls_store::rows::{AsyncRow, ScheduleRow};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Enqueue;
use crate::row::{keep, uuid};
use crate::transaction::{Change, Refusal};

/// A schedule that is added, or takes the place of its namesake.
pub(crate) struct PutSchedule(pub(crate) ScheduleRow);

/// A schedule that goes.
pub(crate) struct DeleteSchedule(pub(crate) Uuid);

/// A tick that is due.
pub(crate) struct Fire {
    pub(crate) schedule: Uuid,
    pub(crate) at: i64,
    pub(crate) next: Option<i64>,
    pub(crate) invocation: AsyncRow,
}

#[async_trait]
impl Change for PutSchedule {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let row = &self.0;
        // Whoever counts the same function's schedules waits here.
        let function: Option<Uuid> =
            sqlx::query_scalar("SELECT id FROM impuls_functions WHERE id = $1 FOR NO KEY UPDATE")
                .bind(uuid(&row.function))
                .fetch_optional(&mut *connection)
                .await?;
        let function = function.ok_or(StoreError::NotFound)?;
        let others: i64 =
            sqlx::query_scalar("SELECT count(*) FROM impuls_schedules WHERE function = $1 AND name <> $2")
                .bind(function)
                .bind(&row.name)
                .fetch_one(&mut *connection)
                .await?;
        if others >= SCHEDULES_PER_FUNCTION as i64 {
            return Err(Refusal::Store(StoreError::Full));
        }
        sqlx::query("DELETE FROM impuls_schedules WHERE function = $1 AND name = $2")
            .bind(function)
            .bind(&row.name)
            .execute(&mut *connection)
            .await?;
        insert(connection, row).await
    }
}

async fn insert(connection: &mut PgConnection, row: &ScheduleRow) -> Result<(), Refusal> {
    let (expression, time_zone) = row.cron.as_ref().map(|(text, zone)| (keep(text), keep(zone))).unzip();
    sqlx::query(
        "INSERT INTO impuls_schedules (id, function, name, qualifier, interval_ms, expression, time_zone, enabled, \
         next_tick, last_tick, created_at, updated_at, event) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(uuid(&row.id))
    .bind(uuid(&row.function))
    .bind(&row.name)
    .bind(keep(&row.qualifier))
    .bind(row.interval_ms)
    .bind(expression)
    .bind(time_zone)
    .bind(i64::from(row.enabled))
    .bind(row.next_tick)
    .bind(row.last_tick)
    .bind(row.created_at)
    .bind(row.updated_at)
    .bind(row.event.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl Change for DeleteSchedule {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let query = sqlx::query("DELETE FROM impuls_schedules WHERE id = $1").bind(self.0);
        Ok(query.execute(connection).await?.rows_affected() > 0)
    }
}

#[async_trait]
impl Change for Fire {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let moved = sqlx::query(
            "UPDATE impuls_schedules SET last_tick = $2, next_tick = $3 WHERE id = $1 AND next_tick = $2",
        )
        .bind(self.schedule)
        .bind(self.at)
        .bind(self.next)
        .execute(&mut *connection)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        Enqueue(&self.invocation).make(connection).await.map(|_added| true)
    }
}
