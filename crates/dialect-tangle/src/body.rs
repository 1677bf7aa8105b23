//! What handlers take from a request: the caller, and bodies within bounds.

use axum::body::Body;
use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use impuls_domain::Caller;
use impuls_ingress::{caller, path_text};
use serde::de::DeserializeOwned;

use crate::errors::{Kind, Refusal};
use crate::state::State;

/// The most bytes of a JSON body: five mebibytes of input written as a list of numbers, and room for the rest.
const JSON_LIMIT: usize = 24 * 1024 * 1024;
/// The most bytes of a package.
pub(crate) const PACKAGE_LIMIT: usize = 50 * 1024 * 1024;

/// On whose behalf the request is made.
pub(crate) struct Authenticated(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        caller(parts).map(Self).ok_or_else(|| Refusal::new(Kind::Unauthorized, "the caller is not known"))
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

/// Reads a JSON body.
pub(crate) async fn json<T: DeserializeOwned>(
    state: &State,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refusal> {
    Ok(state.room.json(headers, body, JSON_LIMIT).await?)
}
