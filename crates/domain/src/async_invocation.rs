//! An invocation that its caller does not wait for: accepted once it is stored, and then delivered until it has ended.
//!
//! ```text
//!             claim: attempt + 1, lease                      complete (same attempt)
//!   Queued ───────────────────────────────> Running ────────────────────────────────> Succeeded
//!     ▲                                      │   │                                     Failed
//!     └──────────────────────────────────────┘   └── lease expired ──> claimed again   Timeout
//!        put back (same attempt): the platform
//!        could not run it, and may try again
//! ```
//!
//! The attempt's number is the fence: whoever reports with another number than the stored one has lost its lease.

use std::time::Duration;

use time::OffsetDateTime;

use crate::id::{FunctionId, InvocationId};
use crate::logs::Logs;
use crate::outcome::{ErrorType, Failure, Outcome};
use crate::qualifier::Qualifier;
use crate::usage::Usage;

/// Where an asynchronous invocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsyncStatus {
    /// It waits for its turn.
    Queued,
    /// A worker has it.
    Running,
    /// The handler answered.
    Succeeded,
    /// The handler or its process failed, or the platform gave up.
    Failed,
    /// The deadline passed.
    Timeout,
}

impl AsyncStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Timeout];

    /// The name on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }

    /// The status of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Timeout => true,
        }
    }
}

/// How an asynchronous invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The handler's result as JSON text, or why there is none.
    pub result: Result<Vec<u8>, Failure>,
    /// What it wrote.
    pub logs: Logs,
    /// What it cost.
    pub usage: Usage,
    /// When it ended.
    pub completed_at: OffsetDateTime,
}

impl Completion {
    /// What an outcome means for the invocation: function failures are final.
    #[must_use]
    pub fn of<B: Into<Vec<u8>>>(outcome: Outcome<B>, completed_at: OffsetDateTime) -> Self {
        Self {
            result: outcome.result.map(Into::into),
            logs: outcome.logs,
            usage: outcome.usage,
            completed_at,
        }
    }

    /// Where the invocation stands then.
    #[must_use]
    pub fn status(&self) -> AsyncStatus {
        match &self.result {
            Ok(_) => AsyncStatus::Succeeded,
            Err(failure) if failure.error_type == ErrorType::Timeout => AsyncStatus::Timeout,
            Err(_) => AsyncStatus::Failed,
        }
    }
}

/// An asynchronous invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncInvocation {
    /// The request id that the function sees, the same at every attempt.
    pub id: InvocationId,
    /// The function.
    pub function: FunctionId,
    /// Which revision of it, decided anew at every attempt.
    pub qualifier: Qualifier,
    /// The event, opaque; at most [`crate::limits::PAYLOAD_LIMIT`] bytes.
    pub event: Vec<u8>,
    /// What else the function is told of the call, as a JSON object; empty for nothing.
    pub context: Vec<u8>,
    /// A timeout of its own instead of the function's.
    pub timeout: Option<Duration>,
    /// Where it stands.
    pub status: AsyncStatus,
    /// How often it has been claimed.
    pub attempt: u32,
    /// When it may be claimed.
    pub not_before: OffsetDateTime,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it was last claimed.
    pub started_at: Option<OffsetDateTime>,
    /// How it ended; `Some` if and only if the status is final.
    pub completion: Option<Completion>,
}

/// Waiting before another attempt after the platform could not run an invocation: doubles from one second up to five
/// minutes, as AWS Lambda's does
/// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).
#[must_use]
pub fn backoff(attempt: u32) -> Duration {
    const LONGEST: u64 = 300;
    Duration::from_secs(1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(LONGEST).min(LONGEST))
}

/// How long the platform keeps trying what it could not run, counted from acceptance (as AWS Lambda's six hours).
pub const PLATFORM_PATIENCE: Duration = Duration::from_secs(6 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_five_minutes() {
        let seconds = [1, 2, 3, 9, 10, 64, u32::MAX].map(|attempt| backoff(attempt).as_secs());
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300, 300]);
    }

    #[test]
    fn a_timeout_is_no_ordinary_failure() {
        let failed = |error_type| Completion {
            result: Err(Failure { error_type, class: String::new(), message: String::new(), stack: None }),
            logs: Logs::default(),
            usage: Usage::default(),
            completed_at: OffsetDateTime::UNIX_EPOCH,
        };
        assert_eq!(failed(ErrorType::Timeout).status(), AsyncStatus::Timeout);
        assert_eq!(failed(ErrorType::OutOfMemory).status(), AsyncStatus::Failed);
    }
}
