//! Every error in the dialect's shape: `{"error": text}`.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use impuls_control::ControlError;
use impuls_dispatch::DispatchError;
use impuls_ingress::{BodyError, Incident, chain};
use serde::Serialize;

/// How long to wait after a failure that may pass by itself.
const RETRY: Duration = Duration::from_secs(1);

/// An error reply.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// A field of the request that is not as it must be.
    pub(crate) fn invalid(field: &str, message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{field}: {message}"))
    }

    fn later(status: StatusCode, message: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(status, message) }
    }

    fn platform(error: &(dyn std::error::Error + 'static), is_retryable: bool) -> Self {
        let incident = Incident::log(error, is_retryable);
        if is_retryable {
            return Self::later(StatusCode::SERVICE_UNAVAILABLE, incident.text(), RETRY);
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, incident.text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(Body { error: &self.message })).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) | BodyError::Json(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, format!("invalid request body: {error}"))
    }
}

impl From<DispatchError> for Refusal {
    fn from(error: DispatchError) -> Self {
        use DispatchError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(StatusCode::FORBIDDEN, text),
            E::FunctionNotFound(_) | E::QualifierNotFound { .. } => Self::new(StatusCode::NOT_FOUND, text),
            E::Throttled { retry_after } => Self::later(StatusCode::TOO_MANY_REQUESTS, text, *retry_after),
            E::ShuttingDown => Self::later(StatusCode::SERVICE_UNAVAILABLE, text, RETRY),
            E::BadEvent(_) => Self::new(StatusCode::BAD_REQUEST, text),
            E::EventTooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            E::Sandbox(_) | E::Code(_) | E::Store(_) => Self::platform(&error, error.is_retryable()),
        }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        use ControlError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(StatusCode::FORBIDDEN, text),
            E::FunctionNotFound(_)
            | E::VersionNotFound { .. }
            | E::AliasNotFound { .. }
            | E::InvocationNotFound(_) => Self::new(StatusCode::NOT_FOUND, text),
            E::CodeTooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            E::NameTaken(_) => Self::new(StatusCode::CONFLICT, text),
            E::NameFixed(_)
            | E::NothingToRollBack(_)
            | E::Runtime(_)
            | E::Limit(_)
            | E::Description(_)
            | E::CodeEmpty
            | E::NoCommand
            | E::Alias(_)
            | E::PageLimit { .. } => Self::new(StatusCode::BAD_REQUEST, text),
            E::Archive(_) => Self::new(StatusCode::BAD_REQUEST, chain(&error)),
            E::Contended(_) => Self::later(StatusCode::CONFLICT, text, RETRY),
            E::Stopping => Self::later(StatusCode::SERVICE_UNAVAILABLE, text, RETRY),
            E::Store(_) | E::Artifacts(_) | E::Damaged(_) => Self::platform(&error, error.is_retryable()),
        }
    }
}
