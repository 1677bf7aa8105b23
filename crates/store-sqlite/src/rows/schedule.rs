//! Schedules.

use std::time::Duration;

use impuls_domain::{Cadence, CronRule, FunctionId, Interval, Schedule, ScheduleId};
use impuls_store::StoreError;
use sqlx::sqlite::SqliteRow;

use super::{Fields, Key, damaged, instant, micros, saturate};

/// A row of `schedules`.
#[derive(Debug)]
pub(crate) struct ScheduleRow {
    pub(crate) id: Key,
    pub(crate) function: Key,
    pub(crate) name: String,
    pub(crate) qualifier: String,
    pub(crate) interval_ms: Option<i64>,
    /// Expression and time zone.
    pub(crate) cron: Option<(String, String)>,
    pub(crate) event: Option<Vec<u8>>,
    pub(crate) enabled: bool,
    pub(crate) next_tick: Option<i64>,
    pub(crate) last_tick: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl ScheduleRow {
    pub(crate) fn from_domain(schedule: &Schedule) -> Self {
        let (interval_ms, cron) = match &schedule.cadence {
            Cadence::Every(interval) => (Some(saturate(interval.length().as_millis())), None),
            Cadence::Cron(rule) => (None, Some((rule.expression().to_owned(), rule.time_zone().to_owned()))),
        };
        Self {
            id: *schedule.id.as_uuid().as_bytes(),
            function: *schedule.function.as_uuid().as_bytes(),
            name: schedule.name.as_str().to_owned(),
            qualifier: schedule.qualifier.to_string(),
            interval_ms,
            cron,
            event: schedule.event.clone(),
            enabled: schedule.enabled,
            next_tick: schedule.next_tick.map(micros),
            last_tick: schedule.last_tick.map(micros),
            created_at: micros(schedule.created_at),
            updated_at: micros(schedule.updated_at),
        }
    }
}

/// A schedule, from a row of `schedules`.
pub(crate) fn schedule(row: &SqliteRow) -> Result<Schedule, StoreError> {
    let fields = Fields(row);
    let optional = |column: &str| -> Result<_, StoreError> {
        let micros: Option<i64> = fields.plain(column)?;
        micros.map(instant).transpose().map_err(|error| damaged(column, error))
    };
    let cadence = match fields.optional_number("interval_ms")? {
        Some(interval) => Interval::new(Duration::from_millis(interval)).map(Cadence::Every),
        None => CronRule::new(fields.plain("expression")?, fields.plain("time_zone")?).map(Cadence::Cron),
    };
    let cadence = cadence.map_err(|error| damaged("expression", error))?;
    Ok(Schedule {
        id: ScheduleId::from_uuid(fields.uuid("id")?),
        function: FunctionId::from_uuid(fields.uuid("function")?),
        name: fields.parse("name")?,
        qualifier: fields.parse("qualifier")?,
        cadence,
        event: fields.plain("event")?,
        enabled: fields.plain("enabled")?,
        next_tick: optional("next_tick")?,
        last_tick: optional("last_tick")?,
        created_at: fields.instant("created_at")?,
        updated_at: fields.instant("updated_at")?,
    })
}
