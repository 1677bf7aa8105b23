//! Asynchronous invocations.

use std::time::Duration;

use impuls_domain::{
    AsyncInvocation, AsyncStatus, Completion, Failure, FunctionId, InvocationId, Tally, Usage,
};

use super::invocation::failure;
use super::settings::{SettingsRow, settings};
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
    pub settings: SettingsRow,
    pub hook: Option<String>,
    pub key: Option<String>,
    pub origin: Option<Key>,
    pub chain: u32,
    pub tally: Tally,
    pub created_at: i64,
    pub ready_at: i64,
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
            settings: SettingsRow::from_domain(&invocation.policy, &invocation.destinations),
            hook: invocation.hook.as_ref().map(ToString::to_string),
            key: invocation.key.clone(),
            origin: invocation.origin.map(|origin| *origin.as_uuid().as_bytes()),
            chain: invocation.chain,
            tally: invocation.tally,
            created_at: micros(invocation.created_at),
            ready_at: micros(invocation.ready_at),
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
    pub measured: Option<String>,
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
            status: completion.status.as_str(),
            completed_at: micros(completion.completed_at),
            failure: completion.result.as_ref().err().cloned(),
            usage: [
                saturate(usage.duration.as_nanos()),
                saturate(usage.init_duration.as_nanos()),
                i64::from(usage.memory_mib),
            ],
            // A structure of numbers.
            measured: usage.measured.and_then(|measured| serde_json::to_string(&measured).ok()),
            log_dropped: saturate(completion.logs.dropped_bytes()),
            logs: logs::encode(&completion.logs),
            result: completion.result.as_ref().ok().cloned(),
        }
    }
}

/// The columns of `async_invocations`, for a `SELECT`, with this expression for an empty value in the place of what may be large.
#[must_use]
pub fn brief_columns(empty: &str) -> String {
    format!(
        "id, function, qualifier, status, attempt, due, timeout_ms, policy, destinations, hook, idempotency_key, origin, \
         chain, failures, throttled, broken, deaths, created_at, ready_at, started_at, completed_at, error_type, \
         error_class, error_message, error_stack, duration_ns, init_duration_ns, memory_mib, measured, \
         CAST(0 AS BIGINT) AS log_dropped, NULL AS logs, \
         CASE WHEN result IS NULL THEN NULL ELSE {empty} END AS result, {empty} AS context, {empty} AS event"
    )
}

/// An invocation, from a row of `async_invocations`.
pub fn async_invocation(row: &dyn Columns) -> Result<AsyncInvocation, StoreError> {
    let fields = Fields(row);
    let status = fields.one_of("status", AsyncStatus::parse)?;
    let created_at = fields.instant("created_at")?;
    let due = fields.optional_instant("due")?;
    let hook = fields.optional_text("hook")?;
    let origin = fields.optional_bytes("origin")?;
    let origin = origin.map(uuid::Uuid::from_slice).transpose().map_err(|error| damaged("origin", error))?;
    let settings = settings(row)?;
    Ok(AsyncInvocation {
        id: InvocationId::from_uuid(fields.uuid("id")?),
        function: FunctionId::from_uuid(fields.uuid("function")?),
        qualifier: fields.parse("qualifier")?,
        hook: hook.map(|hook| hook.parse()).transpose().map_err(|error| damaged("hook", error))?,
        event: fields.bytes("event")?.to_vec(),
        context: fields.bytes("context")?.to_vec(),
        timeout: fields.optional_number("timeout_ms")?.map(Duration::from_millis),
        policy: settings.policy,
        destinations: settings.destinations,
        key: fields.optional_string("idempotency_key")?,
        origin: origin.map(InvocationId::from_uuid),
        chain: fields.number("chain")?,
        status,
        attempt: fields.number("attempt")?,
        tally: tally(&fields)?,
        not_before: due.unwrap_or(created_at),
        created_at,
        ready_at: fields.instant("ready_at")?,
        started_at: fields.optional_instant("started_at")?,
        last_failure: if status.is_final() { None } else { failure(&fields)? },
        completion: if status.is_final() { Some(completion(&fields, status)?) } else { None },
    })
}

fn tally(fields: &Fields<'_>) -> Result<Tally, StoreError> {
    Ok(Tally {
        failures: fields.number("failures")?,
        throttled: fields.number("throttled")?,
        broken: fields.number("broken")?,
        deaths: fields.number("deaths")?,
    })
}

fn completion(fields: &Fields<'_>, status: AsyncStatus) -> Result<Completion, StoreError> {
    let lines = fields.optional_bytes("logs")?.unwrap_or_default();
    let logs = logs::decode(lines, fields.number("log_dropped")?);
    let result = match failure(fields)? {
        Some(failure) => Err(failure),
        None => Ok(fields.bytes("result")?.to_vec()),
    };
    Ok(Completion {
        status,
        result,
        logs: logs.ok_or_else(|| damaged("logs", "they cannot be decoded"))?,
        usage: Usage {
            duration: Duration::from_nanos(fields.number("duration_ns")?),
            init_duration: Duration::from_nanos(fields.number("init_duration_ns")?),
            memory_mib: fields.number("memory_mib")?,
            measured: match fields.optional_text("measured")? {
                Some(text) => Some(serde_json::from_str(&text).map_err(|error| damaged("measured", error))?),
                None => None,
            },
        },
        completed_at: fields.instant("completed_at")?,
    })
}
