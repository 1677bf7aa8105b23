//! `/functions`: creating, reading, changing and deleting functions.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use http::{HeaderMap, StatusCode};
use impuls_control::{FunctionListQuery, FunctionRef};
use impuls_domain::FunctionId;
use serde::{Deserialize, Serialize};

use crate::errors::Refusal;
use crate::router::{Authenticated, PathText, State};
use crate::wire::{ChangeBody, Envelope, FunctionObject, NewBody, word};

/// The most bytes of a body: 50 MiB as base64, and room for the rest.
const BODY_LIMIT: usize = 72 * 1024 * 1024;
/// Functions on a page when nothing is said, as in the original, and at most.
const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 1_000;

/// Which functions are wanted.
#[derive(Deserialize)]
pub(crate) struct ListQuery {
    runtime: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Serialize)]
pub(crate) struct Deleted {
    message: &'static str,
}

/// The id in a path; what is no id is the id of nothing.
pub(crate) fn id(text: &str) -> Result<FunctionId, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("function", text))
}

/// The page that is asked for.
pub(crate) fn limit(asked: Option<usize>, max: usize) -> Result<usize, Refusal> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(Refusal::invalid(format_args!("limit is {limit}; 1 to {max} are allowed")))
}

/// `POST /functions`
pub(crate) async fn create_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Envelope<FunctionObject>>), Refusal> {
    let body: NewBody = state.bodies.json(&headers, body, BODY_LIMIT).await?;
    let created = state.control.create_function(&caller, body.into_new()?).await?;
    Ok((StatusCode::CREATED, Envelope::of((&created).into())))
}

/// `GET /functions`
pub(crate) async fn list_functions(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Envelope<Vec<FunctionObject>>>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
    let limit = limit(query.limit, MAX_LIMIT)?;
    if let Some(runtime) = &query.runtime {
        let name = crate::wire::runtime(runtime)?;
        state.control.resolve_runtime(&caller, &name)?;
    }
    let list = state.control.list_functions(&caller, FunctionListQuery::default()).await?;
    let is_wanted = |runtime: &str| {
        query.runtime.as_deref().is_none_or(|asked| asked == word(runtime) || asked == runtime)
    };
    let wanted = list.functions.iter().filter(|found| is_wanted(found.latest.config.runtime.as_str()));
    Ok(Envelope::of(wanted.skip(query.offset).take(limit).map(FunctionObject::from).collect()))
}

/// `GET /functions/{id}`
pub(crate) async fn get_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(text): PathText,
) -> Result<Json<Envelope<FunctionObject>>, Refusal> {
    let found = state.control.get_function(&caller, &FunctionRef::from(id(&text)?)).await?;
    Ok(Envelope::of((&found).into()))
}

/// `PUT /functions/{id}`
pub(crate) async fn update_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(text): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Envelope<FunctionObject>>, Refusal> {
    let body: ChangeBody = state.bodies.json(&headers, body, BODY_LIMIT).await?;
    let change = body.into_change()?;
    let changed = state.control.update_function(&caller, &FunctionRef::from(id(&text)?), change).await?;
    Ok(Envelope::of((&changed).into()))
}

/// `DELETE /functions/{id}`
pub(crate) async fn delete_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(text): PathText,
) -> Result<Json<Envelope<Deleted>>, Refusal> {
    state.control.delete_function(&caller, &FunctionRef::from(id(&text)?)).await?;
    Ok(Envelope::of(Deleted { message: "Function deleted successfully" }))
}
