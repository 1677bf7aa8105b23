//! Failures of the platform: logged under an id, which is all that a caller sees.

use std::error::Error;

use uuid::Uuid;

/// A failure that has been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What to look for in the server's log.
    pub id: Uuid,
    /// Whether the same request may succeed later.
    pub is_retryable: bool,
}

impl Incident {
    /// Logs a failure with its whole chain of causes, once, where it is turned into a reply.
    #[must_use]
    pub fn log(error: &(dyn Error + 'static), is_retryable: bool) -> Self {
        let (id, cause) = (Uuid::now_v7(), chain(error));
        if is_retryable {
            tracing::warn!(%id, error = %cause, "a request cannot be served now");
        } else {
            tracing::error!(%id, error = %cause, "a request failed");
        }
        Self { id, is_retryable }
    }

    /// One sentence for the caller.
    #[must_use]
    pub fn text(&self) -> String {
        let what = if self.is_retryable { "the server cannot do this now" } else { "the server failed" };
        format!("{what}; the server's log says more under the id {}", self.id)
    }
}

/// An error with all its causes in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
