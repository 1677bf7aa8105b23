//! The part of a path that a route names.

use axum::extract::{FromRequestParts as _, Path};
use http::request::Parts;

use crate::denial::{Denial, Situation};

/// The one part of the path that the route names, decoded. Fails on what is no UTF-8 text once it is.
pub async fn path_text(parts: &mut Parts) -> Result<String, Denial> {
    let path = Path::<String>::from_request_parts(parts, &()).await;
    let refused =
        |_| Denial::new(Situation::Invalid, "path: it is not UTF-8 text once its %-escapes are decoded");
    path.map(|path| path.0).map_err(refused)
}
