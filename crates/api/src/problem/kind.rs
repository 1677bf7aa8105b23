//! The kinds of problems, with their status and their stable name.

use http::StatusCode;

/// The kinds of problems. Their names are part of the API and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Something in the request is not as it must be.
    InvalidRequest,
    /// The runtime is unknown or not installed.
    RuntimeUnavailable,
    /// The function asks for a network that this server cannot give it.
    NetworkUnavailable,
    /// The event is not JSON.
    InvalidEvent,
    /// The caller may not do this.
    Denied,
    /// No such function.
    FunctionNotFound,
    /// No such version.
    VersionNotFound,
    /// No such alias.
    AliasNotFound,
    /// No such asynchronous invocation.
    InvocationNotFound,
    /// No such schedule.
    ScheduleNotFound,
    /// A schedule of this name exists, or there are as many as there may be.
    ScheduleTaken,
    /// The idempotency key stands for an invocation with another event.
    KeyTaken,
    /// The invocation stands where this is not possible.
    Settled,
    /// No such path.
    RouteNotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// A function of this name exists.
    NameTaken,
    /// There is only one version.
    NothingToRollBack,
    /// Somebody else changes the function at the same time.
    Contended,
    /// The body is larger than allowed.
    TooLarge,
    /// Too many calls.
    Throttled,
    /// The platform failed.
    Internal,
    /// Something that the platform needs failed and may recover.
    Unavailable,
    /// The function's first deploy goes on.
    Deploying,
    /// No sandbox can be had now.
    NoSandbox,
    /// The worker that ran the call was lost.
    WorkerLost,
    /// There is no worker.
    NoWorker,
    /// The server is stopping.
    ShuttingDown,
}

impl ProblemKind {
    /// Status, stable name and title.
    pub(super) const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid-request", "The request is not valid"),
            Self::NetworkUnavailable => {
                (StatusCode::NOT_IMPLEMENTED, "network-unavailable", "Functions cannot have a network here")
            }
            Self::RuntimeUnavailable => {
                (StatusCode::BAD_REQUEST, "runtime-unavailable", "The runtime is not available")
            }
            Self::InvalidEvent => (StatusCode::BAD_REQUEST, "invalid-event", "The event is not JSON"),
            Self::Denied => (StatusCode::FORBIDDEN, "denied", "Not allowed"),
            Self::FunctionNotFound => (StatusCode::NOT_FOUND, "function-not-found", "No such function"),
            Self::VersionNotFound => (StatusCode::NOT_FOUND, "version-not-found", "No such version"),
            Self::AliasNotFound => (StatusCode::NOT_FOUND, "alias-not-found", "No such alias"),
            Self::InvocationNotFound => (StatusCode::NOT_FOUND, "invocation-not-found", "No such invocation"),
            Self::ScheduleNotFound => (StatusCode::NOT_FOUND, "schedule-not-found", "No such schedule"),
            Self::ScheduleTaken => (StatusCode::CONFLICT, "schedule-taken", "The schedule cannot be added"),
            Self::KeyTaken => (StatusCode::CONFLICT, "key-taken", "The idempotency key is taken"),
            Self::Settled => {
                (StatusCode::CONFLICT, "settled", "The invocation stands where this is not possible")
            }
            Self::RouteNotFound => (StatusCode::NOT_FOUND, "route-not-found", "No such path"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The path does not take this method")
            }
            Self::NameTaken => (StatusCode::CONFLICT, "name-taken", "The name is taken"),
            Self::NothingToRollBack => {
                (StatusCode::CONFLICT, "nothing-to-roll-back", "There is no earlier version")
            }
            Self::Contended => (StatusCode::CONFLICT, "contended", "Somebody else changes the same function"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::Throttled => (StatusCode::TOO_MANY_REQUESTS, "throttled", "Too many calls"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The server cannot do this now")
            }
            Self::Deploying => {
                (StatusCode::SERVICE_UNAVAILABLE, "deploying", "The function is still being deployed")
            }
            Self::NoSandbox => {
                (StatusCode::SERVICE_UNAVAILABLE, "no-sandbox", "The server has no sandbox for this call now")
            }
            Self::WorkerLost => (StatusCode::BAD_GATEWAY, "worker-lost", "The worker was lost"),
            Self::NoWorker => (StatusCode::SERVICE_UNAVAILABLE, "no-worker", "There is no worker now"),
            Self::ShuttingDown => {
                (StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "The server is shutting down")
            }
        }
    }
}
