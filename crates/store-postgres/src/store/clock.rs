//! The clock of the database server.

use async_trait::async_trait;
use impuls_store::rows::instant_of;
use impuls_store::{ClockStore, StoreError};
use time::{Duration, OffsetDateTime};

use super::PostgresStore;
use crate::transaction::bounded;

#[async_trait]
impl ClockStore for PostgresStore {
    async fn now(&self) -> Result<OffsetDateTime, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros",
        );
        let micros = bounded("reading the clock", query.fetch_one(&self.pool)).await?;
        instant_of(micros, "micros")
    }

    async fn clock_was_set(&self, _by: Duration) -> Result<(), StoreError> {
        Ok(())
    }
}
