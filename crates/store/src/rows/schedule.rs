//! Schedules.

use std::time::Duration;

use impuls_domain::{Cadence, CronRule, FunctionId, Interval, Schedule, ScheduleId};

use super::{Columns, Fields, Key, damaged, micros, saturate};
use crate::error::StoreError;

/// A row of `schedules`.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct ScheduleRow {
    pub id: Key,
    pub function: Key,
    pub name: String,
    pub qualifier: String,
    pub interval_ms: Option<i64>,
    /// Expression and time zone.
    pub cron: Option<(String, String)>,
    pub event: Option<Vec<u8>>,
    pub enabled: bool,
    pub next_tick: Option<i64>,
    pub last_tick: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
}

impl ScheduleRow {
    /// The row of what is stored.
    #[must_use]
    pub fn from_domain(schedule: &Schedule) -> Self {
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
pub fn schedule(row: &dyn Columns) -> Result<Schedule, StoreError> {
    let fields = Fields(row);
    let cadence = match fields.optional_number("interval_ms")? {
        Some(interval) => Interval::new(Duration::from_millis(interval)).map(Cadence::Every),
        None => CronRule::new(&fields.text("expression")?, &fields.text("time_zone")?).map(Cadence::Cron),
    };
    let cadence = cadence.map_err(|error| damaged("expression", error))?;
    Ok(Schedule {
        id: ScheduleId::from_uuid(fields.uuid("id")?),
        function: FunctionId::from_uuid(fields.uuid("function")?),
        name: fields.parse("name")?,
        qualifier: fields.parse("qualifier")?,
        cadence,
        event: fields.optional_bytes("event")?.map(<[u8]>::to_vec),
        enabled: fields.integer("enabled")? != 0,
        next_tick: fields.optional_instant("next_tick")?,
        last_tick: fields.optional_instant("last_tick")?,
        created_at: fields.instant("created_at")?,
        updated_at: fields.instant("updated_at")?,
    })
}
