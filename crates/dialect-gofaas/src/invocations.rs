//! `/invoke` and `/invocations`: calls that are accepted now and looked up later.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use impuls_control::AsyncInvocationPage;
use impuls_dispatch::{DeliveryOptions, FunctionRef, InvokeOptions, Retry, SubmitRequest};
use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::{AsyncStatus, Qualifier, RetryPolicy};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::duration::Timeout;
use crate::errors::Refusal;
use crate::functions::{id, limit};
use crate::router::{Authenticated, PathText, State};
use crate::wire::{Accepted, Envelope, InvocationObject, InvokeBody, instant, status};

/// The most bytes of a body: the largest event, and room for headers.
const BODY_LIMIT: usize = PAYLOAD_LIMIT + 256 * 1024;
/// Invocations on one page at most; each may hold an event and a result of 6 MiB.
const MAX_LIMIT: usize = 200;
/// The most bytes of headers that a call may bring.
const HEADERS_LIMIT: usize = 64 * 1024;

/// `POST /invoke`
pub(crate) async fn invoke(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Envelope<Accepted>>), Refusal> {
    let body: InvokeBody = state.bodies.json(&headers, body, BODY_LIMIT).await?;
    if body.function_id.is_empty() {
        return Err(Refusal::invalid("function_id is required"));
    }
    let function = id(&body.function_id)?;
    let event = body.payload.map_or_else(|| Bytes::from_static(b"null"), text);
    let timeout = body.timeout.as_ref().map(Timeout::duration).transpose().map_err(Refusal::invalid)?;
    let context = serde_json::json!({ "headers": body.headers.unwrap_or_default() }).to_string();
    if context.len() > HEADERS_LIMIT {
        return Err(Refusal::invalid(format_args!("headers have more than {HEADERS_LIMIT} bytes")));
    }
    let request = SubmitRequest {
        function: FunctionRef::Id(function),
        qualifier: Qualifier::Latest,
        event,
        options: InvokeOptions { timeout, context: context.into(), ..InvokeOptions::default() },
        // What a program of this dialect answers is final.
        delivery: DeliveryOptions { retry: Retry::Exactly(RetryPolicy::FINAL), ..DeliveryOptions::default() },
    };
    let accepted = state.dispatch.submit(&caller, request).await?;
    let reply = Accepted {
        invocation_id: accepted.id.as_uuid(),
        function_id: accepted.function.as_uuid(),
        status: status(accepted.status),
        created_at: instant(accepted.created_at),
    };
    Ok((StatusCode::ACCEPTED, Envelope::of(reply)))
}

fn text(raw: Box<RawValue>) -> Bytes {
    Bytes::from(String::from(Box::<str>::from(raw)))
}

/// Which invocations are wanted.
#[derive(Deserialize)]
pub(crate) struct ListQuery {
    function_id: Option<String>,
    status: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: u32,
}

/// `GET /invocations`
pub(crate) async fn list_invocations(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Envelope<Vec<InvocationObject>>>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
    let function = query.function_id.as_deref().map(str::parse).transpose();
    let asked = query.status.as_deref();
    let status =
        asked.map(|asked| AsyncStatus::ALL.into_iter().find(|known| status(*known) == asked).ok_or(asked));
    let page = AsyncInvocationPage {
        function: function.map_err(|error| Refusal::invalid(format_args!("function_id: {error}")))?,
        status: status.transpose().map_err(|asked| {
            let known: BTreeSet<&str> = AsyncStatus::ALL.into_iter().map(crate::wire::status).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            Refusal::invalid(format_args!("status {asked:?} is none of {known}"))
        })?,
        offset: query.offset,
        limit: u32::try_from(limit(query.limit, MAX_LIMIT)?).unwrap_or(u32::MAX),
        ..AsyncInvocationPage::default()
    };
    let found = state.control.list_async_invocations(&caller, page).await?;
    Ok(Envelope::of(found.into_iter().map(InvocationObject::from).collect()))
}

/// `GET /invocations/{id}`
pub(crate) async fn get_invocation(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(text): PathText,
) -> Result<Json<Envelope<InvocationObject>>, Refusal> {
    let id = text.parse().map_err(|_| Refusal::not_found("invocation", &text))?;
    Ok(Envelope::of(state.control.get_async_invocation(&caller, id).await?.into()))
}
