//! Every error in the dialect's shape: `{"success": false, "error": {"code", "message", "details"}}`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use impuls_ingress::{Denial, Situation};
use serde::Serialize;

/// An error reply.
#[derive(Debug)]
pub(crate) struct Refusal {
    denial: Denial,
    is_unknown_caller: bool,
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
    /// A request that is not as it must be.
    pub(crate) fn invalid(reason: impl std::fmt::Display) -> Self {
        Denial::new(Situation::Invalid, reason.to_string()).into()
    }

    /// An id of nothing.
    pub(crate) fn not_found(what: &'static str, id: &str) -> Self {
        let id = id.chars().take(255).collect();
        Denial::new(Situation::NotFound { what, id }, "").into()
    }

    /// Nobody said who the caller is.
    pub(crate) fn unauthorized() -> Self {
        let denial = Denial::new(Situation::Forbidden, "the caller is not known");
        Self { denial, is_unknown_caller: true }
    }

    fn parts(&self) -> (StatusCode, &'static str) {
        if self.is_unknown_caller {
            return (StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        }
        match &self.denial.situation {
            Situation::BadBody => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            Situation::Invalid => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
            Situation::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Situation::NotFound { .. } => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Situation::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Situation::NameTaken | Situation::Conflict => (StatusCode::CONFLICT, "CONFLICT"),
            Situation::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BAD_REQUEST"),
            Situation::TimedOut => (StatusCode::REQUEST_TIMEOUT, "BAD_REQUEST"),
            Situation::Throttled => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED"),
            Situation::Lost => (StatusCode::BAD_GATEWAY, "BAD_GATEWAY"),
            Situation::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
            Situation::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        }
    }

    /// The original's sentence, and what it does not say.
    fn texts(&self) -> (String, Option<String>) {
        let text = self.denial.message.clone();
        match &self.denial.situation {
            Situation::Invalid => ("Validation failed".to_owned(), Some(text)),
            Situation::BadBody => ("Invalid request body".to_owned(), Some(text)),
            Situation::NotFound { what, id } => (format!("{what} not found"), Some(format!("id: {id}"))),
            Situation::NameTaken => ("a function of this name and version already exists".to_owned(), None),
            Situation::Forbidden
            | Situation::WrongMethod
            | Situation::Conflict
            | Situation::TooLarge
            | Situation::TimedOut
            | Situation::Throttled
            | Situation::Lost
            | Situation::Unavailable
            | Situation::Internal => (text, None),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let ((status, code), (message, details)) = (self.parts(), self.texts());
        let error = Body { code, message: &message, details: details.as_deref() };
        let mut response = (status, axum::Json(Envelope { success: false, error })).into_response();
        if let Some(wait) = self.denial.retry_after_header() {
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

impl<E: Into<Denial>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { denial: error.into(), is_unknown_caller: false }
    }
}
