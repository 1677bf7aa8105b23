//! Calls and their records.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State as Extract};
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use impuls_control::InvocationPage;
use impuls_dispatch::{FunctionRef, InvokeOptions, InvokeRequest};
use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::{ErrorType, Excerpt, Invocation, InvocationStatus, Qualifier};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::errors::Refusal;
use crate::functions::reference;
use crate::router::{Authenticated, PathText, State};
use crate::wire::{InvokeBody, InvokeReply, LogItem, instant, kept, log_lines};

/// The most bytes of a body: the largest event and its wrapping.
const BODY_LIMIT: usize = PAYLOAD_LIMIT + 1024;
/// Records on a page when nothing is said, and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;
/// Records that are read at once.
const PAGE: u32 = 200;

/// `POST /v1/functions/{id}/invoke`
pub(crate) async fn invoke_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body: InvokeBody = state.bodies.json(&headers, body, BODY_LIMIT).await?;
    let event = String::from(Box::<str>::from(body.event)).into();
    let function = FunctionRef::Text(&id);
    let options = InvokeOptions { keep_exchange: true, ..InvokeOptions::default() };
    let request = InvokeRequest { function, qualifier: Qualifier::Latest, event, options };
    let invoked = state.dispatch.invoke(&caller, request).await?;
    let outcome = &invoked.outcome;
    let duration_ms = u64::try_from(outcome.usage.duration.as_millis()).unwrap_or(u64::MAX);
    let (status, response, error) = match &outcome.result {
        // The function's own runtime made it; what is no JSON is no answer.
        Ok(body) => match serde_json::from_slice::<&RawValue>(body) {
            Ok(response) => ("success", Some(response), None),
            Err(_) => ("error", None, Some("the function's result is not JSON")),
        },
        Err(failure) if failure.error_type == ErrorType::Timeout => {
            ("timeout", None, Some(failure.message.as_str()))
        }
        Err(failure) => ("error", None, Some(failure.message.as_str())),
    };
    let request_id = invoked.id.as_uuid();
    let logs = log_lines(&outcome.logs);
    Ok(Json(InvokeReply { request_id, status, duration_ms, response, logs, error }).into_response())
}

/// Which records are wanted.
#[derive(Deserialize)]
pub(crate) struct LogQuery {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    status: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Items {
    items: Vec<LogItem>,
}

/// `GET /v1/functions/{id}/logs`
pub(crate) async fn list_logs(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Items>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::invalid("query", error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refusal::invalid(
            "limit",
            format_args!("{limit} is not possible; 1 to {MAX_LIMIT} are allowed"),
        ));
    }
    let status = query.status.as_deref().map(status).transpose()?;
    let reference = reference(&id)?;
    let mut items = Vec::new();
    while items.len() < limit as usize {
        let read = u32::try_from(items.len()).unwrap_or(MAX_LIMIT);
        let page = InvocationPage { status, offset: query.offset + read, limit: (limit - read).min(PAGE) };
        let records = state.control.list_invocations(&caller, &reference, page).await?;
        let is_last = records.len() < page.limit as usize;
        items.extend(records.iter().map(item));
        if is_last {
            break;
        }
    }
    Ok(Json(Items { items }))
}

fn status(word: &str) -> Result<InvocationStatus, Refusal> {
    match word {
        "success" => Ok(InvocationStatus::Succeeded),
        "error" => Ok(InvocationStatus::Failed),
        "timeout" => Ok(InvocationStatus::Timeout),
        other => {
            Err(Refusal::invalid("status", format_args!("{other:?} is none of success, error, timeout")))
        }
    }
}

fn item(record: &Invocation) -> LogItem {
    let status = match record.status {
        InvocationStatus::Succeeded => "success",
        InvocationStatus::Timeout => "timeout",
        InvocationStatus::Failed | InvocationStatus::Cancelled => "error",
    };
    let event = record.exchange.as_ref().map(|exchange| &exchange.event);
    let response = record.exchange.as_ref().and_then(|exchange| exchange.response.as_ref());
    let is_cut = |excerpt: &Excerpt| !excerpt.is_whole();
    LogItem {
        id: record.id.as_uuid(),
        function_id: record.function.as_uuid(),
        status,
        duration_ms: u64::try_from(record.usage.duration.as_millis()).unwrap_or(u64::MAX),
        memory_used_mb: None,
        request_id: record.id.as_uuid(),
        event: event.and_then(kept),
        event_truncated: event.is_some_and(is_cut),
        response: response.and_then(kept),
        response_truncated: response.is_some_and(is_cut),
        logs: log_lines(&record.logs),
        error: record.failure.as_ref().map(|failure| failure.message.clone()),
        invoked_at: instant(record.started_at),
    }
}
