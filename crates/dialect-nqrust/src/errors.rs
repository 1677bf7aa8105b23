//! Every error in the dialect's shape: `{"error": text}`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use impuls_ingress::{Denial, Situation};
use serde::Serialize;

/// An error reply.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    denial: Denial,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
}

impl Refusal {
    /// A field of the request that is not as it must be.
    pub(crate) fn invalid(field: &str, message: impl std::fmt::Display) -> Self {
        Denial::new(Situation::Invalid, format!("{field}: {message}")).into()
    }

    /// Something that this server has nothing for; the text says what there is instead.
    pub(crate) fn missing(message: &str) -> Self {
        Self { status: StatusCode::NOT_IMPLEMENTED, denial: Denial::new(Situation::Invalid, message) }
    }

    /// Nobody said who the caller is.
    pub(crate) fn unauthorized() -> Self {
        let denial = Denial::new(Situation::Forbidden, "the caller is not known");
        Self { status: StatusCode::UNAUTHORIZED, denial }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body { error: &self.denial.message };
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some(wait) = self.denial.retry_after_header() {
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

impl<E: Into<Denial>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let denial = error.into();
        let status = match &denial.situation {
            Situation::BadBody | Situation::Invalid => StatusCode::BAD_REQUEST,
            Situation::Forbidden => StatusCode::FORBIDDEN,
            Situation::NotFound { .. } => StatusCode::NOT_FOUND,
            Situation::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Situation::NameTaken | Situation::Conflict => StatusCode::CONFLICT,
            Situation::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Situation::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Situation::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Situation::Lost => StatusCode::BAD_GATEWAY,
            Situation::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Situation::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, denial }
    }
}
