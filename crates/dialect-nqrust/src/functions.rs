//! `/v1/functions`: creating, reading, changing and deleting functions.

use axum::Json;
use axum::body::Body;
use axum::extract::State as Extract;
use http::HeaderMap;
use impuls_control::{FunctionListQuery, FunctionRef, FunctionSnapshot, InvocationPage};
use impuls_dispatch::LiveSandbox;
use impuls_domain::{Caller, Scope};
use serde::Serialize;
use uuid::Uuid;

use crate::errors::Refusal;
use crate::router::{Authenticated, PathText, State};
use crate::vms::newest_of;
use crate::wire::{FunctionBody, FunctionItem};

/// The most bytes of a body: 50 MiB of source, with every character escaped at worst once, and room for the rest.
const BODY_LIMIT: usize = 100 * 1024 * 1024;

#[derive(Serialize)]
pub(crate) struct Created {
    id: Uuid,
}

#[derive(Serialize)]
pub(crate) struct Item {
    item: FunctionItem,
}

#[derive(Serialize)]
pub(crate) struct Items {
    items: Vec<FunctionItem>,
}

#[derive(Serialize)]
pub(crate) struct Deleted {
    message: &'static str,
    ok: bool,
}

/// The function of an id; the name of one is taken as well.
pub(crate) fn reference(id: &str) -> Result<FunctionRef, Refusal> {
    Ok(FunctionRef::parse(Scope::default(), id)?)
}

/// `POST /v1/functions`
pub(crate) async fn create_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Created>, Refusal> {
    let body: FunctionBody = state.bodies.json(&headers, body, BODY_LIMIT).await?;
    let created = state.control.create_function(&caller, body.into_new()?).await?;
    Ok(Json(Created { id: created.function.id.as_uuid() }))
}

/// `GET /v1/functions`
pub(crate) async fn list_functions(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
) -> Result<Json<Items>, Refusal> {
    let list = state.control.list_functions(&caller, FunctionListQuery::default()).await?;
    // Once for all of them: where functions run on many machines, each is asked.
    let sandboxes = state.dispatch.list_sandboxes(&caller).await?;
    let mut items = Vec::with_capacity(list.functions.len());
    for snapshot in &list.functions {
        items.push(item(&state, &caller, snapshot, &sandboxes).await?);
    }
    Ok(Json(Items { items }))
}

/// `GET /v1/functions/{id}`
pub(crate) async fn get_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
) -> Result<Json<Item>, Refusal> {
    let snapshot = state.control.get_function(&caller, &reference(&id)?).await?;
    let sandboxes = state.dispatch.list_sandboxes(&caller).await?;
    Ok(Json(Item { item: item(&state, &caller, &snapshot, &sandboxes).await? }))
}

/// `PUT /v1/functions/{id}`
pub(crate) async fn update_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Item>, Refusal> {
    let body: FunctionBody = state.bodies.json(&headers, body, BODY_LIMIT).await?;
    let change = body.into_change()?;
    let snapshot = state.control.update_function(&caller, &reference(&id)?, change).await?;
    let sandboxes = state.dispatch.list_sandboxes(&caller).await?;
    Ok(Json(Item { item: item(&state, &caller, &snapshot, &sandboxes).await? }))
}

/// `DELETE /v1/functions/{id}`
pub(crate) async fn delete_function(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
) -> Result<Json<Deleted>, Refusal> {
    state.control.delete_function(&caller, &reference(&id)?).await?;
    Ok(Json(Deleted { message: "Function deleted", ok: true }))
}

async fn item(
    state: &State,
    caller: &Caller,
    snapshot: &FunctionSnapshot,
    sandboxes: &[LiveSandbox],
) -> Result<FunctionItem, Refusal> {
    let code = state.control.read_source(caller, snapshot).await?;
    let newest = InvocationPage { status: None, offset: 0, limit: 1 };
    let records = state.control.list_invocations(caller, &snapshot.function.id.into(), newest).await?;
    let vm_id = newest_of(sandboxes, snapshot.function.id);
    Ok(FunctionItem::new(snapshot, code, records.first().map(|record| record.started_at), vm_id))
}
