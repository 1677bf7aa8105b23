//! Asynchronous invocations and schedules.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::InvocationError;

/// An asynchronous invocation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct QueuedInvocation {
    /// Its id.
    pub id: String,
    /// `call`, or `hook` for the delivery of an end.
    pub kind: String,
    /// The function's name; `None` if it is gone.
    pub function: Option<String>,
    /// `queued`, `running`, `succeeded`, `failed`, `timeout`, `cancelled` or `dead`.
    pub status: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// When it was accepted (RFC 3339).
    pub created_at: String,
    /// When the next attempt may begin; only while it is queued.
    pub not_before: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// What the handler returned, byte for byte; never in lists.
    pub result: Option<Box<RawValue>>,
    /// Why it failed, or the last attempt while there are more to come.
    pub error: Option<InvocationError>,
    /// What the last attempt wrote; never in lists.
    pub logs: Option<String>,
}

/// Asynchronous invocations, newest first.
#[derive(Clone, Debug, Deserialize)]
pub struct QueuedList {
    /// The invocations of this page.
    pub items: Vec<QueuedInvocation>,
    /// Where the next page begins; `None` on the last.
    pub next_cursor: Option<String>,
}

/// How many dead letters are driven again.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Redriven {
    /// How many.
    pub redriven: u64,
}

/// When a function shall be called by itself: `cron` or `interval_sec`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScheduleFields {
    /// A cron expression of five fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The time zone whose clock it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The interval, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_sec: Option<u64>,
    /// Which version is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// The event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
    /// Whether it ticks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// When a function is called by itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The cron expression.
    pub cron: Option<String>,
    /// The time zone whose clock it means.
    pub time_zone: Option<String>,
    /// The interval, in seconds.
    pub interval_sec: Option<u64>,
    /// Which version is called.
    pub qualifier: String,
    /// Whether it ticks.
    pub enabled: bool,
    /// The next tick (RFC 3339).
    pub next_tick: Option<String>,
    /// The last tick that became an invocation.
    pub last_tick: Option<String>,
}

/// A function's schedules, by name.
#[derive(Clone, Debug, Deserialize)]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<Schedule>,
}
