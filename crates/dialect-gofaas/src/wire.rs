//! The dialect's shapes.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use impuls_control::{
    BuildLog, Code, FunctionChange, FunctionSnapshot, LimitSettings, NewFunction, Settings,
};
use impuls_domain::{
    AsyncInvocation, AsyncStatus, CodeLayout, Contract, Environment, FunctionState, Metadata, RuntimeName,
    Scope,
};
use impuls_ingress::Denial;
use impuls_ingress::settings::{self, memory_mib};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::duration::Timeout;
use crate::errors::Refusal;

/// What the scopes of this dialect's functions begin with; the version follows.
const SCOPE: &str = "gofaas/";
/// The longest version.
const VERSION_LIMIT: usize = 50;
/// How an archive begins (APPNOTE 4.3.7).
const ZIP: &[u8] = b"PK\x03\x04";

/// The envelope of what succeeded.
#[derive(Serialize)]
pub(crate) struct Envelope<T> {
    success: bool,
    data: T,
}

impl<T> Envelope<T> {
    pub(crate) fn of(data: T) -> axum::Json<Self> {
        axum::Json(Self { success: true, data })
    }
}

/// A function to create.
#[derive(Debug, Deserialize)]
pub(crate) struct NewBody {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    runtime: String,
    #[serde(default)]
    handler: String,
    #[serde(default)]
    code: String,
    timeout: Option<Timeout>,
    memory_mb: Option<i64>,
    max_concurrency: Option<i64>,
    #[serde(default)]
    environment: Option<BTreeMap<String, String>>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// What to change of a function.
#[derive(Debug, Deserialize)]
pub(crate) struct ChangeBody {
    handler: Option<String>,
    code: Option<String>,
    timeout: Option<Timeout>,
    memory_mb: Option<i64>,
    max_concurrency: Option<i64>,
    environment: Option<BTreeMap<String, String>>,
}

impl NewBody {
    pub(crate) fn into_new(self) -> Result<NewFunction, Refusal> {
        let required = |field: &str, text: &str| {
            if text.is_empty() { Err(Refusal::invalid(format_args!("{field} is required"))) } else { Ok(()) }
        };
        for (field, text) in [
            ("name", &self.name),
            ("version", &self.version),
            ("runtime", &self.runtime),
            ("handler", &self.handler),
            ("code", &self.code),
        ] {
            required(field, text)?;
        }
        let missing =
            |field: &str| Refusal::invalid(format_args!("{field} is required and must be positive"));
        let timeout = self.timeout.ok_or_else(|| missing("timeout"))?;
        let memory = self.memory_mb.ok_or_else(|| missing("memory_mb"))?;
        let max_concurrency = self.max_concurrency.ok_or_else(|| missing("max_concurrency"))?;
        let settings = Settings {
            contract: Some(Contract::Program),
            environment: environment(self.environment)?,
            metadata: self.metadata.map(Metadata::new).transpose().map_err(Refusal::invalid)?,
            limits: limits(Some(&timeout), Some(memory), Some(max_concurrency))?,
            ..Settings::default()
        };
        Ok(NewFunction {
            scope: scope(&self.version)?,
            name: self.name.parse().map_err(|error| Refusal::invalid(format_args!("name: {error}")))?,
            runtime: runtime(&self.runtime)?,
            handler: self
                .handler
                .parse()
                .map_err(|error| Refusal::invalid(format_args!("handler: {error}")))?,
            code: code(&self.code)?,
            settings,
            build_log: BuildLog::nobody(),
        })
    }
}

impl ChangeBody {
    pub(crate) fn into_change(self) -> Result<FunctionChange, Refusal> {
        let handler = self.handler.as_deref().map(str::parse).transpose();
        Ok(FunctionChange {
            handler: handler.map_err(|error| Refusal::invalid(format_args!("handler: {error}")))?,
            code: self.code.as_deref().map(code).transpose()?,
            settings: Settings {
                environment: environment(self.environment)?,
                limits: limits(self.timeout.as_ref(), self.memory_mb, self.max_concurrency)?,
                ..Settings::default()
            },
            ..FunctionChange::default()
        })
    }
}

fn scope(version: &str) -> Result<Scope, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    if version.len() > VERSION_LIMIT || !version.chars().all(allowed) {
        let rule = "version must have at most 50 letters, digits, `.`, `-`, `_` and `+`, for example 1.0.0";
        return Err(Refusal::invalid(rule));
    }
    Ok(Scope::new(format!("{SCOPE}{version}")))
}

/// The runtimes that this dialect's words mean. The installed versions are taken by their own names as well.
pub(crate) fn runtime(word: &str) -> Result<RuntimeName, Refusal> {
    word.parse().map_err(|error| Refusal::invalid(format_args!("runtime: {error}")))
}

