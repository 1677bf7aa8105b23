//! On whose behalf a request is made.

use http::request::Parts;
use impuls_domain::Caller;

/// What the authenticating layer left in the request's extensions; `None` means that the request has passed none and
/// must be denied.
#[must_use]
pub fn caller(parts: &Parts) -> Option<Caller> {
    parts.extensions.get::<Caller>().cloned()
}
