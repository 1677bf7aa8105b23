//! Every error in the dialect's shape: `{"error": text, "code": word}`. The original sends bare statuses from its
//! gateway, `{error}` for packages and `{error, code}` from its operator; this is all three at once.

use std::error::Error;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use impuls_control::ControlError;
use impuls_dispatch::DispatchError;
use impuls_ingress::{Incident, chain};
use serde::Serialize;

/// How long to wait after a failure that may pass by itself.
const RETRY: Duration = Duration::from_secs(1);

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
    /// A running execution has this id.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// Too much is running and waiting.
    RateLimit,
    /// This server cannot do it at all.
    NotImplemented,
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
            Self::Conflict => (StatusCode::CONFLICT, "CONFLICT"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE"),
            Self::RateLimit => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED"),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
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
    retry_after: Option<Duration>,
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

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// A failure of the platform: logged under an id, which is all that the caller sees.
    fn platform(error: &(dyn Error + 'static), retryable: bool) -> Self {
        let incident = Incident::log(error, retryable);
        if retryable {
            return Self::new(Kind::Unavailable, incident.text()).retry_after(RETRY);
        }
        Self::new(Kind::Internal, incident.text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.kind.parts();
        let mut response = (status, axum::Json(Body { error: &self.message, code })).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<DispatchError> for Refusal {
    fn from(error: DispatchError) -> Self {
        use DispatchError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(Kind::Forbidden, text),
            E::FunctionNotFound(_) | E::QualifierNotFound { .. } => Self::new(Kind::NotFound, text),
            E::Throttled { retry_after } => Self::new(Kind::RateLimit, text).retry_after(*retry_after),
            E::ShuttingDown => Self::new(Kind::Unavailable, text),
            E::BadEvent(_) => Self::new(Kind::Invalid, text),
            E::EventTooLarge { .. } => Self::new(Kind::TooLarge, text),
            E::Sandbox(_) | E::Code(_) | E::Store(_) => Self::platform(&error, error.is_retryable()),
        }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        use ControlError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(Kind::Forbidden, text),
            E::FunctionNotFound(_)
            | E::VersionNotFound { .. }
            | E::AliasNotFound { .. }
            | E::InvocationNotFound(_) => Self::new(Kind::NotFound, text),
            E::CodeTooLarge { .. } => Self::new(Kind::TooLarge, text),
            // The original answers 400 to an id that is taken.
            E::NameTaken(_)
            | E::NameFixed(_)
            | E::NothingToRollBack(_)
            | E::Runtime(_)
            | E::Limit(_)
            | E::Description(_)
            | E::CodeEmpty
            | E::NoCommand
            | E::Alias(_)
            | E::PageLimit { .. } => Self::new(Kind::Invalid, text),
            E::Archive(_) => Self::new(Kind::Invalid, chain(&error)),
            E::Contended(_) => Self::new(Kind::Conflict, text).retry_after(RETRY),
            E::Stopping => Self::new(Kind::Unavailable, text),
            E::Store(_) | E::Artifacts(_) | E::Damaged(_) => Self::platform(&error, error.is_retryable()),
        }
    }
}

#[cfg(test)]
mod tests {
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
