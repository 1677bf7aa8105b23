//! `/api/blueprint/functions/{id}`: packages, each a ZIP archive with an executable `bootstrap` that is run once for
//! every job, with the job as JSON on its standard input and the result as JSON on its standard output.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State as AxumState;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use impuls_control::{
    BuildLog, Code, ControlError, FunctionRef, FunctionSnapshot, LimitSettings, NewFunction, Settings,
};
use impuls_dispatch::{InvokeOptions, InvokeRequest};
use impuls_domain::{
    Caller, CommandLine, Contract, FunctionId, FunctionName, FunctionState, Qualifier, Scope,
};
use impuls_ingress::parse_json;
use impuls_ingress::settings::{memory_mib, timeout_ms};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::body::{self, Authenticated, PACKAGE_LIMIT, PathText};
use crate::errors::{Kind, Refusal};
use crate::state::State;
use crate::wire::environment;
use crate::wire::payload::Argument;

/// What names of packages are unique within.
const SCOPE: &str = "tangle";
/// The runtime and the file of every package.
const RUNTIME: &str = "command";
const BOOTSTRAP: &str = "bootstrap";
const PROGRAM: &str = "/var/task/bootstrap";
/// The original's defaults.
const MEMORY_MB: u32 = 512;
const TIMEOUT_SECS: u64 = 300;
const MAX_CONCURRENCY: u32 = 10;
/// How long a request to warm a package waits.
const WARM_TIMEOUT: Duration = Duration::from_secs(10);

/// What the header `X-Blueprint-Config` holds, as base64 of JSON.
#[derive(Default, Deserialize)]
struct Config {
    memory_mb: Option<u32>,
    timeout_secs: Option<u64>,
    max_concurrency: Option<u32>,
    env_vars: Option<Value>,
}

/// What has been asked of a package since the server was started.
#[derive(Clone, Copy, Default)]
struct Calls {
    count: u64,
    last: Option<OffsetDateTime>,
}

/// The calls of all packages.
#[derive(Clone, Default)]
pub(crate) struct CallCounts(Arc<Mutex<HashMap<FunctionId, Calls>>>);

impl CallCounts {
    fn note(&self, id: FunctionId) {
        let mut counts = self.0.lock();
        let calls = counts.entry(id).or_default();
        *calls = Calls { count: calls.count + 1, last: Some(OffsetDateTime::now_utc()) };
    }

    fn of(&self, id: FunctionId) -> Calls {
        self.0.lock().get(&id).copied().unwrap_or_default()
    }

    fn forget(&self, id: FunctionId) {
        self.0.lock().remove(&id);
    }
}

/// A deployed package.
#[derive(Serialize)]
pub(crate) struct Deployed {
    function_id: String,
    endpoint: String,
    status: &'static str,
    cold_start_ms: u64,
    memory_mb: u32,
    timeout_secs: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn reference(id: &str) -> Result<FunctionRef, ControlError> {
    FunctionRef::parse(Scope::new(SCOPE), id)
}

/// Where clients send jobs, by the name under which they reach this server.
fn endpoint(headers: &HeaderMap, id: &str) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8080");
    format!("http://{host}/api/blueprint/functions/{id}/invoke")
}

fn config(headers: &HeaderMap) -> Result<Config, Refusal> {
    let Some(text) = headers.get("x-blueprint-config") else { return Ok(Config::default()) };
    let bytes = STANDARD.decode(text).map_err(|error| Refusal::invalid("X-Blueprint-Config", error))?;
    parse_json(&bytes).map_err(|error| Refusal::invalid("X-Blueprint-Config", error))
}

fn check_backend(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get("x-execution-backend").map(|value| value.as_bytes()) {
        None | Some(b"local") => Ok(()),
        Some(b"tangle") => Err(Refusal::missing(
            "backend \"tangle\" cannot be had: this server is part of no network; use \"local\"",
        )),
        Some(_) => Err(Refusal::invalid("X-Execution-Backend", "it is neither \"local\" nor \"tangle\"")),
    }
}

