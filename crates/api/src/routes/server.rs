//! What is about the server and no function.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{Method, StatusCode, Uri, header};

use crate::app::App;
use crate::extract::Authenticated;
use crate::openapi::openapi_json;
use crate::problem::Problem;
use crate::readiness::Readiness;
use crate::wire::server::{Health, Probe, RuntimeList};

/// Whether the server accepts calls.
#[utoipa::path(get, path = "/health", tag = "server", responses((status = 200, description = "Calls are accepted", body = Health)))]
pub(crate) async fn health(State(app): State<App>) -> Json<Health> {
    let uptime = app.started.elapsed().as_millis();
    Json(Health {
        status: "healthy",
        service: "impuls",
        version: env!("CARGO_PKG_VERSION"),
        // This version has the process sandbox and no other.
        docker: false,
        firecracker: false,
        uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
    })
}

/// Whether the process works at all; whoever gets no answer may start it anew.
#[utoipa::path(get, path = "/health/live", tag = "server", responses((status = 200, description = "The server works", body = Probe)))]
pub(crate) async fn live() -> Json<Probe> {
    Json(Probe { status: "alive" })
}

/// Whether new requests should come here.
#[utoipa::path(
    get, path = "/health/ready", tag = "server",
    responses(
        (status = 200, description = "They should", body = Probe),
        (status = 503, description = "They should go to another server", body = Probe),
    )
)]
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Probe>) {
    let (code, status) = match app.ready.readiness().await {
        Readiness::Ready => (StatusCode::OK, "ready"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Readiness::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
    };
    (code, Json(Probe { status }))
}

/// The language runtimes that this server has.
#[utoipa::path(get, path = "/api/v1/runtimes", tag = "server", responses((status = 200, description = "The runtimes", body = RuntimeList)))]
pub(crate) async fn list_runtimes(
    State(app): State<App>,
    Authenticated(_): Authenticated,
) -> Json<RuntimeList> {
    let runtimes = (app.runtimes)();
    Json(RuntimeList { count: runtimes.len(), runtimes })
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "The OpenAPI document of this API", body = Object))
)]
pub(crate) async fn openapi_document() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(openapi_json);
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// Any path that is not there.
pub(crate) async fn unknown_path(uri: Uri) -> Problem {
    Problem::route_not_found(uri.path())
}

/// Any method that a path does not take; the router adds `Allow`.
pub(crate) async fn wrong_method(method: Method) -> Problem {
    Problem::method_not_allowed(&method, None)
}

/// The path of invocations with another method than `POST`, which is answered before this router.
pub(crate) async fn wrong_invoke_method(method: Method) -> Problem {
    Problem::method_not_allowed(&method, Some("POST"))
}
