//! The dialect's shapes.

use std::collections::BTreeMap;
use std::time::Duration;

use impuls_control::{
    BuildLog, Code, FunctionChange, FunctionSnapshot, LimitSettings, NewFunction, Settings,
};
use impuls_domain::{
    Contract, DeployStep, Environment, Excerpt, FunctionState, Handler, LogLevel, Logs, RuntimeName, Scope,
    StateLog,
};
use impuls_ingress::Denial;
use impuls_ingress::settings::{memory_mib, milli_vcpu, timeout_ms};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::errors::Refusal;

/// What a function gets that asks for nothing: the documents' values.
const DEFAULT_MEMORY_MIB: u32 = 256;
const DEFAULT_TIMEOUT_MS: u64 = 30_000;
const DEFAULT_MILLI_VCPU: u32 = 1_000;

/// A function to create, or what to change of one.
#[derive(Debug, Deserialize)]
pub(crate) struct FunctionBody {
    name: Option<String>,
    runtime: Option<String>,
    code: Option<String>,
    handler: Option<String>,
    timeout_seconds: Option<u64>,
    memory_mb: Option<u32>,
    vcpu: Option<f64>,
    env_vars: Option<BTreeMap<String, Value>>,
}

impl FunctionBody {
    pub(crate) fn into_new(self) -> Result<NewFunction, Refusal> {
        let name = parse(required("name", self.name.as_deref())?, "name")?;
        let (runtime, contract) = runtime(required("runtime", self.runtime.as_deref())?)?;
        let handler = parse(required("handler", self.handler.as_deref())?, "handler")?;
        let code = required("code", self.code.as_deref())?.to_owned();
        let limits = self.limits()?;
        let limits = LimitSettings {
            memory_mib: limits.memory_mib.or(Some(DEFAULT_MEMORY_MIB)),
            timeout_ms: limits.timeout_ms.or(Some(DEFAULT_TIMEOUT_MS)),
            milli_vcpu: limits.milli_vcpu.or(Some(DEFAULT_MILLI_VCPU)),
            ..limits
        };
        let environment = environment(self.env_vars)?;
        let settings = Settings { contract, environment, limits, ..Settings::default() };
        let scope = Scope::new(format!("nqrust/{}", Uuid::now_v7()));
        let (code, build_log) = (Code::Source(code), BuildLog::nobody());
        Ok(NewFunction { scope, name, runtime, handler, code, settings, build_log })
    }

    pub(crate) fn into_change(self) -> Result<FunctionChange, Refusal> {
        let (runtime, contract) = match self.runtime.as_deref() {
            Some(text) => {
                let (runtime, contract) = runtime(text)?;
                (Some(runtime), contract)
            }
            None => (None, None),
        };
        let handler: Option<Handler> =
            self.handler.as_deref().map(|text| parse(text, "handler")).transpose()?;
        let limits = self.limits()?;
        Ok(FunctionChange {
            rename: self.name.as_deref().map(|text| parse(text, "name")).transpose()?,
            runtime,
            handler,
            code: self.code.map(Code::Source),
            settings: Settings {
                contract,
                environment: environment(self.env_vars)?,
                limits,
                ..Settings::default()
            },
            ..FunctionChange::default()
        })
    }

    /// The limits that are given.
    fn limits(&self) -> Result<LimitSettings, Denial> {
        let timeout = self.timeout_seconds.map(Duration::from_secs);
        Ok(LimitSettings {
            memory_mib: self.memory_mb.map(|mib| memory_mib("memory_mb", mib)).transpose()?,
            timeout_ms: timeout.map(|asked| timeout_ms("timeout_seconds", asked)).transpose()?,
            milli_vcpu: self.vcpu.map(|cores| milli_vcpu("vcpu", cores)).transpose()?,
            ..LimitSettings::default()
        })
    }
}

fn required<'a>(field: &str, text: Option<&'a str>) -> Result<&'a str, Refusal> {
    text.filter(|text| !text.is_empty()).ok_or_else(|| Refusal::invalid(field, "it is required"))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, field: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error| Refusal::invalid(field, error))
}

/// The runtime that a word of this dialect means, and the contract of its code: source that defines the handler
/// without exporting it. Any other runtime of this server has its own contract.
fn runtime(word: &str) -> Result<(RuntimeName, Option<Contract>), Refusal> {
    let name = match word {
        "node" | "nodejs" | "javascript" => "nodejs",
        other => other,
    };
    let is_scoped = ["nodejs", "python", "typescript"].iter().any(|language| name.starts_with(language));
    Ok((parse(name, "runtime")?, is_scoped.then_some(Contract::Scoped)))
}

