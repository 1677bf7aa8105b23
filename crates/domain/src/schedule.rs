//! Rules by which a function is called at certain times.

use time::OffsetDateTime;

use crate::cadence::Cadence;
use crate::id::{FunctionId, ScheduleId};
use crate::name::ScheduleName;
use crate::qualifier::Qualifier;

/// Schedules that one function may have.
pub const SCHEDULES_PER_FUNCTION: usize = 100;

/// A rule by which a function is called at certain times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its key; another one whenever a schedule of that name is made anew.
    pub id: ScheduleId,
    /// The function that is called.
    pub function: FunctionId,
    /// Unique within the function.
    pub name: ScheduleName,
    /// Which revision is called, decided anew at every tick.
    pub qualifier: Qualifier,
    /// When.
    pub cadence: Cadence,
    /// The event; `None` for one that tells the schedule's name and the tick.
    pub event: Option<Vec<u8>>,
    /// Whether it ticks at all.
    pub enabled: bool,
    /// The next tick; `None` if it is not enabled, or will never tick again.
    pub next_tick: Option<OffsetDateTime>,
    /// The last tick that was made an invocation.
    pub last_tick: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}
