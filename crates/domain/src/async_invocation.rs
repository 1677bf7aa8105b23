//! An invocation that its caller does not wait for: accepted once it is stored, and then delivered until it has ended.
//!
//! ```text
//!                  claim: attempt + 1, lease                  complete (same attempt)
//!   Queued ─────────────────────────────────────> Running ──────────────────────────────> Succeeded
//!    ▲ │ ▲                                         │   │                                   Failed, Timeout
//!    │ │ └─────────────────────────────────────────┘   └─ lease expired: claimed again     Dead ──┐
//!    │ │        put back (same attempt): to be tried again                                        │
//!    │ └───────── cancel, at any time before the end ──────> Cancelled                            │
//!    └───────────────────────────────── driven again ─────────────────────────────────────────────┘
//! ```
//!
//! The attempt's number is the fence: whoever reports with another number than the stored one has lost its lease. It
//! never goes back, whatever happens.

use std::time::Duration;

use time::OffsetDateTime;

use crate::destination::{Destinations, HookUrl};
use crate::id::{FunctionId, InvocationId};
use crate::logs::Logs;
use crate::outcome::{ErrorType, Failure, Outcome};
use crate::qualifier::Qualifier;
use crate::retry::RetryPolicy;
use crate::usage::Usage;

/// The most bytes of an idempotency key.
pub const KEY_LIMIT: usize = 255;
/// How many invocations may follow from one another through destinations; the last has none.
pub const CHAIN_LIMIT: u32 = 16;

/// Where an asynchronous invocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsyncStatus {
    /// It waits for its turn.
    Queued,
    /// A worker has it.
    Running,
    /// The handler answered.
    Succeeded,
    /// The handler or its process failed, or the platform gave up, and its policy knows no dead letters.
    Failed,
    /// The deadline passed, and its policy knows no dead letters.
    Timeout,
    /// Somebody did not want it any more.
    Cancelled,
    /// A dead letter: it was given up after all its attempts and can be driven again.
    Dead,
}

impl AsyncStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
        Self::Dead,
    ];

    /// The name on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// The status of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing will change any more, unless a dead letter is driven again.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Timeout | Self::Cancelled | Self::Dead => true,
        }
    }
}

/// What has gone wrong with an invocation so far, by the budget that pays for it; see [`crate::retry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Failures of the function, or refusals of a hook.
    pub failures: u32,
    /// How often there was no room to run it.
    pub throttled: u32,
    /// How often the platform could not run it.
    pub broken: u32,
    /// How many workers died while they ran it.
    pub deaths: u32,
}

/// How an asynchronous invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Where it stands then; a final status.
    pub status: AsyncStatus,
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
    /// What an outcome that is not tried again means for an invocation with this policy.
    #[must_use]
    pub fn of<B: Into<Vec<u8>>>(outcome: Outcome<B>, policy: &RetryPolicy, at: OffsetDateTime) -> Self {
        let result = outcome.result.map(Into::into);
        let status = match &result {
            Ok(_) => AsyncStatus::Succeeded,
            Err(_) if policy.dead_letter() => AsyncStatus::Dead,
            Err(failure) if failure.error_type == ErrorType::Timeout => AsyncStatus::Timeout,
            Err(_) => AsyncStatus::Failed,
        };
        Self { status, result, logs: outcome.logs, usage: outcome.usage, completed_at: at }
    }

    /// The end of an invocation that did not run to an outcome of its own.
    #[must_use]
    pub fn without_outcome(failure: Failure, policy: &RetryPolicy, at: OffsetDateTime) -> Self {
        let outcome: Outcome<Vec<u8>> =
            Outcome { result: Err(failure), logs: Logs::default(), usage: Usage::default() };
        Self::of(outcome, policy, at)
    }

    /// The end of an invocation that somebody cancelled.
    #[must_use]
    pub fn cancelled(at: OffsetDateTime) -> Self {
        let failure = Failure {
            error_type: ErrorType::Cancelled,
            class: String::new(),
            message: "the invocation was cancelled".to_owned(),
            stack: None,
        };
        Self {
            status: AsyncStatus::Cancelled,
            result: Err(failure),
            logs: Logs::default(),
            usage: Usage::default(),
            completed_at: at,
        }
    }
}

/// An asynchronous invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncInvocation {
    /// The request id that the function sees, the same at every attempt.
    pub id: InvocationId,
    /// The function; of a hook the one whose invocation ended.
    pub function: FunctionId,
    /// Which revision of it, decided anew at every attempt.
    pub qualifier: Qualifier,
    /// Where the event is sent to instead of the function: the invocation is the delivery to a destination.
    pub hook: Option<HookUrl>,
    /// The event, opaque; at most [`crate::limits::PAYLOAD_LIMIT`] bytes.
    pub event: Vec<u8>,
    /// What else the function is told of the call, as a JSON object; empty for nothing.
    pub context: Vec<u8>,
    /// A timeout of its own instead of the function's.
    pub timeout: Option<Duration>,
    /// How it is tried again.
    pub policy: RetryPolicy,
    /// Where its end is told.
    pub destinations: Destinations,
    /// Under which key its caller submitted it; unique within the function; at most [`KEY_LIMIT`] bytes.
    pub key: Option<String>,
    /// The invocation whose end this one tells.
    pub origin: Option<InvocationId>,
    /// How many invocations it follows from, through destinations; at most [`CHAIN_LIMIT`].
    pub chain: u32,
    /// Where it stands.
    pub status: AsyncStatus,
    /// How often it has been claimed.
    pub attempt: u32,
    /// What has gone wrong so far.
    pub tally: Tally,
    /// When it may be claimed.
    pub not_before: OffsetDateTime,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it could first have run: after its delay, or when it was driven again.
    pub ready_at: OffsetDateTime,
    /// When it was last claimed.
    pub started_at: Option<OffsetDateTime>,
    /// Why the last attempt failed, while there are more to come.
    pub last_failure: Option<Failure>,
    /// How it ended; `Some` if and only if the status is final.
    pub completion: Option<Completion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_decides_what_the_last_failure_means() {
        let failed = |error_type, policy: &RetryPolicy| {
            let failure = Failure { error_type, class: String::new(), message: String::new(), stack: None };
            Completion::without_outcome(failure, policy, OffsetDateTime::UNIX_EPOCH).status
        };
        assert_eq!(failed(ErrorType::Timeout, &RetryPolicy::FINAL), AsyncStatus::Timeout);
        assert_eq!(failed(ErrorType::OutOfMemory, &RetryPolicy::FINAL), AsyncStatus::Failed);
        assert_eq!(failed(ErrorType::Timeout, &RetryPolicy::DEFAULT), AsyncStatus::Dead);
    }
}
