//! Every error of the native API as `application/problem+json` (RFC 9457): one exhaustive match per error enum.
//!
//! Besides the members of the RFC a problem has `error: true` and `message` (the same text as `detail`), which is
//! the shape that older clients know. A failure of the platform (5xx) shows an id instead of its text; the text is
//! logged with the id, here, where the error ends. A function's own failure is never a problem.

mod kind;

use std::error::Error;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use impuls_control::ControlError;
use impuls_dispatch::DispatchError;
use impuls_domain::{LimitError, Qualifier, QualifierError};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

pub use kind::ProblemKind;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How long to wait after a failure that may pass by itself.
const RETRY: Duration = Duration::from_secs(1);

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    id: Option<Uuid>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

/// The body of an error reply.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// The stable name of the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:impuls:problem:function-not-found")]
    kind: String,
    /// What kind of problem it is, for a person.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request, for a person.
    detail: String,
    /// Always true.
    error: bool,
    /// The same as `detail`.
    message: String,
    /// Under which id the server's log tells more; only with status 500 and above.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
}

/// The request is refused, or the server failed (RFC 9457).
#[derive(utoipa::ToResponse)]
#[response(
    content_type = "application/problem+json",
    headers(("Retry-After" = u64, description = "Seconds after which trying again may help; not always there"))
)]
#[expect(dead_code, reason = "describes replies; `Problem` makes them")]
pub(crate) struct ProblemReply(ProblemBody);

