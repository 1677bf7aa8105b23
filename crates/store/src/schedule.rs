//! Schedules.

use async_trait::async_trait;
use impuls_domain::{AsyncInvocation, FunctionId, Schedule, ScheduleId};
use time::OffsetDateTime;

use crate::error::StoreError;

/// One tick that is due, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The tick; the schedule's `next_tick` as it was read.
    pub at: OffsetDateTime,
    /// The tick after it.
    pub next: Option<OffsetDateTime>,
    /// The invocation that belongs to it.
    pub invocation: AsyncInvocation,
}

/// Where schedules are kept. What returned `Ok` is durable. Every call is atomic and may be dropped half-way: it then
/// either happened or did not. A schedule goes with its function.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Adds a schedule, or replaces that of the same function and name, whose id is then the new one's.
    /// [`StoreError::NotFound`] if the function does not exist, [`StoreError::Full`] if it has
    /// [`SCHEDULES_PER_FUNCTION`](impuls_domain::schedule::SCHEDULES_PER_FUNCTION) others. Repeatable.
    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), StoreError>;

    /// A function's schedules by name; at most [`SCHEDULES_PER_FUNCTION`](impuls_domain::schedule::SCHEDULES_PER_FUNCTION).
    async fn list_schedules(&self, function: FunctionId) -> Result<Vec<Schedule>, StoreError>;

    /// Removes a schedule; false if there was none. What it has enqueued stays. Repeatable.
    async fn delete_schedule(&self, id: ScheduleId) -> Result<bool, StoreError>;

    /// Schedules whose next tick is not after `now`, the longest due first, at most `limit`.
    async fn due_schedules(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<Schedule>, StoreError>;

    /// Moves a schedule on to its next tick and, in the same commit, adds the invocation unless one with its id exists.
    /// False if the schedule is gone or does not wait for that tick any more, and then nothing has changed: of several
    /// servers one wins. Not repeatable: false the second time.
    async fn fire(&self, tick: &Tick) -> Result<bool, StoreError>;
}
