//! What every refusal of the use cases means for a caller: the one exhaustive mapping behind the dialects' own shapes.

use std::time::Duration;

use http::{HeaderValue, Method};
use impuls_control::{ControlError, RuntimeRefusal};
use impuls_dispatch::DispatchError;

use crate::body::BodyError;
use crate::incident::{Incident, chain};

/// How long to wait after a failure that may pass by itself.
const RETRY: Duration = Duration::from_secs(1);

/// What kind of refusal it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// The body is not what can be read.
    BadBody,
    /// Something in the request is not as it must be.
    Invalid,
    /// The caller may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which one was asked for.
        id: String,
    },
    /// The path exists, but not for this method.
    WrongMethod,
    /// A function of this name exists.
    NameTaken,
    /// Somebody else changes the same thing.
    Conflict,
    /// It is larger than it may be.
    TooLarge,
    /// It did not arrive in time.
    TimedOut,
    /// Too much is running and waiting.
    Throttled,
    /// Whoever did it was lost before it answered.
    Lost,
    /// The server cannot do it now.
    Unavailable,
    /// The server failed.
    Internal,
}

/// A refusal that a dialect renders in its own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What kind it is.
    pub situation: Situation,
    /// One sentence for the caller. Of a failure of the platform it has only an id.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Denial {
    /// A refusal that trying again will not change.
    #[must_use]
    pub fn new(situation: Situation, message: impl Into<String>) -> Self {
        Self { situation, message: message.into(), retry_after: None }
    }

    /// The path of the request has other methods; the header `Allow` names them.
    #[must_use]
    pub fn wrong_method(method: &Method) -> Self {
        let text = format!("{method} is not possible here; the header Allow names the methods that are");
        Self::new(Situation::WrongMethod, text)
    }

    fn later(situation: Situation, message: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(situation, message) }
    }

    fn not_found(what: &'static str, id: &str, message: String) -> Self {
        // It is the caller's text, as long as the caller likes.
        let id = id.chars().take(255).collect();
        Self::new(Situation::NotFound { what, id }, message)
    }

    fn platform(error: &(dyn std::error::Error + 'static), is_retryable: bool) -> Self {
        let incident = Incident::log(error, is_retryable);
        if is_retryable {
            return Self::later(Situation::Unavailable, incident.text(), RETRY);
        }
        Self::new(Situation::Internal, incident.text())
    }

    /// The value of the header `Retry-After`: whole seconds, rounded up.
    #[must_use]
    pub fn retry_after_header(&self) -> Option<HeaderValue> {
        let seconds = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.retry_after.map(|wait| HeaderValue::from(seconds(wait)))
    }
}

impl From<BodyError> for Denial {
    fn from(error: BodyError) -> Self {
        let situation = match &error {
            BodyError::TooLarge { .. } => Situation::TooLarge,
            BodyError::TimedOut => Situation::TimedOut,
            BodyError::Broken(_) | BodyError::Json(_) => Situation::BadBody,
        };
        Self::new(situation, format!("invalid request body: {error}"))
    }
}

impl From<DispatchError> for Denial {
    fn from(error: DispatchError) -> Self {
        use DispatchError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(Situation::Forbidden, text),
            E::FunctionNotFound(id) => Self::not_found("function", id, text),
            E::QualifierNotFound { qualifier, .. } => {
                Self::not_found("version or alias", &qualifier.to_string(), text)
            }
            E::Throttled { retry_after } => Self::later(Situation::Throttled, text, *retry_after),
            E::ShuttingDown | E::Deploying(_) => Self::later(Situation::Unavailable, text, RETRY),
            E::NoWorker(_) => Self::later(Situation::Unavailable, text, RETRY),
            E::WorkerLost => Self::new(Situation::Lost, text),
            E::InvocationNotFound(id) => Self::not_found("invocation", &id.to_string(), text),
            E::KeyTaken(_) | E::Settled { .. } => Self::new(Situation::Conflict, text),
            E::BadEvent(_) | E::InputBroken(_) | E::NoNetwork | E::Limit(_) => {
                Self::new(Situation::Invalid, text)
            }
            E::EventTooLarge { .. } => Self::new(Situation::TooLarge, text),
            E::Sandbox(_) | E::Code(_) | E::Store(_) => Self::platform(&error, error.is_retryable()),
        }
    }
}

impl From<ControlError> for Denial {
    fn from(error: ControlError) -> Self {
        use ControlError as E;
        let text = error.to_string();
        match &error {
            E::Denied => Self::new(Situation::Forbidden, text),
            E::FunctionNotFound(id) => Self::not_found("function", id, text),
            E::InvocationNotFound(id) => Self::not_found("invocation", &id.to_string(), text),
            E::VersionNotFound { version, .. } => Self::not_found("version", &version.to_string(), text),
            E::AliasNotFound { alias, .. } => Self::not_found("alias", alias.as_str(), text),
            E::CodeTooLarge { .. } => Self::new(Situation::TooLarge, text),
            E::ScheduleNotFound { schedule, .. } => Self::not_found("schedule", schedule.as_str(), text),
            E::ScheduleExists { .. } | E::TooManySchedules(_) => Self::new(Situation::Conflict, text),
            E::ScheduledEvent => Self::new(Situation::TooLarge, text),
            E::NameTaken(_) => Self::new(Situation::NameTaken, text),
            E::Runtime(RuntimeRefusal::NoWorker) => Self::later(Situation::Unavailable, text, RETRY),
            E::NameFixed(_)
            | E::NothingToRollBack(_)
            | E::Runtime(_)
            | E::Limit(_)
            | E::Description(_)
            | E::CodeEmpty
            | E::NoCommand
            | E::Alias(_)
            | E::Cadence(_)
            | E::PageLimit { .. } => Self::new(Situation::Invalid, text),
            E::Archive(_) => Self::new(Situation::Invalid, chain(&error)),
            E::Contended(_) => Self::later(Situation::Conflict, text, RETRY),
            E::Stopping => Self::later(Situation::Unavailable, text, RETRY),
            E::Store(_) | E::Artifacts(_) | E::Damaged(_) | E::Build(_) => {
                Self::platform(&error, error.is_retryable())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_rounded_up_to_whole_seconds() {
        let wait = Denial::later(Situation::Throttled, "", Duration::from_millis(1_001));
        assert_eq!(wait.retry_after_header(), Some(HeaderValue::from(2)));
        assert_eq!(Denial::new(Situation::Invalid, "").retry_after_header(), None);
    }

    #[test]
    fn a_long_id_is_cut() {
        let denial = Denial::from(DispatchError::FunctionNotFound("x".repeat(1_000)));
        assert!(matches!(denial.situation, Situation::NotFound { id, .. } if id.len() == 255));
    }
}
