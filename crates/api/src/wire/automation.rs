//! Settings of asynchronous invocations, and schedules.

use std::time::Duration;

use impuls_control::{NewAsyncSettings, NewDestination, NewSchedule};
use impuls_domain::{
    AsyncSettings, Cadence, CronRule, Destination, Interval, Qualifier, RetryChange, Schedule, ScheduleName,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::queued::{RetryObject, RetryRequest};
use super::timestamp;
use crate::extract::function;
use crate::problem::Problem;

/// Where an end is told: a function, or an HTTP hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Destination)]
pub struct DestinationObject {
    /// A function's name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Which version of it; the newest if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// The address of a hook, `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl DestinationObject {
    fn into_new(self, member: &'static str) -> Result<NewDestination, Problem> {
        let qualifier = self.qualifier.as_deref().map(str::parse::<Qualifier>).transpose()?;
        match (self.function, self.url) {
            (Some(name), None) => {
                Ok(NewDestination::Function(function(&name)?, qualifier.unwrap_or(Qualifier::Latest)))
            }
            (None, Some(url)) => {
                url.parse().map(NewDestination::Hook).map_err(|error| Problem::invalid(member, error))
            }
            _ => Err(Problem::invalid(member, "give `function` or `url`, one of them")),
        }
    }

    fn of(destination: &Destination, name: impl Fn(impuls_domain::FunctionId) -> Option<String>) -> Self {
        match destination {
            Destination::Hook(url) => Self { function: None, qualifier: None, url: Some(url.to_string()) },
            Destination::Function(id, qualifier) => Self {
                function: Some(name(*id).unwrap_or_else(|| id.to_string())),
                qualifier: Some(qualifier.to_string()),
                url: None,
            },
        }
    }
}

/// How a function's asynchronous invocations shall be handled; what is absent is as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default)]
pub struct AsyncSettingsRequest {
    /// How they are tried again.
    #[serde(flatten)]
    pub retry: RetryRequest,
    /// Where their success is told.
    pub on_success: Option<DestinationObject>,
    /// Where their failure is told, after the last attempt.
    pub on_failure: Option<DestinationObject>,
}

impl AsyncSettingsRequest {
    /// The settings that are asked for.
    pub fn into_new(self) -> Result<NewAsyncSettings, Problem> {
        let retry = RetryChange {
            max_retries: self.retry.max_retries,
            first_wait: self.retry.retry_delay_ms.map(Duration::from_millis),
            max_wait: self.retry.max_retry_delay_ms.map(Duration::from_millis),
            max_age: self.retry.max_age_ms.map(Duration::from_millis),
            dead_letter: self.retry.dead_letter,
        };
        Ok(NewAsyncSettings {
            retry,
            on_success: self.on_success.map(|to| to.into_new("on_success")).transpose()?,
            on_failure: self.on_failure.map(|to| to.into_new("on_failure")).transpose()?,
        })
    }
}

/// How a function's asynchronous invocations are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AsyncSettings)]
pub struct AsyncSettingsObject {
    /// How they are tried again.
    #[serde(flatten)]
    pub retry: RetryObject,
    /// Where their success is told.
    pub on_success: Option<DestinationObject>,
    /// Where their failure is told.
    pub on_failure: Option<DestinationObject>,
}

impl AsyncSettingsObject {
    /// The settings, with the names of functions.
    pub fn new(settings: &AsyncSettings, name: impl Fn(impuls_domain::FunctionId) -> Option<String>) -> Self {
        let told = |destination: &Option<Destination>| {
            destination.as_ref().map(|to| DestinationObject::of(to, &name))
        };
        Self {
            retry: (&settings.policy).into(),
            on_success: told(&settings.destinations.on_success),
            on_failure: told(&settings.destinations.on_failure),
        }
    }
}

/// When a function shall be called by itself: `cron`, or `interval_sec`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct ScheduleRequest {
    /// Its name: 1 to 255 letters, digits, `-` and `_`; only where the path has none.
    pub name: Option<String>,
    /// A cron expression of five fields: minute, hour, day of the month, month, day of the week.
    pub cron: Option<String>,
    /// The IANA name of the time zone whose clock `cron` means. Default `UTC`.
    pub time_zone: Option<String>,
    /// Again and again after so many seconds: 1 to 31622400.
    pub interval_sec: Option<u64>,
    /// Which version is called: a number, an alias or `$LATEST`. Default the newest.
    pub qualifier: Option<String>,
    /// The event, at most 256 KiB; one that names schedule and time if absent.
    #[schema(value_type = Option<serde_json::Value>)]
    pub event: Option<Box<RawValue>>,
    /// Whether it ticks. Default true.
    pub enabled: Option<bool>,
}

