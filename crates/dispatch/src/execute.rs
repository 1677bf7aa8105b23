//! One-off commands: an argument vector in a sandbox of its own that is destroyed afterwards. No function, no
//! revision and no record are involved.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use impuls_domain::{Caller, Deadline, Environment, FunctionId, Limits};

use crate::admission::AdmissionConfig;
use crate::error::DispatchError;
use crate::invoke::{Dispatch, refusal};

/// The most bytes of standard input. It travels to the sandbox as base64 within one frame.
pub const STDIN_LIMIT: usize = 5 * 1024 * 1024;
/// The most bytes of all arguments together, which is what one argument may have on Linux (`execve(2)`).
pub const ARGUMENTS_LIMIT: usize = 128 * 1024;

/// Bounds of all one-off commands together.
#[derive(Clone, Copy, Debug)]
pub struct ExecutionConfig {
    /// Commands that may run at once. Default 256.
    pub limit: u32,
    /// Commands that may wait when that many run. Default 1,000.
    pub queue_limit: usize,
}

impl Default for ExecutionConfig {
    fn default() -> Self {
        Self { limit: 256, queue_limit: 1_000 }
    }
}

impl From<ExecutionConfig> for AdmissionConfig {
    fn from(config: ExecutionConfig) -> Self {
        Self { default_limit: config.limit, queue_limit: config.queue_limit }
    }
}

/// Which of the two streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

type Listener = dyn Fn(OutputStream, &str) + Send + Sync;

/// Is given a command's output as it arrives: pieces of text, which may end in the middle of a line; invalid UTF-8
/// has been replaced. Called on the thread that waits for the command, so it must not block.
#[derive(Clone)]
pub struct OnOutput(Arc<Listener>);

impl OnOutput {
    /// Calls this function.
    pub fn new(function: impl Fn(OutputStream, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    /// Passes one piece of output on.
    pub fn call(&self, stream: OutputStream, text: &str) {
        (self.0)(stream, text);
    }
}

impl fmt::Debug for OnOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnOutput")
    }
}

/// One command to run.
#[derive(Clone, Debug)]
pub struct ExecuteRequest {
    /// The program, looked for on the sandbox's `PATH` unless it has a `/`, and its arguments; at most
    /// [`ARGUMENTS_LIMIT`] bytes. Never a shell string.
    pub argv: Vec<String>,
    /// Its environment, besides `PATH`, `HOME` and `LANG`.
    pub environment: Environment,
    /// Its standard input; at most [`STDIN_LIMIT`] bytes.
    pub stdin: Bytes,
    /// Its working folder; `None` is `/tmp`, which is the one folder that it can write to.
    pub working_dir: Option<String>,
    /// Memory and processor share; the other limits are of no meaning here.
    pub limits: Limits,
    /// When it must be over.
    pub deadline: Deadline,
    /// Who is told what it writes while it runs.
    pub on_output: Option<OnOutput>,
}

/// What became of a command. However it ended, this is no error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code, if it ended by itself. 127 if there is no such program, 126 if it cannot be executed.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Bytes,
    /// What it wrote to standard error.
    pub stderr: Bytes,
    /// Whether it wrote more than is kept.
    pub truncated: bool,
    /// From handing it to the sandbox until its end.
    pub duration: Duration,
    /// Time spent before that on getting a sandbox.
    pub start_duration: Duration,
    /// Whether the sandbox had been waiting for it.
    pub prewarmed: bool,
    /// Whether the deadline passed; the whole sandbox was killed.
    pub timed_out: bool,
    /// Whether the sandbox reached its memory limit.
    pub out_of_memory: bool,
}

impl Executed {
    /// Why the command did not succeed, in one sentence; `None` if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.timed_out {
            return Some("command timed out".to_owned());
        }
        if self.out_of_memory {
            return Some("command reached its memory limit and was killed".to_owned());
        }
        match (self.exit_code, self.signal) {
            (Some(0), _) => None,
            (Some(code), _) => Some(format!("command exited with code {code}")),
            (None, Some(signal)) => Some(format!("command was ended by signal {signal}")),
            (None, None) => Some("command's sandbox ended before it did".to_owned()),
        }
    }
}

/// The sandboxes for one-off commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandPool {
    /// Sandboxes that wait for a command.
    pub ready: usize,
    /// How many the worker keeps ready at the moment.
    pub target: usize,
    /// Commands that are running.
    pub running: usize,
}

impl Dispatch {
    /// Runs one command in a sandbox of its own and waits for its end. Dropping the future kills it. Whoever may
    /// deploy code may do this, nobody else.
    pub async fn execute(&self, caller: &Caller, request: ExecuteRequest) -> Result<Executed, DispatchError> {
        if !caller.may_execute() {
            return Err(DispatchError::Denied);
        }
        within(request.stdin.len(), STDIN_LIMIT)?;
        within(request.argv.iter().map(|part| part.len() + 1).sum(), ARGUMENTS_LIMIT)?;
        let _flight = self.take_off()?;
        let _permit = self.executions.admit(request.deadline).await?;
        self.worker.execute(request).await.map_err(refusal)
    }

    /// Keeps at least so many sandboxes for commands ready from now on, within the worker's own bounds, and says
    /// how many there are.
    pub async fn prewarm_commands(
        &self,
        caller: &Caller,
        count: usize,
    ) -> Result<CommandPool, DispatchError> {
        if !caller.may_execute() {
            return Err(DispatchError::Denied);
        }
        Ok(self.worker.prewarm_commands(count).await)
    }

    /// The sandboxes for commands.
    pub async fn command_pool(&self, caller: &Caller) -> Result<CommandPool, DispatchError> {
        if !caller.may_execute() {
            return Err(DispatchError::Denied);
        }
        Ok(self.worker.command_pool().await)
    }

    /// Gives a function at least `count` sandboxes that have loaded its newest code, and waits until one is ready or
    /// `wait` has passed; says how many there are.
    pub async fn warm_function(
        &self,
        caller: &Caller,
        id: FunctionId,
        count: usize,
        wait: Duration,
    ) -> Result<usize, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let target = self.latest(id).ok_or_else(|| DispatchError::FunctionNotFound(id.to_string()))?;
        let by = Deadline::at(now() + wait);
        Ok(self.worker.warm(&target, count, by).await)
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn within(bytes: usize, limit: usize) -> Result<(), DispatchError> {
    if bytes > limit { Err(DispatchError::EventTooLarge { limit }) } else { Ok(()) }
}
