//! The clock that everybody goes by who shares the rows of a store.

use async_trait::async_trait;
use time::{Duration, OffsetDateTime};

use crate::error::StoreError;

/// What time it is, for leases, delays and ticks of schedules: the instants by which servers decide together who does what.
#[async_trait]
pub trait ClockStore: Send + Sync + 'static {
    /// The time now, to the microsecond. Where several servers share the store it is the store's, so that nobody's clock has to be
    /// right; a store that one server has for itself has that server's.
    async fn now(&self) -> Result<OffsetDateTime, StoreError>;

    /// Says that the clock was set: forward by so much, or back if that is negative. A store that one server has for itself
    /// moves along when everything that waits was accepted and may be claimed, and when leases end; to be called when
    /// nobody else gives it instants of the clock as it was. Where several servers share the store nothing happens: none of
    /// them may speak for the others. Not repeatable.
    async fn clock_was_set(&self, by: Duration) -> Result<(), StoreError>;
}