impl Problem {
    /// A problem whose text is for the caller.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), id: None, retry_after: None, allow: None }
    }

    /// What is wrong, for a person.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A field of the request that is not as it must be: `field: message`.
    #[must_use]
    pub fn invalid(field: &str, message: impl std::fmt::Display) -> Self {
        Self::new(ProblemKind::InvalidRequest, format!("{field}: {message}"))
    }

    /// A body larger than so many bytes.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(ProblemKind::TooLarge, format!("the body has more than {limit} bytes, which is the limit"))
    }

    /// A path that is not there.
    #[must_use]
    pub fn route_not_found(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            ProblemKind::RouteNotFound,
            format!("there is nothing at {path}; GET /openapi.json lists all paths"),
        )
    }

    /// A path that takes only other methods; `allow` names them, if the router does not add them itself.
    #[must_use]
    pub fn method_not_allowed(method: &http::Method, allow: Option<&'static str>) -> Self {
        let detail = format!("{method} is not possible here; the header Allow names what is");
        Self { allow, ..Self::new(ProblemKind::MethodNotAllowed, detail) }
    }

    /// A failure of the platform. Logs it under a new id, which is all that the caller sees.
    #[must_use]
    pub fn platform(kind: ProblemKind, error: &(dyn Error + 'static)) -> Self {
        let id = Uuid::now_v7();
        let cause = chain(error);
        match kind {
            ProblemKind::ShuttingDown => tracing::debug!(%id, error = %cause, "a request came too late"),
            ProblemKind::NoSandbox => tracing::warn!(%id, error = %cause, "a call got no sandbox"),
            _ => tracing::error!(%id, error = %cause, "a request failed"),
        }
        let (_, _, title) = kind.parts();
        Self { id: Some(id), ..Self::new(kind, format!("{title}; its log says more under the id {id}")) }
    }

    /// The same problem, with the time after which trying again may help.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// What kind of problem it is.
    #[must_use]
    pub const fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// The reply for whoever speaks HTTP without axum: status, whole seconds for `Retry-After`, body. The media
    /// type is [`PROBLEM_JSON`].
    #[must_use]
    pub fn render(&self) -> (StatusCode, Option<u64>, Bytes) {
        let (status, name, title) = self.kind.parts();
        let body = ProblemBody {
            kind: format!("urn:impuls:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail.clone(),
            error: true,
            message: self.detail.clone(),
            id: self.id,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        (status, self.retry_after.map(whole_seconds), body.into())
    }
}

/// Rounded up, so that whoever waits exactly so long is not early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// An error and all its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after, body) = self.render();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        use ControlError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(ProblemKind::Denied, text),
            E::FunctionNotFound(_) => Self::new(ProblemKind::FunctionNotFound, text),
            E::VersionNotFound { .. } => Self::new(ProblemKind::VersionNotFound, text),
            E::AliasNotFound { .. } => Self::new(ProblemKind::AliasNotFound, text),
            E::InvocationNotFound(_) => Self::new(ProblemKind::InvocationNotFound, text),
            E::ScheduleNotFound { .. } => Self::new(ProblemKind::ScheduleNotFound, text),
            E::ScheduleExists { .. } | E::TooManySchedules(_) => Self::new(ProblemKind::ScheduleTaken, text),
            E::Cadence(_) => Self::new(ProblemKind::InvalidRequest, text),
            E::ScheduledEvent => Self::new(ProblemKind::TooLarge, text),
            E::NameTaken(_) => Self::new(ProblemKind::NameTaken, text),
            E::NothingToRollBack(_) => Self::new(ProblemKind::NothingToRollBack, text),
            E::Contended(_) => Self::new(ProblemKind::Contended, text).retry_after(RETRY),
            E::Runtime(_) => Self::new(ProblemKind::RuntimeUnavailable, format!("runtime: {text}")),
            E::NameFixed(_) => Self::invalid("name", text),
            E::Limit(refusal) => limit(refusal),
            E::Description(_) => Self::invalid("description", text),
            E::NoCommand => Self::invalid("command", text),
            E::CodeEmpty => Self::invalid("code", text),
            E::CodeTooLarge { .. } => Self::new(ProblemKind::TooLarge, format!("code: {text}")),
            E::Archive(refusal) => Self::invalid("zip", chain(refusal)),
            E::Alias(_) => Self::invalid("versions", text),
            E::PageLimit { limit, max } => {
                Self::invalid("limit", format_args!("{limit} is not possible; 1 to {max} are allowed"))
            }
            E::Stopping => Self::platform(ProblemKind::ShuttingDown, &error),
            E::Store(_) | E::Artifacts(_) | E::Damaged(_) | E::Build(_) => {
                unable(error.is_retryable(), &error)
            }
        }
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        use DispatchError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(ProblemKind::Denied, text),
            E::FunctionNotFound(_) => Self::new(ProblemKind::FunctionNotFound, text),
            E::QualifierNotFound { qualifier: Qualifier::Alias(_), .. } => {
                Self::new(ProblemKind::AliasNotFound, text)
            }
            E::QualifierNotFound { qualifier: Qualifier::Latest | Qualifier::Version(_), .. } => {
                Self::new(ProblemKind::VersionNotFound, text)
            }
            E::InvocationNotFound(_) => Self::new(ProblemKind::InvocationNotFound, text),
            E::KeyTaken(_) => Self::new(ProblemKind::KeyTaken, text),
            E::Settled { .. } => Self::new(ProblemKind::Settled, text),
            E::Limit(refusal) => limit(refusal),
            E::Throttled { retry_after } => Self::new(ProblemKind::Throttled, text).retry_after(*retry_after),
            E::Deploying(_) => Self::new(ProblemKind::Deploying, text).retry_after(RETRY),
            E::ShuttingDown => Self::platform(ProblemKind::ShuttingDown, &error),
            E::BadEvent(_) => Self::new(ProblemKind::InvalidEvent, text),
            E::InputBroken(_) => Self::new(ProblemKind::InvalidRequest, text),
            E::EventTooLarge { .. } => Self::new(ProblemKind::TooLarge, text),
            E::NoNetwork => Self::new(ProblemKind::NetworkUnavailable, text),
            E::Sandbox(cause) if cause.is_retryable() => {
                Self::platform(ProblemKind::NoSandbox, &error).retry_after(RETRY)
            }
            E::Sandbox(_) | E::Code(_) | E::Store(_) => unable(error.is_retryable(), &error),
        }
    }
}

fn limit(refusal: &LimitError) -> Problem {
    let (value, min, max) = (refusal.value, refusal.min, refusal.max);
    Problem::invalid(refusal.field, format_args!("{value} is not possible; {min} to {max} are allowed"))
}

fn unable(retryable: bool, error: &(dyn Error + 'static)) -> Problem {
    if retryable {
        Problem::platform(ProblemKind::Unavailable, error).retry_after(RETRY)
    } else {
        Problem::platform(ProblemKind::Internal, error)
    }
}

impl From<QualifierError> for Problem {
    fn from(error: QualifierError) -> Self {
        Self::invalid("qualifier", chain(&error))
    }
}

#[cfg(test)]
mod tests;