fn new_function(id: &str, config: &Config, archive: bytes::Bytes) -> Result<NewFunction, Refusal> {
    let name: FunctionName = id.parse().map_err(|error| Refusal::invalid("function id", error))?;
    let command = CommandLine::new(vec![PROGRAM.to_owned()]);
    let timeout = Duration::from_secs(config.timeout_secs.unwrap_or(TIMEOUT_SECS));
    Ok(NewFunction {
        scope: Scope::new(SCOPE),
        name,
        runtime: RUNTIME.parse().map_err(|error| Refusal::invalid("runtime", error))?,
        handler: BOOTSTRAP.parse().map_err(|error| Refusal::invalid("handler", error))?,
        code: Code::Zip(archive),
        settings: Settings {
            contract: Some(Contract::Command),
            command: Some(command.map_err(|error| Refusal::invalid("command", error))?),
            environment: Some(environment(config.env_vars.as_ref())?),
            limits: LimitSettings {
                memory_mib: Some(memory_mib("memory_mb", config.memory_mb.unwrap_or(MEMORY_MB))?),
                timeout_ms: Some(timeout_ms("timeout_secs", timeout)?),
                max_concurrency: Some(config.max_concurrency.unwrap_or(MAX_CONCURRENCY)),
                ..LimitSettings::default()
            },
            ..Settings::default()
        },
        build_log: BuildLog::nobody(),
    })
}

/// `PUT /api/blueprint/functions/{id}`: deploys a package. An id that is taken is refused, as in the original.
pub(crate) async fn put_function(
    AxumState(state): AxumState<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Deployed>, Refusal> {
    check_backend(&headers)?;
    let config = config(&headers)?;
    let package = state.room.read(&headers, body, PACKAGE_LIMIT).await?;
    let new = new_function(&id, &config, package.bytes.clone())?;
    let begun = Instant::now();
    let snapshot = state.control.create_function(&caller, new).await?;
    if let FunctionState::Error { failure, .. } = &snapshot.function.state {
        // The original has no function that cannot be called.
        let refusal = Refusal::invalid("package", failure);
        state.control.delete_function(&caller, &snapshot.function.id.into()).await?;
        return Err(refusal);
    }
    let limits = &snapshot.latest.config.limits;
    Ok(Json(Deployed {
        endpoint: endpoint(&headers, &id),
        function_id: id,
        status: "deployed",
        cold_start_ms: millis(begun.elapsed()),
        memory_mb: limits.memory_mib(),
        timeout_secs: limits.timeout().as_secs(),
    }))
}

async fn find(state: &State, caller: &Caller, id: &str) -> Result<FunctionSnapshot, Refusal> {
    Ok(state.control.get_function(caller, &reference(id)?).await?)
}

/// `GET /api/blueprint/functions/{id}`.
pub(crate) async fn get_function(
    AxumState(state): AxumState<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let snapshot = find(&state, &caller, &id).await?;
    let config = &snapshot.latest.config;
    Ok(Json(json!({
        "function_id": id,
        "endpoint": endpoint(&headers, &id),
        "status": status(&snapshot),
        "memory_mb": config.limits.memory_mib(),
        "timeout_secs": config.limits.timeout().as_secs(),
        "max_concurrency": config.limits.max_concurrency(),
        "env_vars": config.environment.variables(),
        "created_at": rfc3339(snapshot.function.created_at),
    })))
}

const fn status(snapshot: &FunctionSnapshot) -> &'static str {
    match snapshot.function.state {
        FunctionState::Active => "deployed",
        FunctionState::Error { .. } => "error",
    }
}

