//! Invocations: the reply to a call, and the record of a past one.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The reply to a call.
#[derive(Clone, Debug, Deserialize)]
pub struct Envelope {
    /// 200, or the status of the failure.
    pub status_code: u16,
    /// The handler's result, byte for byte; `None` is `null`.
    #[serde(default)]
    pub body: Option<Box<RawValue>>,
    /// How long the handler took, in milliseconds. [`Client::invoke`](crate::Client::invoke) takes it from the
    /// header `X-Impuls-Duration`, which has decimals that the body has not.
    #[serde(default)]
    pub duration_ms: f64,
    /// What the function wrote meanwhile.
    #[serde(default)]
    pub logs: Option<String>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Whose fault the failure is: `FunctionError`, `InitError`, `Timeout`, `OutOfMemory`, `Exited`, `BadResponse`.
    #[serde(default)]
    pub error_type: Option<String>,
    /// The language's own name of the error, such as `TypeError`.
    #[serde(default)]
    pub error_class: Option<String>,
    /// The language's stack trace.
    #[serde(default)]
    pub stack: Option<String>,
    /// The invocation's id.
    #[serde(default)]
    pub request_id: String,
    /// The version that ran.
    #[serde(default)]
    pub version: Option<u64>,
}

/// The record of a past invocation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InvocationRecord {
    /// The invocation's id.
    pub id: String,
    /// How it ended: `succeeded`, `failed`, `timeout` or `cancelled`.
    pub status: String,
    /// The version that ran.
    pub version: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// How long the sandbox took to load the code, in milliseconds, if this call started one.
    pub init_ms: Option<f64>,
    /// Why it failed.
    pub error: Option<InvocationError>,
    /// What the function wrote meanwhile.
    pub logs: String,
    /// When it started (RFC 3339).
    pub started_at: String,
}

/// Why an invocation failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InvocationError {
    /// Whose fault it is, as in [`Envelope::error_type`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The language's own name of the error.
    pub class: Option<String>,
    /// One sentence for a person.
    pub message: String,
    /// The language's stack trace.
    pub stack: Option<String>,
}

/// Past invocations, newest first.
#[derive(Clone, Debug, Deserialize)]
pub struct LogList {
    /// The invocations.
    pub items: Vec<InvocationRecord>,
}
