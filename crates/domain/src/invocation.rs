//! The record of one call.

use time::OffsetDateTime;

use crate::exchange::Exchange;
use crate::id::{FunctionId, InvocationId, RevisionId};
use crate::logs::Logs;
use crate::outcome::Failure;
use crate::qualifier::VersionNumber;
use crate::usage::Usage;

/// How a recorded invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvocationStatus {
    /// The handler answered.
    Succeeded,
    /// The handler or its process failed.
    Failed,
    /// The deadline passed.
    Timeout,
    /// The caller hung up before it ended, and it was stopped.
    Cancelled,
}

impl InvocationStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Timeout, Self::Cancelled];

    /// The name on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// One call as it is kept for `GET …/logs`. Event and result are kept only for an API that shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The request id that the function saw.
    pub id: InvocationId,
    /// The function.
    pub function: FunctionId,
    /// The revision that ran.
    pub revision: RevisionId,
    /// Its version number.
    pub version: VersionNumber,
    /// How it ended.
    pub status: InvocationStatus,
    /// Why it failed; `None` if and only if it succeeded or was cancelled.
    pub failure: Option<Failure>,
    /// What it was asked and what it answered, if somebody wanted that kept.
    pub exchange: Option<Box<Exchange>>,
    /// What it wrote.
    pub logs: Logs,
    /// What it cost.
    pub usage: Usage,
    /// When it was admitted.
    pub started_at: OffsetDateTime,
}