fn rfc3339(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

/// `DELETE /api/blueprint/functions/{id}`.
pub(crate) async fn delete_function(
    AxumState(state): AxumState<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
) -> Result<Json<Value>, Refusal> {
    let function = state.control.delete_function(&caller, &reference(&id)?).await?;
    state.calls.forget(function.id);
    Ok(Json(json!({"function_id": id, "status": "deleted"})))
}

/// A job; its arguments are bytes.
#[derive(Deserialize, Serialize)]
pub(crate) struct Job {
    job_id: u64,
    #[serde(default)]
    args: Vec<Argument>,
}

/// What a package prints.
#[derive(Deserialize)]
struct Printed {
    job_id: u64,
    #[serde(default)]
    result: Value,
    success: bool,
}

/// What became of a job.
#[derive(Serialize)]
pub(crate) struct Done {
    job_id: u64,
    result: Value,
    success: bool,
    execution_ms: u64,
    /// Always 0, as in the original: what one call uses is not measured.
    memory_used_mb: u64,
}

/// `POST /api/blueprint/functions/{id}/invoke`: runs the package for one job.
pub(crate) async fn invoke(
    AxumState(state): AxumState<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Refusal> {
    let job: Job = body::json(&state, &headers, body).await?;
    let event = serde_json::to_vec(&job).map_err(|error| Refusal::invalid("args", error))?;
    let function = find(&state, &caller, &id).await?.function.id;
    let request = InvokeRequest {
        function: impuls_dispatch::FunctionRef::Id(function),
        qualifier: Qualifier::Latest,
        event: event.into(),
        options: InvokeOptions::default(),
    };
    let invoked = state.dispatch.invoke(&caller, request).await?;
    state.calls.note(function);
    let failed = |text: String| Refusal::new(Kind::ExecutionFailed, text);
    let printed = invoked.outcome.result.map_err(|failure| {
        let stack = failure.stack.filter(|stack| !stack.is_empty());
        failed(stack.map_or(failure.message.clone(), |stack| format!("{}: {stack}", failure.message)))
    })?;
    let printed: Printed = serde_json::from_slice(&printed).map_err(|error| {
        failed(format!("the package did not print {{job_id, result, success}} as JSON: {error}"))
    })?;
    Ok(Json(Done {
        job_id: printed.job_id,
        result: printed.result,
        success: printed.success,
        execution_ms: millis(invoked.outcome.usage.duration),
        memory_used_mb: 0,
    }))
}

/// `GET /api/blueprint/functions/{id}/health`.
pub(crate) async fn health(
    AxumState(state): AxumState<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
) -> Result<Json<Value>, Refusal> {
    let snapshot = find(&state, &caller, &id).await?;
    let calls = state.calls.of(snapshot.function.id);
    let status = match snapshot.function.state {
        FunctionState::Active => "healthy",
        FunctionState::Error { .. } => "error",
    };
    Ok(Json(json!({
        "function_id": id,
        "status": status,
        "last_invocation": calls.last.and_then(rfc3339),
        "total_invocations": calls.count,
    })))
}

/// `POST /api/blueprint/functions/{id}/warm`: makes sure that a sandbox holds the package.
pub(crate) async fn warm(
    AxumState(state): AxumState<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let function = find(&state, &caller, &id).await?.function.id;
    let warmed = state.dispatch.warm_function(&caller, function, 1, WARM_TIMEOUT).await?;
    if warmed == 0 {
        return Err(Refusal::new(Kind::Unavailable, "no sandbox could be warmed in time"));
    }
    Ok((StatusCode::OK, Json(json!({"function_id": id, "status": "warm", "instances_warmed": warmed}))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_configuration_is_a_header() {
        let text = STANDARD.encode(r#"{"memory_mb": 256, "timeout_secs": 5, "env_vars": {"A": "1"}}"#);
        let config = config(&headers("x-blueprint-config", &text)).unwrap();
        let new = new_function("job-1", &config, bytes::Bytes::new()).unwrap();
        let limits = new.settings.limits;
        assert_eq!(
            (limits.memory_mib, limits.timeout_ms, limits.max_concurrency),
            (Some(256), Some(5_000), Some(10))
        );
        assert_eq!(new.settings.environment.unwrap().variables()["A"], "1");
    }

    #[test]
    fn bad_configurations_and_ids_name_what_is_wrong() {
        let refusal = config(&headers("x-blueprint-config", "%%%")).err().unwrap();
        assert!(refusal.message().starts_with("X-Blueprint-Config: "));
        let text = STANDARD.encode(r#"{"memory_mb": "x"}"#);
        let refusal = config(&headers("x-blueprint-config", &text)).err().unwrap();
        assert!(refusal.message().starts_with("X-Blueprint-Config: memory_mb: "), "{}", refusal.message());
        let refusal = new_function("../x", &Config::default(), bytes::Bytes::new()).err().unwrap();
        assert!(refusal.message().starts_with("function id: "), "{}", refusal.message());
        assert!(check_backend(&headers("x-execution-backend", "tangle")).is_err());
        assert!(check_backend(&headers("x-execution-backend", "local")).is_ok());
    }
}
