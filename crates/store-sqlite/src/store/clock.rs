//! The clock of the one server that has the file.

use async_trait::async_trait;
use impuls_store::{ClockStore, StoreError};
use time::{Duration, OffsetDateTime};

use super::SqliteStore;
use crate::writer::AsyncWork;

#[async_trait]
impl ClockStore for SqliteStore {
    async fn now(&self) -> Result<OffsetDateTime, StoreError> {
        let now = OffsetDateTime::now_utc();
        Ok(now.replace_microsecond(now.microsecond()).unwrap_or(now))
    }

    async fn clock_was_set(&self, by: Duration) -> Result<(), StoreError> {
        let by = i64::try_from(by.whole_microseconds()).unwrap_or(i64::MAX);
        self.change(AsyncWork::MoveAlong(by), "moving what waits along with the clock").await.map(drop)
    }
}
