//! Which handler answers which path.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use http::Method;
use impuls_ingress::Denial;

use crate::errors::Refusal;
use crate::state::State;
use crate::{absent, blueprint, execute, metrics, pools, stream};

/// Every path of the dialect, without a fallback: to be merged with others. Every handler needs an
/// [`impuls_domain::Caller`] in the request's extensions and denies the request without.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/api/v1/execute", post(execute::execute))
        .route("/api/v1/execute/advanced", post(execute::execute))
        .route("/api/v1/prewarm", post(pools::prewarm))
        .route("/api/v1/pools", get(pools::list_pools))
        .route("/api/v1/metrics", get(metrics::summary))
        .route("/api/v1/metrics/detailed", get(metrics::detailed))
        .route("/api/v1/logs/{id}/stream", get(stream::stream_logs))
        .route("/api/v1/containers/{id}/stream", any(stream::socket::stream_container))
        .route("/api/v1/executions/{id}/stop", post(stream::stop))
        .route("/api/v1/executions/{id}/fork", any(absent::forks))
        .route("/api/v1/fork", any(absent::forks))
        .route("/api/v1/branches", any(absent::snapshots))
        .route("/api/v1/snapshots", any(absent::snapshots))
        .route("/api/v1/snapshots/{*rest}", any(absent::snapshots))
        .route("/api/v1/instances", any(absent::instances))
        .route("/api/v1/instances/{*rest}", any(absent::instances))
        .route("/api/v1/ports/expose", any(absent::ports))
        .route(
            "/api/blueprint/functions/{id}",
            get(blueprint::get_function).put(blueprint::put_function).delete(blueprint::delete_function),
        )
        .route("/api/blueprint/functions/{id}/invoke", post(blueprint::invoke))
        .route("/api/blueprint/functions/{id}/health", get(blueprint::health))
        .route("/api/blueprint/functions/{id}/warm", post(blueprint::warm))
        .method_not_allowed_fallback(wrong_method)
        // Bodies are read by `ingress::BodyRoom`, which has bounds of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

/// What is said to a method that a path does not have.
async fn wrong_method(method: Method) -> Refusal {
    Denial::wrong_method(&method).into()
}