/// Variables are text; other values become their JSON.
fn environment(variables: Option<BTreeMap<String, Value>>) -> Result<Option<Environment>, Refusal> {
    let Some(variables) = variables else { return Ok(None) };
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let variables = variables.into_iter().map(|(name, value)| (name, text(value))).collect();
    Environment::new(variables).map(Some).map_err(|error| Refusal::invalid("env_vars", error))
}

/// A function.
#[derive(Debug, Serialize)]
pub(crate) struct FunctionItem {
    id: Uuid,
    name: String,
    runtime: String,
    code: Option<String>,
    handler: String,
    timeout_seconds: u64,
    memory_mb: u32,
    vcpu: Number,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env_vars: BTreeMap<String, String>,
    vm_id: Option<Uuid>,
    guest_ip: Option<String>,
    port: Option<u16>,
    state: &'static str,
    state_log: Vec<StateItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    created_at: String,
    updated_at: String,
    last_invoked_at: Option<String>,
}

impl FunctionItem {
    /// The function as it is; `code` is the text of its one source file, `vm_id` its newest live sandbox.
    pub(crate) fn new(
        snapshot: &FunctionSnapshot,
        code: Option<String>,
        last_invoked_at: Option<OffsetDateTime>,
        vm_id: Option<Uuid>,
    ) -> Self {
        let (function, config) = (&snapshot.function, &snapshot.latest.config);
        let limits = &config.limits;
        let (state, error) = match &function.state {
            FunctionState::Active => ("ready", None),
            FunctionState::Error { failure, .. } => ("error", Some(failure.to_string())),
        };
        Self {
            id: function.id.as_uuid(),
            name: function.name.to_string(),
            runtime: word(config.runtime.as_str()).to_owned(),
            code,
            handler: config.handler.to_string(),
            timeout_seconds: limits.timeout().as_secs(),
            memory_mb: limits.memory_mib(),
            vcpu: cores(limits.milli_vcpu()),
            env_vars: config.environment.variables().clone(),
            vm_id,
            guest_ip: None,
            port: None,
            state,
            state_log: state_items(&function.state_log),
            error,
            created_at: instant(function.created_at),
            updated_at: instant(function.updated_at),
            last_invoked_at: last_invoked_at.map(instant),
        }
    }
}

/// The dialect's word for a runtime; versions are not part of it.
fn word(runtime: &str) -> &str {
    let is_version = |rest: &str| rest.bytes().all(|b| b.is_ascii_digit());
    let node = runtime
        .strip_prefix("nodejs")
        .map(|rest| rest.strip_suffix("-ts").map_or((rest, "node"), |rest| (rest, "typescript")));
    let python = runtime.strip_prefix("python").map(|rest| (rest, "python"));
    node.or(python).filter(|(rest, _)| is_version(rest)).map_or(runtime, |(_, word)| word)
}

/// A share of the processor in cores. Whole numbers have no decimals: clients may read integers only.
pub(crate) fn cores(milli: u32) -> Number {
    let fraction = || Number::from_f64(f64::from(milli) / 1_000.0);
    let whole = || Number::from(milli / 1_000);
    if milli.is_multiple_of(1_000) { whole() } else { fraction().unwrap_or_else(whole) }
}

/// A state that a function reached, and when.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StateItem {
    state: &'static str,
    at: String,
}

fn state_items(log: &StateLog) -> Vec<StateItem> {
    let word = |step| match step {
        DeployStep::Accepted => "creating",
        DeployStep::Starting => "booting",
        DeployStep::Loading => "deploying",
        DeployStep::Ready => "ready",
        DeployStep::Failed => "error",
    };
    log.steps().iter().map(|(step, at)| StateItem { state: word(*step), at: instant(*at) }).collect()
}

/// An instant as RFC 3339 text.
pub(crate) fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// What a call brings.
#[derive(Deserialize)]
pub(crate) struct InvokeBody {
    pub(crate) event: Box<RawValue>,
}

/// What became of a call.
#[derive(Serialize)]
pub(crate) struct InvokeReply<'a> {
    pub(crate) request_id: Uuid,
    pub(crate) status: &'static str,
    pub(crate) duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<&'a RawValue>,
    pub(crate) logs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
}

