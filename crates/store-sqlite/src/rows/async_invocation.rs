//! Asynchronous invocations.

use std::time::Duration;

use impuls_domain::{AsyncInvocation, AsyncStatus, Completion, Failure, FunctionId, InvocationId, Usage};
use impuls_store::StoreError;
use sqlx::sqlite::SqliteRow;

use super::invocation::failure;
use super::{Fields, Key, damaged, instant, logs, micros, saturate};

/// A row of `async_invocations` as it is accepted.
#[derive(Debug)]
pub(crate) struct AsyncRow {
    pub(crate) id: Key,
    pub(crate) function: Key,
    pub(crate) qualifier: String,
    pub(crate) status: &'static str,
    pub(crate) attempt: u32,
    pub(crate) due: i64,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) context: Vec<u8>,
    pub(crate) event: Vec<u8>,
}

impl AsyncRow {
    pub(crate) fn from_domain(invocation: &AsyncInvocation) -> Self {
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
#[derive(Debug)]
pub(crate) struct CompletionRow {
    pub(crate) status: &'static str,
    pub(crate) completed_at: i64,
    pub(crate) failure: Option<Failure>,
    pub(crate) usage: [i64; 3],
    pub(crate) log_dropped: i64,
    pub(crate) logs: Option<Vec<u8>>,
    pub(crate) result: Option<Vec<u8>>,
}

impl CompletionRow {
    pub(crate) fn from_domain(completion: &Completion) -> Self {
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
pub(crate) fn async_invocation(row: &SqliteRow) -> Result<AsyncInvocation, StoreError> {
    let fields = Fields(row);
    let status = fields.one_of("status", AsyncStatus::parse)?;
    let created_at = fields.instant("created_at")?;
    let due: Option<i64> = fields.plain("due")?;
    let optional = |column: &str| -> Result<_, StoreError> {
        let micros: Option<i64> = fields.plain(column)?;
        micros.map(instant).transpose().map_err(|error| damaged(column, error))
    };
    Ok(AsyncInvocation {
        id: InvocationId::from_uuid(fields.uuid("id")?),
        function: FunctionId::from_uuid(fields.uuid("function")?),
        qualifier: fields.parse("qualifier")?,
        event: fields.plain("event")?,
        context: fields.plain("context")?,
        timeout: fields.optional_number("timeout_ms")?.map(Duration::from_millis),
        status,
        attempt: fields.number("attempt")?,
        not_before: match due {
            Some(due) => instant(due).map_err(|error| damaged("due", error))?,
            None => created_at,
        },
        created_at,
        started_at: optional("started_at")?,
        completion: if status.is_final() { Some(completion(&fields)?) } else { None },
    })
}

fn completion(fields: &Fields<'_>) -> Result<Completion, StoreError> {
    let lines = fields.plain::<Option<&[u8]>>("logs")?.unwrap_or_default();
    let logs = logs::decode(lines, fields.number("log_dropped")?);
    let result = match failure(fields)? {
        Some(failure) => Err(failure),
        None => Ok(fields.plain("result")?),
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
