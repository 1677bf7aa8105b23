//! What `invocations` and `schedules` take, and `invoke --async`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::parsers::duration;

/// What `invoke` takes with `--async`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AsyncArgs {
    /// Do not wait for the result: have the call accepted, and print its id.
    #[arg(long = "async", conflicts_with = "raw")]
    pub is_async: bool,
    /// Run it only after this time, such as 10m; at most 168h.
    #[arg(long, value_name = "TIME", requires = "is_async", value_parser = duration)]
    pub delay: Option<Duration>,
    /// Time for one attempt [default: the function's].
    #[arg(long, value_name = "TIME", requires = "is_async", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// How often a failure is tried again [default: the function's].
    #[arg(long, value_name = "N", requires = "is_async")]
    pub max_retries: Option<u32>,
    /// The wait before the first retry; it doubles from retry to retry [default: the function's].
    #[arg(long, value_name = "TIME", requires = "is_async", value_parser = duration)]
    pub retry_delay: Option<Duration>,
    /// Calling again with the same key returns the first call.
    #[arg(long, value_name = "KEY", requires = "is_async")]
    pub idempotency_key: Option<String>,
}

/// What `invocations` takes.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum InvocationsCommand {
    /// List asynchronous calls, the newest first.
    List(InvocationsArgs),
    /// Show one, with its result.
    Get {
        /// The call's id.
        id: String,
        /// Wait for its end, but at most so long; at most 60s.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        wait: Option<Duration>,
    },
    /// End one that waits or runs.
    Cancel {
        /// The call's id.
        id: String,
    },
    /// Drive a dead letter again, or all of a function.
    Redrive {
        /// The call's id.
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All dead letters of this function.
        #[arg(long, value_name = "FUNCTION", conflicts_with = "id")]
        all: Option<String>,
    },
}

/// Which calls to list.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationsArgs {
    /// Only this function's.
    pub function: Option<String>,
    /// Only those that are queued, running, succeeded, failed, timeout, cancelled or dead.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only those accepted at this time or later, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only those accepted before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// The most to list.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Go on where an earlier list ended.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// What `schedules` takes.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SchedulesCommand {
    /// Make a schedule, or replace the one of that name.
    Set(ScheduleArgs),
    /// List the schedules of a function.
    List {
        /// The function's name.
        name: String,
    },
    /// Show one schedule.
    Get {
        /// The function's name.
        name: String,
        /// The schedule.
        schedule: String,
    },
    /// Delete a schedule; what it has called stays.
    Delete {
        /// The function's name.
        name: String,
        /// The schedule.
        schedule: String,
    },
}

/// A schedule.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleArgs {
    /// The function's name.
    pub name: String,
    /// The schedule.
    pub schedule: String,
    /// A cron expression: minute, hour, day of the month, month, day of the week, such as '0 9 * * MON-FRI'.
    #[arg(long, value_name = "EXPRESSION", required_unless_present = "every", conflicts_with = "every")]
    pub cron: Option<String>,
    /// The time zone whose clock --cron means, such as Europe/Berlin [default: UTC].
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub time_zone: Option<String>,
    /// Call it again and again after this time, in whole seconds, such as 30s or 1h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub every: Option<Duration>,
    /// The event: JSON, or @FILE [default: one that names schedule and time].
    #[arg(long, short, value_name = "JSON|@FILE")]
    pub data: Option<String>,
    /// A version or an alias [default: the newest].
    #[arg(long, short, value_name = "QUALIFIER")]
    pub qualifier: Option<String>,
    /// Keep it, but do not call anything.
    #[arg(long)]
    pub disabled: bool,
}