/// The record of a call.
#[derive(Serialize)]
pub(crate) struct LogItem {
    pub(crate) id: Uuid,
    pub(crate) function_id: Uuid,
    pub(crate) status: &'static str,
    pub(crate) duration_ms: u64,
    pub(crate) memory_used_mb: Option<u32>,
    pub(crate) request_id: Uuid,
    /// Null if the call came through another API.
    pub(crate) event: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) event_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) response_truncated: bool,
    pub(crate) logs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) invoked_at: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What was kept of a JSON text: the value, or of a long one the beginning of its text as a string.
pub(crate) fn kept(excerpt: &Excerpt) -> Option<Box<RawValue>> {
    let whole = excerpt.is_whole().then(|| serde_json::from_str(excerpt.text()).ok()).flatten();
    whole.or_else(|| serde_json::value::to_raw_value(excerpt.text()).ok())
}

/// Log text line by line, with the marks of this dialect: errors and warnings have one.
pub(crate) fn log_lines(logs: &Logs) -> Vec<String> {
    let marked = |level: LogLevel, line: &str| match level {
        LogLevel::Stdout | LogLevel::Info | LogLevel::Debug => line.to_owned(),
        LogLevel::Warn => format!("[WARN] {line}"),
        LogLevel::Error | LogLevel::Stderr => format!("[ERROR] {line}"),
    };
    logs.lines().iter().flat_map(|piece| piece.text.lines().map(|line| marked(piece.level, line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: Value) -> FunctionBody {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_documents_defaults_are_256_mib_one_core_and_30_seconds() {
        let json = serde_json::json!({"name": "a", "runtime": "node", "handler": "handler", "code": "x"});
        let new = body(json).into_new().unwrap();
        let limits = new.settings.limits;
        assert_eq!(
            (limits.memory_mib, limits.milli_vcpu, limits.timeout_ms),
            (Some(256), Some(1_000), Some(30_000))
        );
        assert_eq!((new.runtime.as_str(), new.settings.contract), ("nodejs", Some(Contract::Scoped)));
    }

    #[test]
    fn whole_cores_are_integers_and_runtimes_have_the_dialects_words() {
        let texts = [1_000, 2_000, 500].map(|milli| cores(milli).to_string());
        assert_eq!(texts, ["1", "2", "0.5"]);
        let words = ["nodejs20", "python312", "nodejs20-ts", "ruby31"].map(word);
        assert_eq!(words, ["node", "python", "typescript", "ruby31"]);
    }

    #[test]
    fn limits_of_zero_are_refused_by_name() {
        for field in ["timeout_seconds", "memory_mb", "vcpu"] {
            let refusal = body(serde_json::json!({field: 0})).into_change().unwrap_err();
            assert!(format!("{refusal:?}").contains(&format!("{field}: 0")), "{refusal:?}");
        }
    }

    #[test]
    fn names_need_not_be_unique() {
        let new = || {
            let json = serde_json::json!({"name": "a", "runtime": "node", "handler": "handler", "code": "x"});
            body(json).into_new().unwrap().scope
        };
        assert_ne!(new(), new());
    }

    #[test]
    fn variables_of_any_type_become_text() {
        let variables = BTreeMap::from([
            ("A".to_owned(), Value::from(1)),
            ("B".to_owned(), Value::from("x")),
            ("C".to_owned(), Value::from(true)),
        ]);
        let environment = environment(Some(variables)).unwrap().unwrap();
        let values: Vec<&str> = environment.variables().values().map(String::as_str).collect();
        assert_eq!(values, ["1", "x", "true"]);
    }

    #[test]
    fn what_was_kept_is_the_value_or_the_beginning_of_its_text() {
        let text = |bytes: &[u8]| kept(&Excerpt::of(bytes)).unwrap().get().to_owned();
        assert_eq!(text(b"{\"a\": [1]}"), "{\"a\": [1]}");
        let long = text(format!("[\"{}\"]", "x".repeat(9_000)).as_bytes());
        assert!(long.starts_with("\"[\\\"xxx") && long.len() < 4_200, "{long}");
        assert_eq!(text(b"no JSON"), "\"no JSON\"");
    }

    #[test]
    fn log_lines_have_the_dialects_marks() {
        let mut logs = Logs::default();
        logs.push(LogLevel::Info, "one\ntwo");
        logs.push(LogLevel::Error, "three");
        assert_eq!(log_lines(&logs), ["one", "two", "[ERROR] three"]);
    }
}
