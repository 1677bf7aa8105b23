//! What handlers take from a request; every refusal is a [`Problem`].

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use http::request::Parts;
use impuls_control::{ControlError, FunctionRef};
use impuls_domain::{Caller, Scope};
use serde::de::DeserializeOwned;

use crate::problem::{Problem, ProblemKind};
use crate::upload::{self, UploadRoom};

/// The most bytes of a body that carries no code.
pub(crate) const SMALL_BODY_LIMIT: usize = 1024 * 1024;

/// On whose behalf the request is made: what the authenticating layer left in the request's extensions. Without
/// that layer nothing is allowed.
pub(crate) struct Authenticated(pub(crate) Caller);

/// That a request passed no authenticating layer: the server is put together wrongly.
#[derive(Debug)]
struct Unauthenticated;

impl std::fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the request passed no layer that authenticates; it is denied")
    }
}

impl std::error::Error for Unauthenticated {}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Self).ok_or_else(|| Problem::platform(ProblemKind::Internal, &Unauthenticated))
    }
}

/// The parts of the path that the route names.
pub(crate) struct Path<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    axum::extract::Path<T>: FromRequestParts<S, Rejection = PathRejection>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|refusal| Problem::invalid("path", refusal.body_text()))
    }
}

/// The query parameters; unknown ones are ignored.
pub(crate) struct Query<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    axum::extract::Query<T>: FromRequestParts<S, Rejection = QueryRejection>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|refusal| Problem::invalid("query", cause(&refusal)))
    }
}

/// A small JSON body, whatever its content type says; an empty body is `{}`.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T>
where
    UploadRoom: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = upload::read(request, SMALL_BODY_LIMIT, &UploadRoom::from_ref(state)).await?.bytes;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        parse_json(text).map(Self)
    }
}

/// Parses a JSON body; the refusal names the member at fault.
pub(crate) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let parsed = axum::Json::from_bytes(body);
    parsed.map(|json| json.0).map_err(|refusal| {
        Problem::new(ProblemKind::InvalidRequest, format!("Invalid request body: {}", cause(&refusal)))
    })
}

/// The innermost cause, which says what is wrong and where without the framework's introduction.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Which function a path means: a UUID is an id, anything else a name of the native scope.
pub(crate) fn function(text: &str) -> Result<FunctionRef, ControlError> {
    FunctionRef::parse(Scope::default(), text)
}
