//! Records of invocations.

use std::time::Duration;

use impuls_domain::{
    ErrorType, Exchange, Failure, FunctionId, Invocation, InvocationId, InvocationStatus, RevisionId, Usage,
};
use impuls_store::StoreError;
use sqlx::sqlite::SqliteRow;

use super::function::version;
use super::{Fields, Key, damaged, exchange, logs, micros, saturate};

/// A row of `invocations`.
#[derive(Debug)]
pub(crate) struct InvocationRow {
    pub(crate) id: Key,
    pub(crate) function: Key,
    pub(crate) revision: Key,
    pub(crate) version: i64,
    pub(crate) status: &'static str,
    pub(crate) failure: Option<Failure>,
    pub(crate) duration_ns: i64,
    pub(crate) init_duration_ns: i64,
    pub(crate) memory_mib: i64,
    pub(crate) started_at: i64,
    pub(crate) log_dropped: i64,
    pub(crate) logs: Option<Vec<u8>>,
    pub(crate) exchange: Option<Vec<u8>>,
}

impl InvocationRow {
    pub(crate) fn from_domain(invocation: &Invocation) -> Self {
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
pub(crate) fn invocation(row: &SqliteRow) -> Result<Invocation, StoreError> {
    let fields = Fields(row);
    let lines = fields.plain::<Option<&[u8]>>("logs")?.unwrap_or_default();
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
    let Some(bytes) = fields.plain::<Option<&[u8]>>("exchange")? else { return Ok(None) };
    let exchange = exchange::decode(bytes).ok_or_else(|| damaged("exchange", "it cannot be decoded"))?;
    Ok(Some(Box::new(exchange)))
}

pub(super) fn failure(fields: &Fields<'_>) -> Result<Option<Failure>, StoreError> {
    if fields.plain::<Option<&str>>("error_type")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Failure {
        error_type: fields.one_of("error_type", ErrorType::parse)?,
        class: fields.text("error_class")?,
        message: fields.text("error_message")?,
        stack: fields.plain("error_stack")?,
    }))
}
