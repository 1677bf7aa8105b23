//! Records of invocations, and log text.

use impuls_domain::{Failure, Invocation, LogLevel, Logs};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::timestamp;

/// What a function wrote, as one text: every line, those of `console` with their level in front (`[INFO] …`), then
/// how much was cut, if any was.
#[must_use]
pub fn log_text(logs: &Logs) -> String {
    let lines = logs.lines();
    let length = lines.iter().map(|line| line.text.len() + 10).sum();
    let mut text = String::with_capacity(length);
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(level_mark(line.level));
        text.push_str(&line.text);
    }
    if logs.dropped_bytes() > 0 {
        text.push_str(&format!("\n[{} bytes of logs were cut]", logs.dropped_bytes()));
    }
    text
}

/// What the first Impuls wrote in front of a line of `console`; what was written to a stream stands as it is.
const fn level_mark(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Stdout | LogLevel::Stderr => "",
        LogLevel::Debug => "[DEBUG] ",
        LogLevel::Info => "[INFO] ",
        LogLevel::Warn => "[WARN] ",
        LogLevel::Error => "[ERROR] ",
    }
}

/// Why an invocation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = InvocationError)]
pub struct FailureObject {
    /// `FunctionError`, `InitError`, `Timeout`, `OutOfMemory`, `Exited` or `BadResponse`; of an asynchronous invocation
    /// also `PlatformError`, `HookError` or `Cancelled`.
    #[serde(rename = "type")]
    pub error_type: &'static str,
    /// The language's own name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// One sentence for a person.
    pub message: String,
    /// The language's stack trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

impl From<&Failure> for FailureObject {
    fn from(failure: &Failure) -> Self {
        Self {
            error_type: failure.error_type.as_str(),
            class: Some(failure.class.clone()).filter(|class| !class.is_empty()),
            message: failure.message.clone(),
            stack: failure.stack.clone(),
        }
    }
}

/// The record of one invocation.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Invocation)]
pub struct InvocationObject {
    /// The request id that the function saw.
    pub id: Uuid,
    /// `succeeded`, `failed`, `timeout` or `cancelled`.
    pub status: &'static str,
    /// The version that ran.
    pub version: u64,
    /// The deploy that ran.
    pub revision_id: Uuid,
    /// When it was admitted (RFC 3339).
    #[schema(format = DateTime)]
    pub started_at: String,
    /// How long the handler took, in milliseconds.
    pub duration_ms: f64,
    /// How long a sandbox took to start, in milliseconds; absent for a warm call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_ms: Option<f64>,
    /// The sandbox's memory limit, in MiB.
    pub memory_mb: u32,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FailureObject>,
    /// What it wrote; at most 1 MiB, marked at its end when cut.
    pub logs: String,
    /// Bytes of logs that were cut.
    #[serde(skip_serializing_if = "is_zero")]
    pub logs_dropped_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes every member by reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<&Invocation> for InvocationObject {
    fn from(record: &Invocation) -> Self {
        let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let usage = &record.usage;
        Self {
            id: record.id.as_uuid(),
            status: record.status.as_str(),
            version: record.version.get(),
            revision_id: record.revision.as_uuid(),
            started_at: timestamp(record.started_at),
            duration_ms: milliseconds(usage.duration),
            init_ms: Some(usage.init_duration).filter(|time| !time.is_zero()).map(milliseconds),
            memory_mb: usage.memory_mib,
            error: record.failure.as_ref().map(Into::into),
            logs: log_text(&record.logs),
            logs_dropped_bytes: record.logs.dropped_bytes(),
        }
    }
}

/// Records of invocations, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InvocationList {
    /// The records of this page.
    pub items: Vec<InvocationObject>,
    /// How many this page has.
    pub count: usize,
}

/// The reply to a call, whether the function succeeded or failed.
#[derive(ToSchema)]
#[schema(as = InvokeReply)]
#[expect(dead_code, reason = "describes what the hot path writes by hand")]
pub(crate) struct InvokeReply {
    /// The HTTP status of this reply: 200, 504 after a timeout, else 500.
    status_code: u16,
    /// What the handler returned; `null` after a failure.
    body: serde_json::Value,
    /// How long the handler took, in milliseconds; the header `X-Impuls-Duration` is more exact.
    duration_ms: u64,
    /// The request id that the function saw.
    request_id: Uuid,
    /// The version that ran.
    version: u64,
    /// What it wrote; at most 1 MiB, marked at its end when cut; absent when it wrote nothing.
    logs: Option<String>,
    /// Why it failed, for a person.
    error: Option<String>,
    /// `FunctionError`, `InitError`, `Timeout`, `OutOfMemory`, `Exited` or `BadResponse`.
    error_type: Option<String>,
    /// The language's own name of the error.
    error_class: Option<String>,
    /// The language's stack trace.
    stack: Option<String>,
}
