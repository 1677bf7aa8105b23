//! Asynchronous invocations.

use impuls_domain::{AsyncInvocation, RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::invocation::{FailureObject, log_text};
use super::timestamp;

/// How an invocation is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RetryPolicy)]
pub struct RetryObject {
    /// How often the function's failure is tried again.
    pub max_retries: u32,
    /// The wait before the first retry, in milliseconds; it doubles from retry to retry.
    pub retry_delay_ms: u64,
    /// The longest wait before any retry, in milliseconds.
    pub max_retry_delay_ms: u64,
    /// How long after it could first have run an attempt may still begin, in milliseconds.
    pub max_age_ms: u64,
    /// Whether what is given up becomes a dead letter.
    pub dead_letter: bool,
}

impl From<&RetryPolicy> for RetryObject {
    fn from(policy: &RetryPolicy) -> Self {
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            max_retries: policy.max_retries(),
            retry_delay_ms: ms(policy.first_wait()),
            max_retry_delay_ms: ms(policy.max_wait()),
            max_age_ms: ms(policy.max_age()),
            dead_letter: policy.dead_letter(),
        }
    }
}

/// What has gone wrong with an invocation, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = InvocationTrouble)]
pub struct TroubleObject {
    /// Failures of the function, or of the hook.
    pub failures: u32,
    /// How often there was no room to run it.
    pub throttled: u32,
    /// How often the platform could not run it.
    pub platform_errors: u32,
    /// How many workers died while they ran it.
    pub worker_deaths: u32,
}

/// An asynchronous invocation.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AsyncInvocation)]
pub struct QueuedObject {
    /// Its id: the request id that the function sees at every attempt.
    pub id: Uuid,
    /// `call`, or `hook` for the delivery of an end to an HTTP hook.
    pub kind: &'static str,
    /// The function's name; absent if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The function's id.
    pub function_id: Uuid,
    /// Which version runs: a number, an alias or `$LATEST`.
    pub qualifier: String,
    /// `queued`, `running`, `succeeded`, `failed`, `timeout`, `cancelled` or `dead`.
    pub status: &'static str,
    /// How many attempts have begun.
    pub attempts: u32,
    /// What has gone wrong so far.
    pub trouble: TroubleObject,
    /// When it was accepted (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the next attempt may begin; only while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub not_before: Option<String>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// How long the last attempt took, in milliseconds; once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// What the handler returned; only of a success, and not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Box<RawValue>>,
    /// Why it failed, or the last attempt while there are more to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FailureObject>,
    /// What the last attempt wrote; once it has ended, and not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// The event; not in lists. What is not JSON is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub event: Option<Box<RawValue>>,
    /// How it is tried again.
    pub retry: RetryObject,
    /// The invocation whose end this one tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Uuid>,
    /// The address of the hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// The key under which it was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl QueuedObject {
    /// The invocation with everything that is known of it.
    #[must_use]
    pub fn whole(invocation: &AsyncInvocation, function: Option<String>) -> Self {
        let end = invocation.completion.as_ref();
        let result = end.and_then(|end| end.result.as_ref().ok());
        Self {
            result: result.map(|bytes| json(bytes)),
            logs: end.map(|end| log_text(&end.logs)),
            event: Some(json(&invocation.event)),
            ..Self::brief(invocation, function)
        }
    }

    /// The invocation without what may be large.
    #[must_use]
    pub fn brief(invocation: &AsyncInvocation, function: Option<String>) -> Self {
        let (tally, end) = (invocation.tally, invocation.completion.as_ref());
        let failure = end.and_then(|end| end.result.as_ref().err()).or(invocation.last_failure.as_ref());
        let is_queued = invocation.status == impuls_domain::AsyncStatus::Queued;
        Self {
            id: invocation.id.as_uuid(),
            kind: if invocation.hook.is_some() { "hook" } else { "call" },
            function,
            function_id: invocation.function.as_uuid(),
            qualifier: invocation.qualifier.to_string(),
            status: invocation.status.as_str(),
            attempts: invocation.attempt,
            trouble: TroubleObject {
                failures: tally.failures,
                throttled: tally.throttled,
                platform_errors: tally.broken,
                worker_deaths: tally.deaths,
            },
            created_at: timestamp(invocation.created_at),
            not_before: is_queued.then(|| timestamp(invocation.not_before)),
            started_at: invocation.started_at.map(timestamp),
            completed_at: end.map(|end| timestamp(end.completed_at)),
            duration_ms: end.map(|end| (end.usage.duration.as_secs_f64() * 1e6).round() / 1e3),
            result: None,
            error: failure.map(Into::into),
            logs: None,
            event: None,
            retry: (&invocation.policy).into(),
            origin: invocation.origin.map(|origin| origin.as_uuid()),
            hook: invocation.hook.as_ref().map(ToString::to_string),
            idempotency_key: invocation.key.clone(),
        }
    }
}

/// Bytes within JSON: as they are if they are JSON, else as a text; none are `null`.
fn json(bytes: &[u8]) -> Box<RawValue> {
    if bytes.is_empty() {
        return Box::default();
    }
    let as_text = || serde_json::value::to_raw_value(&String::from_utf8_lossy(bytes)).unwrap_or_default();
    serde_json::from_slice(bytes).unwrap_or_else(|_| as_text())
}

/// Asynchronous invocations, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueuedList {
    /// The invocations of this page, without events, results and logs.
    pub items: Vec<QueuedObject>,
    /// How many this page has.
    pub count: usize,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// How many dead letters are driven again.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Redriven {
    /// How many.
    pub redriven: u64,
}

/// How invocations shall be tried again; what is absent is as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RetryRequest {
    /// How often the function's failure is tried again: 0 to 10. Default 2.
    pub max_retries: Option<u32>,
    /// The wait before the first retry, in milliseconds: 100 to 86400000. Default 60000.
    pub retry_delay_ms: Option<u64>,
    /// The longest wait before any retry, in milliseconds. Default 3600000.
    pub max_retry_delay_ms: Option<u64>,
    /// How long after it could first have run an attempt may still begin, in milliseconds: 60000 to 604800000. Default
    /// 21600000.
    pub max_age_ms: Option<u64>,
    /// Whether what is given up becomes a dead letter. Default true.
    pub dead_letter: Option<bool>,
}
