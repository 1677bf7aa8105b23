//! Sandboxes that wait for commands.

use axum::Json;
use axum::body::Body;
use http::HeaderMap;
use impuls_dispatch::CommandPool;
use serde::{Deserialize, Serialize};

use crate::body::{Authenticated, json};
use crate::errors::Refusal;
use crate::image;
use crate::state::State;

/// The body of `POST /api/v1/prewarm`.
#[derive(Deserialize)]
pub(crate) struct PrewarmBody {
    image: Option<String>,
    count: usize,
    runtime: Option<String>,
}

/// A pool. All images that can be run share the one of the machine's own programs.
#[derive(Serialize)]
pub(crate) struct PoolReply {
    image: String,
    /// Sandboxes that wait for a command.
    available: usize,
    /// How many are kept ready at the moment; the server's own bounds come first.
    target: usize,
    /// Commands that are running.
    in_use: usize,
}

impl PoolReply {
    fn new(image: String, pool: CommandPool) -> Self {
        Self { image, available: pool.ready, target: pool.target, in_use: pool.running }
    }
}

/// `POST /api/v1/prewarm`: keeps at least so many sandboxes ready from now on.
pub(crate) async fn prewarm(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PoolReply>, Refusal> {
    let body: PrewarmBody = json(&state, &headers, body).await?;
    let image = body.image.unwrap_or_else(|| image::DEFAULT.to_owned());
    image::check(&image)?;
    image::check_runtime(body.runtime.as_deref())?;
    Ok(Json(PoolReply::new(image, state.dispatch.prewarm_commands(&caller, body.count).await?)))
}

/// `GET /api/v1/pools`.
pub(crate) async fn list_pools(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
) -> Result<Json<[PoolReply; 1]>, Refusal> {
    Ok(Json([PoolReply::new(image::DEFAULT.to_owned(), state.dispatch.command_pool(&caller).await?)]))
}
