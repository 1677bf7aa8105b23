//! Asynchronous invocations.

use std::time::Duration;

use impuls_domain::{AsyncInvocation, AsyncStatus, Completion, Failure, FunctionId, InvocationId, Usage};

use super::invocation::failure;
use super::{Columns, Fields, Key, damaged, logs, micros, saturate};
use crate::error::StoreError;

/// A row of `async_invocations` as it is accepted.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct AsyncRow {
    pub id: Key,
    pub function: Key,
    pub qualifier: String,
    pub status: &'static str,
    pub attempt: u32,
    pub due: i64,
    pub timeout_ms: Option<i64>,
    pub created_at: i64,
    pub context: Vec<u8>,
    pub event: Vec<u8>,
}

impl AsyncRow {
    /// The row of an invocation that is accepted.
    #[must_use]
    pub fn from_domain(invocation: &AsyncInvocation) -> Self {
        Self {
            id: *invocation.id.as_uuid().as_bytes(),
            function: *invocation.function.as_uuid().as_bytes(),
            qualifier: invocation.qualifier.to_string(),
            status: invocation.status.as_str(),
            attempt: invocation.attempt,
            due: micros(invocation.not_before),
            timeout_ms: invocation.timeout.map(|timeout| saturate(timeout.as_millis())),
            created_at: micros(invocation.created_at),
            context: invocation.context.clone(),
            event: invocation.event.clone(),
        }
    }
}

/// How an invocation ended, as columns.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct CompletionRow {
    pub status: &'static str,
    pub completed_at: i64,
    pub failure: Option<Failure>,
    pub usage: [i64; 3],
    pub log_dropped: i64,
    pub logs: Option<Vec<u8>>,
    pub result: Option<Vec<u8>>,
}

impl CompletionRow {
    /// The columns of an end.
    #[must_use]
    pub fn from_domain(completion: &Completion) -> Self {
        let usage = &completion.usage;
        Self {
            status: completion.status().as_str(),
            completed_at: micros(completion.completed_at),
            failure: completion.result.as_ref().err().cloned(),
            usage: [
                saturate(usage.duration.as_nanos()),
                saturate(usage.init_duration.as_nanos()),
                i64::from(usage.memory_mib),
            ],
            log_dropped: saturate(completion.logs.dropped_bytes()),
            logs: logs::encode(&completion.logs),
            result: completion.result.as_ref().ok().cloned(),
        }
    }
}

/// An invocation, from a row of `async_invocations`.
pub fn async_invocation(row: &dyn Columns) -> Result<AsyncInvocation, StoreError> {
    let fields = Fields(row);
    let status = fields.one_of("status", AsyncStatus::parse)?;
    let created_at = fields.instant("created_at")?;
    let due = fields.optional_instant("due")?;
    Ok(AsyncInvocation {
        id: InvocationId::from_uuid(fields.uuid("id")?),
        function: FunctionId::from_uuid(fields.uuid("function")?),
        qualifier: fields.parse("qualifier")?,
        event: fields.bytes("event")?.to_vec(),
        context: fields.bytes("context")?.to_vec(),
        timeout: fields.optional_number("timeout_ms")?.map(Duration::from_millis),
        status,
        attempt: fields.number("attempt")?,
        not_before: due.unwrap_or(created_at),
        created_at,
        started_at: fields.optional_instant("started_at")?,
        completion: if status.is_final() { Some(completion(&fields)?) } else { None },
    })
}

fn completion(fields: &Fields<'_>) -> Result<Completion, StoreError> {
    let lines = fields.optional_bytes("logs")?.unwrap_or_default();
    let logs = logs::decode(lines, fields.number("log_dropped")?);
    let result = match failure(fields)? {
        Some(failure) => Err(failure),
        None => Ok(fields.bytes("result")?.to_vec()),
    };
    Ok(Completion {
        result,
        logs: logs.ok_or_else(|| damaged("logs", "they cannot be decoded"))?,
        usage: Usage {
            duration: Duration::from_nanos(fields.number("duration_ns")?),
            init_duration: Duration::from_nanos(fields.number("init_duration_ns")?),
            memory_mib: fields.number("memory_mib")?,
        },
        completed_at: fields.instant("completed_at")?,
    })
}
