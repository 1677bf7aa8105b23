//! Every error in the dialect's shape: `{"error": text, "code": word}`. The original sends bare statuses from its
//! gateway, `{error}` for packages and `{error, code}` from its operator; this is all three at once.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use impuls_ingress::{Denial, Situation};
use serde::Serialize;

/// What kind of refusal it is; the `code` of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request is not as it must be.
    Invalid,
    /// Nobody said who the caller is.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path exists, but not for this method.
    WrongMethod,
    /// A running execution has this id.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// Too much is running and waiting.
    RateLimit,
    /// This server cannot do it at all.
    NotImplemented,
    /// Whoever did it was lost before it answered.
    Lost,
    /// This server cannot do it now.
    Unavailable,
    /// This server failed.
    Internal,
    /// The package ran and failed.
    ExecutionFailed,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::Conflict => (StatusCode::CONFLICT, "CONFLICT"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE"),
            Self::RateLimit => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED"),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
            Self::Lost => (StatusCode::BAD_GATEWAY, "BAD_GATEWAY"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
            Self::ExecutionFailed => (StatusCode::INTERNAL_SERVER_ERROR, "EXECUTION_FAILED"),
        }
    }
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    kind: Kind,
    message: String,
    retry_after: Option<HeaderValue>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    code: &'static str,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// A field of the request that is not as it must be.
    pub(crate) fn invalid(field: &str, message: impl std::fmt::Display) -> Self {
        Self::new(Kind::Invalid, format!("{field}: {message}"))
    }

    /// Something that this server has nothing for; the text says what is missing.
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::new(Kind::NotImplemented, what)
    }

    /// The text for the caller.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.kind.parts();
        let mut response = (status, axum::Json(Body { error: &self.message, code })).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

impl<E: Into<Denial>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let denial = error.into();
        let kind = match &denial.situation {
            // The original answers 400 to an id that is taken.
            Situation::BadBody | Situation::Invalid | Situation::TimedOut | Situation::NameTaken => {
                Kind::Invalid
            }
            Situation::Forbidden => Kind::Forbidden,
            Situation::NotFound { .. } => Kind::NotFound,
            Situation::WrongMethod => Kind::WrongMethod,
            Situation::Conflict => Kind::Conflict,
            Situation::TooLarge => Kind::TooLarge,
            Situation::Throttled => Kind::RateLimit,
            Situation::Lost => Kind::Lost,
            Situation::Unavailable => Kind::Unavailable,
            Situation::Internal => Kind::Internal,
        };
        Self { kind, retry_after: denial.retry_after_header(), message: denial.message }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use impuls_control::ControlError;
    use impuls_dispatch::DispatchError;

    use super::*;

    #[test]
    fn a_refusal_is_one_shape_with_a_status_of_its_own() {
        let response = Refusal::missing("no snapshots here").into_response();
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
        let throttled = DispatchError::Throttled { retry_after: Duration::from_millis(1_500) };
        let response = Refusal::from(throttled).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn a_taken_id_is_the_callers_mistake() {
        let refusal = Refusal::from(ControlError::NameTaken("job".parse().unwrap()));
        assert_eq!((refusal.kind, refusal.message()), (Kind::Invalid, "function job already exists"));
    }
}
