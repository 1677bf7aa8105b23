//! What handlers work with, and which handler answers which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use impuls_control::Control;
use impuls_dispatch::Dispatch;
use tokio::time::Instant;

use crate::readiness::{Always, Ready};
use crate::routes::{
    aliases, automation, function_url, functions, invocations, logs, sandboxes, server, versions,
};
use crate::upload::UploadRoom;
use crate::wire::server::RuntimeInfo;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub control: Arc<Control>,
    /// The one way to run a function.
    pub dispatch: Arc<Dispatch>,
    /// Says which language runtimes there are.
    pub runtimes: Arc<dyn Fn() -> Vec<RuntimeInfo> + Send + Sync>,
    /// Since when calls are accepted.
    pub started: Instant,
    /// Room for large bodies.
    pub uploads: UploadRoom,
    /// Whether requests should come here.
    pub ready: Arc<dyn Ready>,
}

impl App {
    /// An application that accepts calls from now on.
    #[must_use]
    pub fn new(control: Arc<Control>, dispatch: Arc<Dispatch>, runtimes: Vec<RuntimeInfo>) -> Self {
        let uploads = UploadRoom::default();
        let runtimes = Arc::new(move || runtimes.clone());
        let ready = Arc::new(Always);
        Self { control, dispatch, runtimes, started: Instant::now(), uploads, ready }
    }

    /// The same, with somebody else who knows whether it is ready; without, it always is.
    #[must_use]
    pub fn with_readiness(self, ready: Arc<dyn Ready>) -> Self {
        Self { ready, ..self }
    }

    /// The same, with runtimes that come and go.
    #[must_use]
    pub fn with_runtimes(self, runtimes: impl Fn() -> Vec<RuntimeInfo> + Send + Sync + 'static) -> Self {
        Self { runtimes: Arc::new(runtimes), ..self }
    }
}

/// Everything but invocations, which [`crate::front`] answers itself. Every handler but those below `/health` and
/// `/openapi.json` needs an [`impuls_domain::Caller`] in the request's extensions and denies the request without.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/health", get(server::health))
        .route("/health/live", get(server::live))
        .route("/health/ready", get(server::ready))
        .route("/openapi.json", get(server::openapi_document))
        .route("/api/v1/runtimes", get(server::list_runtimes))
        .route("/api/v1/functions", get(functions::list_functions).post(functions::create_function))
        .route(
            "/api/v1/functions/{name}",
            get(functions::get_function)
                .put(functions::update_function)
                .patch(functions::update_function)
                .delete(functions::delete_function),
        )
        .route("/api/v1/functions/{name}/invoke", any(server::wrong_invoke_method))
        .route("/api/v1/functions/{name}/code", get(versions::read_code).put(versions::replace_code))
        .route("/api/v1/functions/{name}/versions", get(versions::list_versions))
        .route("/api/v1/functions/{name}/versions/{version}", get(versions::get_version))
        .route("/api/v1/functions/{name}/rollback", post(versions::rollback))
        .route("/api/v1/functions/{name}/aliases", get(aliases::list_aliases).post(aliases::post_alias))
        .route(
            "/api/v1/functions/{name}/aliases/{alias}",
            get(aliases::get_alias)
                .put(aliases::put_alias)
                .post(aliases::put_alias)
                .delete(aliases::delete_alias),
        )
        .route("/api/v1/functions/{name}/logs", get(logs::list_invocations))
        .route("/api/v1/functions/{name}/sandboxes", get(sandboxes::list_sandboxes))
        .merge(queue())
        // A name may have a colon and a qualifier, which the handler takes apart.
        .route("/fn/{name}", any(function_url::call))
        .route("/fn/{name}/", any(function_url::call))
        .route("/fn/{name}/{*path}", any(function_url::call))
        .fallback(server::unknown_path)
        .method_not_allowed_fallback(server::wrong_method)
        // Bodies are read by `upload::read`, which has bounds of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

/// Asynchronous invocations, their settings, and schedules.
fn queue() -> Router<App> {
    Router::new()
        .route(
            "/api/v1/functions/{name}/invocations",
            get(invocations::list_of_function).post(invocations::submit),
        )
        .route("/api/v1/functions/{name}/invocations/redrive", post(invocations::redrive_all))
        .route("/api/v1/invocations", get(invocations::list_invocations))
        .route("/api/v1/invocations/{id}", get(invocations::get_invocation).delete(invocations::cancel))
        .route("/api/v1/invocations/{id}/redrive", post(invocations::redrive))
        .route(
            "/api/v1/functions/{name}/async",
            get(automation::get_settings).put(automation::put_settings).delete(automation::reset_settings),
        )
        .route(
            "/api/v1/functions/{name}/schedules",
            get(automation::list_schedules).post(automation::create_schedule),
        )
        .route(
            "/api/v1/functions/{name}/schedules/{schedule}",
            get(automation::get_schedule).put(automation::put_schedule).delete(automation::delete_schedule),
        )
}

#[cfg(test)]
mod tests;