/// Code is base64: the source of a program, or an archive.
fn code(text: &str) -> Result<Code, Refusal> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| Refusal::invalid(format_args!("code is not base64: {error}")))?;
    if bytes.starts_with(ZIP) {
        return Ok(Code::Zip(Bytes::from(bytes)));
    }
    let source = String::from_utf8(bytes);
    source.map(Code::Source).map_err(|_| Refusal::invalid("code is neither UTF-8 text nor a zip archive"))
}

fn environment(variables: Option<BTreeMap<String, String>>) -> Result<Option<Environment>, Refusal> {
    variables.map(Environment::new).transpose().map_err(Refusal::invalid)
}

fn limits(
    timeout: Option<&Timeout>,
    memory_mb: Option<i64>,
    max_concurrency: Option<i64>,
) -> Result<LimitSettings, Refusal> {
    let positive = |field: &str, value: Option<i64>| match value {
        None => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value @ 1..) => Ok(Some(value)),
            _ => Err(Refusal::invalid(format_args!("{field} must be positive"))),
        },
    };
    let timeout = timeout.map(Timeout::duration).transpose().map_err(Refusal::invalid)?;
    let memory = positive("memory_mb", memory_mb)?;
    Ok(LimitSettings {
        timeout_ms: timeout.map(timeout_ms).transpose()?,
        memory_mib: memory.map(|mib| memory_mib("memory_mb", mib)).transpose()?,
        max_concurrency: positive("max_concurrency", max_concurrency)?,
        ..LimitSettings::default()
    })
}

/// Whoever writes a number of seconds has to be told that it is nanoseconds.
fn timeout_ms(asked: Duration) -> Result<u64, Denial> {
    settings::timeout_ms("timeout", asked).map_err(|denial| {
        let message =
            format!("{}; a number is nanoseconds, a text such as \"30s\" has its unit", denial.message);
        Denial { message, ..denial }
    })
}

/// A function.
#[derive(Debug, Serialize)]
pub(crate) struct FunctionObject {
    id: Uuid,
    name: String,
    version: String,
    runtime: String,
    handler: String,
    code: CodeObject,
    config: ConfigObject,
    metadata: BTreeMap<String, String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    created_at: String,
    updated_at: String,
}

#[derive(Debug, Serialize)]
struct CodeObject {
    source: String,
    source_type: &'static str,
    checksum: String,
    size: u64,
}

#[derive(Debug, Serialize)]
struct ConfigObject {
    timeout: u128,
    memory_mb: u32,
    environment: BTreeMap<String, String>,
    max_concurrency: u32,
}

impl From<&FunctionSnapshot> for FunctionObject {
    fn from(snapshot: &FunctionSnapshot) -> Self {
        let (function, latest) = (&snapshot.function, &snapshot.latest);
        let (config, limits) = (&latest.config, &latest.config.limits);
        let own_version = function.scope.as_str().strip_prefix(SCOPE).map(str::to_owned);
        let (state, error) = match &function.state {
            FunctionState::Active => ("active", None),
            FunctionState::Error { failure, .. } => ("error", Some(failure.to_string())),
        };
        let kind = match latest.layout {
            CodeLayout::SingleFile => "source",
            CodeLayout::Zip => "zip",
        };
        Self {
            id: function.id.as_uuid(),
            name: function.name.to_string(),
            version: own_version.unwrap_or_else(|| function.latest_version.to_string()),
            runtime: word(config.runtime.as_str()).to_owned(),
            handler: config.handler.to_string(),
            code: CodeObject {
                source: format!("{kind}:{}", latest.artifact),
                source_type: "local",
                checksum: latest.artifact.to_string(),
                size: latest.code_size,
            },
            config: ConfigObject {
                timeout: limits.timeout().as_nanos(),
                memory_mb: limits.memory_mib(),
                environment: config.environment.variables().clone(),
                max_concurrency: limits.max_concurrency().map_or(0, std::num::NonZeroU32::get),
            },
            metadata: config.metadata.labels().clone(),
            state,
            error,
            created_at: instant(function.created_at),
            updated_at: instant(function.updated_at),
        }
    }
}

/// The dialect's word for a runtime; versions are not part of it.
pub(crate) fn word(runtime: &str) -> &str {
    let words = ["python", "nodejs", "go"];
    let is_of = |word: &&str| {
        runtime.strip_prefix(*word).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    words.into_iter().find(is_of).unwrap_or(runtime)
}

/// An instant as RFC 3339 text.
pub(crate) fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// A call.
#[derive(Deserialize)]
pub(crate) struct InvokeBody {
    #[serde(default)]
    pub(crate) function_id: String,
    #[serde(default)]
    pub(crate) payload: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) timeout: Option<Timeout>,
}

/// A call that was accepted.
#[derive(Serialize)]
pub(crate) struct Accepted {
    pub(crate) invocation_id: Uuid,
    pub(crate) function_id: Uuid,
    pub(crate) status: &'static str,
    pub(crate) created_at: String,
}

