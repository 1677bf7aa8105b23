//! Every error in the dialect's shape: `{"success": false, "error": {"code", "message", "details"}}`.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use impuls_control::ControlError;
use impuls_dispatch::DispatchError;
use impuls_ingress::{BodyError, Incident, chain};
use serde::Serialize;

/// How long to wait after a failure that may pass by itself.
const RETRY: Duration = Duration::from_secs(1);

/// What kind of refusal it is: its `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Validation,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    RateLimit,
    Unavailable,
    Internal,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            Self::Validation => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::Conflict => (StatusCode::CONFLICT, "CONFLICT"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BAD_REQUEST"),
            Self::RateLimit => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        }
    }
}

/// An error reply.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    message: String,
    details: Option<String>,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    success: bool,
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: None, retry_after: None }
    }

    /// A request that is not as it must be; the reason is in the details.
    pub(crate) fn invalid(reason: impl std::fmt::Display) -> Self {
        Self { details: Some(reason.to_string()), ..Self::new(Kind::Validation, "Validation failed") }
    }

    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(255).collect();
        Self { details: Some(format!("id: {id}")), ..Self::new(Kind::NotFound, format!("{what} not found")) }
    }

    fn later(kind: Kind, message: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(kind, message) }
    }

    fn platform(error: &(dyn std::error::Error + 'static), is_retryable: bool) -> Self {
        let incident = Incident::log(error, is_retryable);
        if is_retryable {
            return Self::later(Kind::Unavailable, incident.text(), RETRY);
        }
        Self::new(Kind::Internal, incident.text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.kind.parts();
        let error = Body { code, message: &self.message, details: self.details.as_deref() };
        let mut response = (status, axum::Json(Envelope { success: false, error })).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let kind = match &error {
            BodyError::TooLarge { .. } => Kind::TooLarge,
            BodyError::TimedOut | BodyError::Broken(_) | BodyError::Json(_) => Kind::BadRequest,
        };
        Self { details: Some(error.to_string()), ..Self::new(kind, "Invalid request body") }
    }
}

impl From<DispatchError> for Refusal {
    fn from(error: DispatchError) -> Self {
        use DispatchError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(Kind::Forbidden, text),
            E::FunctionNotFound(id) => Self::not_found("function", id),
            E::QualifierNotFound { .. } => Self::new(Kind::NotFound, text),
            E::Throttled { retry_after } => Self::later(Kind::RateLimit, text, *retry_after),
            E::ShuttingDown => Self::later(Kind::Unavailable, text, RETRY),
            E::BadEvent(_) => Self::invalid(text),
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
            E::FunctionNotFound(id) => Self::not_found("function", id),
            E::InvocationNotFound(id) => Self::not_found("invocation", &id.to_string()),
            E::VersionNotFound { .. } | E::AliasNotFound { .. } => Self::new(Kind::NotFound, text),
            E::CodeTooLarge { .. } => Self::new(Kind::TooLarge, text),
            E::NameTaken(_) => {
                Self::new(Kind::Conflict, "a function of this name and version already exists")
            }
            E::NameFixed(_)
            | E::NothingToRollBack(_)
            | E::Runtime(_)
            | E::Limit(_)
            | E::Description(_)
            | E::CodeEmpty
            | E::NoCommand
            | E::Alias(_)
            | E::PageLimit { .. } => Self::invalid(text),
            E::Archive(_) => Self::invalid(chain(&error)),
            E::Contended(_) => Self::later(Kind::Conflict, text, RETRY),
            E::Stopping => Self::later(Kind::Unavailable, text, RETRY),
            E::Store(_) | E::Artifacts(_) | E::Damaged(_) => Self::platform(&error, error.is_retryable()),
        }
    }
}
