//! Whoever has the sandboxes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use impuls_domain::{Deadline, FunctionId, FunctionName, InvocationId, Outcome, Revision, VersionNumber};
use impuls_sandbox::SandboxError;

use crate::duplex::{Duplex, InputBroken};
use crate::execute::{CommandPool, ExecuteRequest, Executed};
use crate::sandboxes::{LiveSandbox, Refusals};

/// What a worker keeps sandboxes for: one revision and what it needs to tell it apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The function's name, which the function sees.
    pub function_name: FunctionName,
    /// The version that the revision was published as.
    pub version: VersionNumber,
    /// The code and its settings.
    pub revision: Revision,
}

/// One admitted call.
#[derive(Debug)]
pub struct RunRequest {
    /// Its id.
    pub id: InvocationId,
    /// What to run.
    pub target: Arc<Target>,
    /// The event, at most [`impuls_domain::limits::PAYLOAD_LIMIT`] bytes; empty means `null`.
    pub event: Bytes,
    /// What else the function is told, as a JSON object; empty for nothing.
    pub context: Bytes,
    /// When it was admitted.
    pub admitted: Instant,
    /// When it must be over.
    pub deadline: Deadline,
    /// How long it was given, for whoever is told that it took longer.
    pub timeout: Duration,
    /// The same on the wall clock, in milliseconds since the Unix epoch, for the function to read.
    pub deadline_unix_ms: u64,
    /// How many calls of the function may run at once, whichever its revisions.
    pub max_concurrency: Option<NonZeroU32>,
    /// Whether to measure what it uses; see [`InvokeOptions::measure`](crate::InvokeOptions::measure).
    pub measure: bool,
}

/// Why a worker has no outcome of a call. The function has not begun, or was not at fault.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No sandbox became free before the deadline.
    #[error("no sandbox became free in time")]
    NoSandboxInTime,
    /// Too many calls of this revision are waiting for a sandbox.
    #[error("too many calls are waiting for a sandbox")]
    QueueFull {
        /// When trying again may help.
        retry_after: Duration,
    },
    /// The shim says that the event is not JSON.
    #[error("the event is not JSON: {0}")]
    BadEvent(String),
    /// The body of the request broke off while the function read it; the call was stopped.
    #[error(transparent)]
    InputBroken(#[from] InputBroken),
    /// The worker that ran the call is gone, or cannot be heard any more; the function may have run.
    #[error("worker {0} was lost while it ran the call")]
    WorkerLost(String),
    /// There is no worker that could run it; it has not begun.
    #[error("no worker can run this: {0}")]
    NoWorker(&'static str),
    /// No sandbox could be had.
    #[error("no sandbox could be had")]
    Sandbox(#[from] SandboxError),
    /// The revision's code cannot be had.
    #[error("the revision's code cannot be had")]
    Code(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A node that runs sandboxes. Dropping the future of [`Worker::run`] means that the caller has hung up: the
/// worker ends the call and frees what it held.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// Runs one call to its outcome, no later than its deadline. With a duplex the function may stream; without, its
    /// output is the outcome's result.
    async fn run(&self, request: RunRequest, duplex: Option<Duplex>) -> Result<Outcome<Bytes>, RunError>;

    /// Runs one command in a sandbox that is destroyed afterwards, no later than its deadline. Dropping the future
    /// kills it.
    async fn execute(&self, request: ExecuteRequest) -> Result<Executed, RunError>;

    /// Keeps at least so many sandboxes for commands ready from now on, within the worker's own bounds.
    async fn prewarm_commands(&self, count: usize) -> CommandPool;

    /// The sandboxes for commands.
    async fn command_pool(&self) -> CommandPool;

    /// Every live sandbox that has a function's code; where there are several nodes, of those that answer.
    async fn sandboxes(&self) -> Vec<LiveSandbox>;

    /// What the network policy of a function refused since this worker was started: to all of its sandboxes, those
    /// that are gone included.
    async fn refusals(&self, function: FunctionId) -> Refusals;

    /// Gives a target at least `count` sandboxes and waits until one is ready or `by` has passed; how many there are.
    async fn warm(&self, target: &Arc<Target>, count: usize, by: Deadline) -> usize;
}
