//! Records of invocations.

use std::time::Duration;

use impuls_domain::{
    ErrorType, Exchange, Failure, FunctionId, Invocation, InvocationId, InvocationStatus, RevisionId, Usage,
};

use super::function::version;
use super::{Columns, Fields, Key, damaged, exchange, logs, micros, saturate};
use crate::error::StoreError;

/// A row of `invocations`.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct InvocationRow {
    pub id: Key,
    pub function: Key,
    pub revision: Key,
    pub version: i64,
    pub status: &'static str,
    pub failure: Option<Failure>,
    pub duration_ns: i64,
    pub init_duration_ns: i64,
    pub memory_mib: i64,
    pub started_at: i64,
    pub log_dropped: i64,
    pub logs: Option<Vec<u8>>,
    pub exchange: Option<Vec<u8>>,
}

impl InvocationRow {
    /// The row of a record.
    #[must_use]
    pub fn from_domain(invocation: &Invocation) -> Self {
        let usage = &invocation.usage;
        Self {
            id: *invocation.id.as_uuid().as_bytes(),
            function: *invocation.function.as_uuid().as_bytes(),
            revision: *invocation.revision.as_uuid().as_bytes(),
            version: saturate(invocation.version.get()),
            status: invocation.status.as_str(),
            failure: invocation.failure.clone(),
            duration_ns: saturate(usage.duration.as_nanos()),
            init_duration_ns: saturate(usage.init_duration.as_nanos()),
            memory_mib: i64::from(usage.memory_mib),
            started_at: micros(invocation.started_at),
            log_dropped: saturate(invocation.logs.dropped_bytes()),
            logs: logs::encode(&invocation.logs),
            exchange: invocation.exchange.as_deref().map(exchange::encode),
        }
    }
}

/// A record, from a row of `invocations`.
pub fn invocation(row: &dyn Columns) -> Result<Invocation, StoreError> {
    let fields = Fields(row);
    let lines = fields.optional_bytes("logs")?.unwrap_or_default();
    let logs = logs::decode(lines, fields.number("log_dropped")?);
    Ok(Invocation {
        id: InvocationId::from_uuid(fields.uuid("id")?),
        function: FunctionId::from_uuid(fields.uuid("function")?),
        revision: RevisionId::from_uuid(fields.uuid("revision")?),
        version: version(&fields, "version")?,
        status: fields.one_of("status", InvocationStatus::parse)?,
        failure: failure(&fields)?,
        exchange: exchange_of(&fields)?,
        logs: logs.ok_or_else(|| damaged("logs", "they cannot be decoded"))?,
        usage: Usage {
            duration: Duration::from_nanos(fields.number("duration_ns")?),
            init_duration: Duration::from_nanos(fields.number("init_duration_ns")?),
            memory_mib: fields.number("memory_mib")?,
            measured: None,
        },
        started_at: fields.instant("started_at")?,
    })
}

fn exchange_of(fields: &Fields<'_>) -> Result<Option<Box<Exchange>>, StoreError> {
    let Some(bytes) = fields.optional_bytes("exchange")? else { return Ok(None) };
    let exchange = exchange::decode(bytes).ok_or_else(|| damaged("exchange", "it cannot be decoded"))?;
    Ok(Some(Box::new(exchange)))
}

pub(super) fn failure(fields: &Fields<'_>) -> Result<Option<Failure>, StoreError> {
    if fields.optional_text("error_type")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Failure {
        error_type: fields.one_of("error_type", ErrorType::parse)?,
        class: fields.string("error_class")?,
        message: fields.string("error_message")?,
        stack: fields.optional_string("error_stack")?,
    }))
}