/// What became of a call.
#[derive(Serialize)]
pub(crate) struct InvocationObject {
    id: Uuid,
    function_id: Uuid,
    payload: Box<RawValue>,
    headers: Box<RawValue>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<String>,
    attempts: u32,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
}

#[derive(Serialize)]
struct ErrorObject {
    r#type: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
}

/// What was measured of a call. Of one call alone that is its duration; the original's other figures are null.
#[derive(Default, Serialize)]
struct Metrics {
    /// In nanoseconds.
    duration: u128,
    cpu_time: Option<u64>,
    memory_peak: Option<u64>,
    network_in: Option<u64>,
    network_out: Option<u64>,
}

/// What the context of a call holds.
#[derive(Default, Deserialize)]
struct Context {
    headers: Option<Box<RawValue>>,
}

/// The dialect's word for where a call stands.
pub(crate) const fn status(status: AsyncStatus) -> &'static str {
    match status {
        AsyncStatus::Queued => "pending",
        AsyncStatus::Running => "running",
        AsyncStatus::Succeeded => "completed",
        // The dialect has no words for these; its own calls do not become dead letters.
        AsyncStatus::Failed | AsyncStatus::Cancelled | AsyncStatus::Dead => "failed",
        AsyncStatus::Timeout => "timeout",
    }
}

fn raw(bytes: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(bytes).ok()
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

impl From<AsyncInvocation> for InvocationObject {
    fn from(invocation: AsyncInvocation) -> Self {
        let context: Context = serde_json::from_slice(&invocation.context).unwrap_or_default();
        let completion = invocation.completion;
        let failure = completion.as_ref().and_then(|completion| completion.result.as_ref().err());
        Self {
            id: invocation.id.as_uuid(),
            function_id: invocation.function.as_uuid(),
            payload: raw(&invocation.event).unwrap_or_default(),
            headers: context.headers.unwrap_or_else(empty_object),
            status: status(invocation.status),
            result: completion.as_ref().and_then(|completion| raw(completion.result.as_ref().ok()?)),
            error: failure.map(|failure| ErrorObject {
                r#type: if failure.class.is_empty() {
                    failure.error_type.to_string()
                } else {
                    failure.class.clone()
                },
                message: failure.message.clone(),
                stack: failure.stack.clone(),
            }),
            metrics: completion.as_ref().map(|completion| Metrics {
                duration: completion.usage.duration.as_nanos(),
                ..Metrics::default()
            }),
            logs: completion.as_ref().map(|completion| lines(&completion.logs)).unwrap_or_default(),
            attempts: invocation.attempt,
            created_at: instant(invocation.created_at),
            started_at: invocation.started_at.map(instant),
            completed_at: completion.map(|completion| instant(completion.completed_at)),
        }
    }
}

fn lines(logs: &impuls_domain::Logs) -> Vec<String> {
    logs.lines().iter().flat_map(|piece| piece.text.lines().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(change: &serde_json::Value) -> Result<NewFunction, Refusal> {
        let mut body = serde_json::json!({
            "name": "hello", "version": "1.0.0", "runtime": "go", "handler": "main", "code": "cGFja2FnZSBtYWlu",
            "timeout": "30s", "memory_mb": 128, "max_concurrency": 10, "environment": {}, "metadata": {},
        });
        for (field, value) in change.as_object().unwrap() {
            body[field] = value.clone();
        }
        serde_json::from_value::<NewBody>(body).unwrap().into_new()
    }

    #[test]
    fn the_documents_request_is_a_program_of_its_version() {
        let new = new(&serde_json::json!({})).unwrap();
        assert_eq!(new.scope.as_str(), "gofaas/1.0.0");
        assert_eq!(new.settings.contract, Some(Contract::Program));
        assert_eq!(new.settings.limits.timeout_ms, Some(30_000));
        assert_eq!(new.code, Code::Source("package main".to_owned()));
    }

    #[test]
    fn every_field_is_needed_and_must_make_sense() {
        for change in [
            serde_json::json!({"name": ""}),
            serde_json::json!({"name": "../x"}),
            serde_json::json!({"version": ""}),
            serde_json::json!({"version": "a/b"}),
            serde_json::json!({"handler": ""}),
            serde_json::json!({"code": "%%%"}),
            serde_json::json!({"timeout": "soon"}),
            serde_json::json!({"timeout": 0}),
            serde_json::json!({"memory_mb": 0}),
            serde_json::json!({"memory_mb": -1}),
            serde_json::json!({"max_concurrency": null}),
        ] {
            assert!(new(&change).is_err(), "{change}");
        }
    }

    #[test]
    fn runtimes_have_the_dialects_words() {
        let words = ["python311", "nodejs20", "go", "ruby31"].map(word);
        assert_eq!(words, ["python", "nodejs", "go", "ruby31"]);
    }
}
