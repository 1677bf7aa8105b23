//! Why a call did not become an invocation.

use std::time::Duration;

use impuls_domain::{InvocationId, LimitError, Qualifier};
use impuls_sandbox::SandboxError;
use impuls_store::StoreError;

use crate::duplex::InputBroken;

/// Why a call has no outcome. Whatever happens once the function has begun is an outcome, never this.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The caller may not invoke.
    #[error("you are not allowed to invoke functions")]
    Denied,
    /// No function of this name or id.
    #[error("function {0} not found")]
    FunctionNotFound(String),
    /// The function has no such version or alias.
    #[error("function {function} has no version or alias {qualifier}")]
    QualifierNotFound {
        /// The function's name.
        function: String,
        /// What was asked for.
        qualifier: Qualifier,
    },
    /// The function's first deploy has not ended in the time that a call may take.
    #[error("function {0} is still being deployed; try again later")]
    Deploying(String),
    /// Too many calls are running and waiting.
    #[error("too many calls of this function are running and waiting; try again later")]
    Throttled {
        /// When trying again may help.
        retry_after: Duration,
    },
    /// The server is stopping.
    #[error("the server is shutting down; try again elsewhere or later")]
    ShuttingDown,
    /// The event is not JSON.
    #[error("the event is not JSON: {0}")]
    BadEvent(String),
    /// The body of the request broke off while the function read it.
    #[error("{0}")]
    InputBroken(InputBroken),
    /// The event is larger than the limit.
    #[error("the event has more than {limit} bytes")]
    EventTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// No asynchronous invocation of this id, or none any more.
    #[error("invocation {0} not found")]
    InvocationNotFound(InvocationId),
    /// The idempotency key stands for an invocation with another event.
    #[error(
        "the Idempotency-Key was used for invocation {0}, which has another event; take a new key for it"
    )]
    KeyTaken(InvocationId),
    /// The invocation stands where this is not possible.
    #[error("invocation {id} is {status}; {hint}")]
    Settled {
        /// Which.
        id: InvocationId,
        /// Where it stands.
        status: &'static str,
        /// What would be possible.
        hint: &'static str,
    },
    /// Something that was asked for is out of its bounds.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The worker that ran the call was lost. The function may have run, wholly or in part.
    #[error("the worker that ran the function was lost before it answered; the function may have run")]
    WorkerLost,
    /// There is no worker to run anything.
    #[error("no worker can run this now: {0}; try again later")]
    NoWorker(&'static str),
    /// No sandbox could be had, or the platform lost it before the function began.
    #[error("no sandbox could run the function")]
    Sandbox(#[source] SandboxError),
    /// The function asks for a network, and sandboxes of this server have none.
    #[error("this server cannot give functions a network; its operator learns from `impuls doctor` why")]
    NoNetwork,
    /// The code of the revision cannot be had.
    #[error("the function's code cannot be read")]
    Code(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The metadata store failed on the way to an old version.
    #[error("the function's version cannot be read")]
    Store(#[source] StoreError),
}

impl DispatchError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Deploying(_)
            | Self::Throttled { .. }
            | Self::ShuttingDown
            | Self::WorkerLost
            | Self::NoWorker(_)
            | Self::Store(_)
            | Self::Code(_) => true,
            Self::Sandbox(error) => error.is_retryable(),
            Self::Denied
            | Self::NoNetwork
            | Self::FunctionNotFound(_)
            | Self::QualifierNotFound { .. }
            | Self::BadEvent(_)
            | Self::InputBroken(_)
            | Self::InvocationNotFound(_)
            | Self::KeyTaken(_)
            | Self::Settled { .. }
            | Self::Limit(_)
            | Self::EventTooLarge { .. } => false,
        }
    }
}