impl ScheduleRequest {
    /// The schedule that is asked for, under the name of the path if it has one.
    pub fn into_new(self, path: Option<String>) -> Result<NewSchedule, Problem> {
        let name = path.or(self.name).ok_or_else(|| Problem::invalid("name", "a name is required"))?;
        let name: ScheduleName = name.parse().map_err(|error| Problem::invalid("name", error))?;
        let cadence = match (self.cron, self.interval_sec) {
            (Some(cron), None) => {
                let zone = self.time_zone.as_deref().unwrap_or("UTC");
                CronRule::new(&cron, zone)
                    .map(Cadence::Cron)
                    .map_err(|error| Problem::invalid("cron", error))?
            }
            (None, Some(_)) if self.time_zone.is_some() => {
                return Err(Problem::invalid("time_zone", "an interval has none"));
            }
            (None, Some(seconds)) => Interval::new(Duration::from_secs(seconds))
                .map(Cadence::Every)
                .map_err(|error| Problem::invalid("interval_sec", error))?,
            _ => return Err(Problem::invalid("cron", "give `cron` or `interval_sec`, one of them")),
        };
        let qualifier = self.qualifier.as_deref().map(str::parse).transpose()?;
        Ok(NewSchedule {
            name,
            qualifier: qualifier.unwrap_or(Qualifier::Latest),
            cadence,
            event: self.event.map(|event| event.get().as_bytes().to_vec()),
            enabled: self.enabled.unwrap_or(true),
        })
    }
}

/// When a function is called by itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleObject {
    /// Its name.
    pub name: String,
    /// The cron expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The time zone whose clock it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The interval, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_sec: Option<u64>,
    /// Which version is called.
    pub qualifier: String,
    /// The event; absent for one that names schedule and time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub event: Option<Box<RawValue>>,
    /// Whether it ticks.
    pub enabled: bool,
    /// The next tick (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub next_tick: Option<String>,
    /// The last tick that became an invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_tick: Option<String>,
    /// When it was last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&Schedule> for ScheduleObject {
    fn from(schedule: &Schedule) -> Self {
        let rule = match &schedule.cadence {
            Cadence::Cron(rule) => Some(rule),
            Cadence::Every(_) => None,
        };
        let interval = match &schedule.cadence {
            Cadence::Every(interval) => Some(interval.length().as_secs()),
            Cadence::Cron(_) => None,
        };
        Self {
            name: schedule.name.to_string(),
            cron: rule.map(|rule| rule.expression().to_owned()),
            time_zone: rule.map(|rule| rule.time_zone().to_owned()),
            interval_sec: interval,
            qualifier: schedule.qualifier.to_string(),
            event: schedule.event.as_ref().and_then(|event| serde_json::from_slice(event).ok()),
            enabled: schedule.enabled,
            next_tick: schedule.next_tick.map(timestamp),
            last_tick: schedule.last_tick.map(timestamp),
            updated_at: timestamp(schedule.updated_at),
        }
    }
}

/// A function's schedules, by name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<ScheduleObject>,
    /// How many there are.
    pub count: usize,
}
