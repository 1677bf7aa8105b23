//! What handlers work with, and which handler answers which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::routing::{get, post};
use http::Method;
use http::request::Parts;
use impuls_control::Control;
use impuls_dispatch::Dispatch;
use impuls_domain::Caller;
use impuls_ingress::{BodyRoom, Denial, path_text};

use crate::errors::Refusal;
use crate::{functions, invocations};

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct State {
    pub(crate) control: Arc<Control>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) bodies: BodyRoom,
}

impl State {
    /// The dialect over these use cases.
    #[must_use]
    pub fn new(control: Arc<Control>, dispatch: Arc<Dispatch>) -> Self {
        Self { control, dispatch, bodies: BodyRoom::default() }
    }
}

/// On whose behalf the request is made.
pub(crate) struct Authenticated(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = impuls_ingress::caller(parts).map(Self);
        caller.ok_or_else(Refusal::unauthorized)
    }
}

/// What the path names, decoded.
pub(crate) struct PathText(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for PathText {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Ok(Self(path_text(parts).await?))
    }
}

/// What is said to a method that a path does not have.
async fn wrong_method(method: Method) -> Refusal {
    Denial::wrong_method(&method).into()
}

/// Every path of the dialect, without a fallback: to be merged with others. Every handler needs an
/// [`impuls_domain::Caller`] in the request's extensions and denies the request without.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/functions", get(functions::list_functions).post(functions::create_function))
        .route(
            "/functions/{id}",
            get(functions::get_function).put(functions::update_function).delete(functions::delete_function),
        )
        .route("/invoke", post(invocations::invoke))
        .route("/invocations", get(invocations::list_invocations))
        .route("/invocations/{id}", get(invocations::get_invocation))
        .method_not_allowed_fallback(wrong_method)
        // Bodies are read by `BodyRoom`, which has bounds of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}
