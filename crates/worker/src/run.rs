//! The path of a call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_dispatch::{
    CommandPool, Duplex, ExecuteRequest, Executed, LiveSandbox, Refusals, RunError, RunRequest, Target,
    Worker,
};
use impuls_domain::{Contract, Deadline, ErrorType, Failure, FunctionId, Logs, Measured, Outcome, Usage};
use impuls_sandbox::{
    Call, CallError, CallErrorKind, Exit, Gone, Hold, LossReason, Lost, Reply, SandboxError, SandboxUsage,
    Traffic, Waiting,
};
use tokio::time::Instant;

use crate::live::{FirstCall, Live};
use crate::local::LocalWorker;
use crate::pool::{NoSlot, Slot};
use crate::relay::{Relayed, relay, streaming};
use crate::start;

/// How often a call is given to another sandbox because the one it got had died before it began.
const TRIES: usize = 3;
/// How long the news of a process's end may come after the end of its connection.
const EXIT_NEWS: Duration = Duration::from_millis(500);
/// How long the answer to a timed-out call waits for the proof that its sandbox is empty.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

#[async_trait]
impl Worker for LocalWorker {
    async fn run(&self, mut request: RunRequest, duplex: Option<Duplex>) -> Result<Outcome<Bytes>, RunError> {
        if let Some(duplex) = &duplex {
            request.context = streaming(duplex);
        }
        let memory_mib = request.target.revision.config.limits.memory_mib();
        // The usual call takes a free slot of a warm sandbox at once and touches nothing that others share but the
        // pool's own lock.
        let warm = self.pools.pin().get(&request.target.revision.id).and_then(|pool| pool.try_acquire());
        let mut tries = TRIES;
        let mut slot = warm.map(|slot| (slot, Instant::from_std(request.admitted)));
        loop {
            tries -= 1;
            let (taken, begun) = match slot.take() {
                Some(warm) => warm,
                None => match self.pool(&request.target).acquire(request.deadline).await {
                    Ok(slot) => (slot, Instant::now()),
                    Err(no_slot) => return without_slot(no_slot, memory_mib),
                },
            };
            let live = taken.0.clone();
            match begin(&request, taken, &live).await {
                Ok((waiting, first)) => {
                    let deadline = request.deadline;
                    let timeout = request.timeout;
                    let streams = duplex.is_some();
                    let waiting = Some(waiting);
                    let before = measured(&request, &live);
                    let running = Running { live, waiting, deadline, timeout, begun, first, streams, before };
                    return running.finish(memory_mib, duplex).await;
                }
                Err(error) => {
                    // The sandbox died between its last call and this one; the call has not begun.
                    if live.pool.lose(live.key, request.deadline) {
                        live.pool.context.destroy(live.sandbox.clone());
                    }
                    if tries == 0 {
                        return Err(RunError::Sandbox(error));
                    }
                }
            }
        }
    }

    async fn execute(&self, request: ExecuteRequest) -> Result<Executed, RunError> {
        self.run_command(request).await
    }

    async fn prewarm_commands(&self, count: usize) -> CommandPool {
        self.keep_command_sandboxes(count)
    }

    async fn command_pool(&self) -> CommandPool {
        self.command_sandboxes()
    }

    async fn sandboxes(&self) -> Vec<LiveSandbox> {
        self.pools.pin().values().flat_map(|pool| pool.sandboxes()).collect()
    }

    async fn refusals(&self, function: FunctionId) -> Refusals {
        self.context.refusals.of(function)
    }

    async fn warm(&self, target: &Arc<Target>, count: usize, by: Deadline) -> usize {
        self.warm_up(target, count);
        self.wait_until_warm(target, by).await;
        self.size(target.revision.id)
    }
}

/// A call that has no slot: the function's failure, or the platform's.
fn without_slot(no_slot: NoSlot, memory_mib: u32) -> Result<Outcome<Bytes>, RunError> {
    match no_slot {
        NoSlot::Init { failure, logs, init_duration } => Ok(Outcome {
            result: Err(failure),
            logs,
            usage: Usage { init_duration, memory_mib, ..Usage::default() },
        }),
        NoSlot::InitTimeout => Ok(Outcome {
            result: Err(start::init_failure(&impuls_sandbox::InitFailure::DeadlineExceeded)),
            logs: Logs::default(),
            usage: Usage { memory_mib, ..Usage::default() },
        }),
        NoSlot::Platform(error) => Err(error),
    }
}

/// Hands the event to the sandbox.
async fn begin(
    request: &RunRequest,
    slot: Slot,
    live: &Live,
) -> Result<(Waiting, Option<FirstCall>), SandboxError> {
    let first = live.take_first();
    let connection = live.connection().await?;
    let call = Call {
        request: request.id,
        deadline: request.deadline,
        deadline_unix_ms: request.deadline_unix_ms,
        event: &request.event,
        context: &request.context,
        hold: Hold::new(slot),
    };
    let waiting = connection.call(call).map_err(|Gone| SandboxError::Gone(Gone))?;
    Ok((waiting, first))
}

/// A call that a sandbox is running. Dropped before its end, it is stopped: see [`Running::drop`].
struct Running {
    live: Arc<Live>,
    waiting: Option<Waiting>,
    deadline: Deadline,
    timeout: Duration,
    begun: Instant,
    first: Option<FirstCall>,
    /// Whether it may send output before its end.
    streams: bool,
    /// What the sandbox had used when it began, if it is to be measured.
    before: Option<SandboxUsage>,
}

/// What the sandbox has used before a call that is to be measured. A handler shares its process with other calls.
fn measured(request: &RunRequest, live: &Live) -> Option<SandboxUsage> {
    let contract = request.target.revision.config.contract;
    let is_a_process = matches!(contract, Contract::Program | Contract::Command);
    if request.measure && is_a_process { live.sandbox.usage() } else { None }
}

/// What a sandbox used between two looks.
fn between(before: &SandboxUsage, after: &SandboxUsage) -> Measured {
    let passed =
        |bytes: fn(Traffic) -> u64| Some(bytes(after.traffic?).saturating_sub(bytes(before.traffic?)));
    Measured {
        cpu_ns: u64::try_from(after.cpu.saturating_sub(before.cpu).as_nanos()).unwrap_or(u64::MAX),
        memory_peak_bytes: after.memory_peak_bytes,
        received_bytes: passed(|traffic| traffic.received_bytes),
        sent_bytes: passed(|traffic| traffic.sent_bytes),
    }
}

impl Running {
    async fn finish(mut self, memory_mib: u32, duplex: Option<Duplex>) -> Result<Outcome<Bytes>, RunError> {
        let mut relayed = Relayed::Nothing;
        let ended = match &mut self.waiting {
            Some(waiting) => {
                if let Some(duplex) = duplex {
                    relayed = relay(waiting, duplex).await?;
                }
                waiting.await
            }
            None => return Err(RunError::Sandbox(SandboxError::Gone(Gone))),
        };
        self.waiting = None;
        let duration = self.begun.elapsed();
        let (result, mut logs) = match ended {
            Ok(Reply { result: Ok(body), logs }) => (Ok(relayed.or(body)), logs),
            Ok(Reply { result: Err(error), logs }) => (Err(call_failure(error)?), logs),
            Err(Lost { reason: LossReason::Gone, logs }) => (Err(self.died().await), logs),
            Err(Lost { reason: LossReason::DeadlinePassed, logs }) => (Err(self.time_out().await), logs),
        };
        let mut init_duration = Duration::ZERO;
        if let Some(first) = self.first.take() {
            init_duration = first.init_duration;
            logs = joined(first.logs, logs);
        }
        if result.as_ref().is_err_and(|failure| ends_the_process(failure.error_type)) {
            logs = joined(logs, self.live.sandbox.take_loose_logs());
        }
        let after = self.before.and_then(|_| self.live.sandbox.usage());
        let measured = self.before.as_ref().zip(after.as_ref()).map(|(before, after)| between(before, after));
        Ok(Outcome { result, logs, usage: Usage { duration, init_duration, memory_mib, measured } })
    }

    /// The connection ended before the call did, nearly always because the process did. One that still runs has
    /// closed it by itself; nobody can hear it any more, so it is killed.
    async fn died(&self) -> Failure {
        let exit = tokio::time::timeout(EXIT_NEWS, self.live.sandbox.exited()).await;
        self.discard();
        let unheard = Exit { code: None, signal: None, out_of_memory: false };
        start::exit_failure(&exit.unwrap_or(unheard))
    }

    /// The deadline passed: kills the whole sandbox and makes sure that nothing of it is left.
    async fn time_out(&self) -> Failure {
        if self.live.pool.lose(self.live.key, self.deadline) {
            // Begun beside this call, so that it is finished even if the caller hangs up now.
            self.live.pool.context.destroy(self.live.sandbox.clone());
        }
        // Of several calls that time out together one loses the sandbox, and all wait for its end.
        let killed = tokio::time::timeout(KILL_TIMEOUT, self.live.sandbox.destroy()).await;
        if !matches!(killed, Ok(Ok(()))) {
            let sandbox = self.live.sandbox.id();
            tracing::error!(%sandbox, ?killed, "a timed-out sandbox is not known to be gone");
        }
        Failure {
            error_type: ErrorType::Timeout,
            class: String::new(),
            message: format!("the function did not answer within {} seconds", self.timeout.as_secs_f64()),
            stack: None,
        }
    }

    fn discard(&self) {
        let by = Deadline::at((Instant::now() + self.live.pool.context.config.init_timeout).into_std());
        if self.live.pool.lose(self.live.key, by) {
            self.live.pool.context.destroy(self.live.sandbox.clone());
        }
    }
}

impl Drop for Running {
    /// The caller hung up. A sandbox that runs nothing else is killed, which frees everything at once; one that
    /// does goes on, and the call keeps its slot and its deadline until it really ends.
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        if self.live.pool.busy(self.live.key) <= 1 {
            self.discard();
            return;
        }
        if self.streams {
            // Its output may have no end, and it stops for want of credit.
            waiting.cancel();
        }
        let rest = Self {
            live: self.live.clone(),
            waiting: Some(waiting),
            deadline: self.deadline,
            timeout: self.timeout,
            begun: self.begun,
            first: None,
            streams: false,
            before: None,
        };
        let context = self.live.pool.context.clone();
        let task = async move {
            if let Some(waiting) = &rest.waiting {
                while waiting.next_chunk().await.is_some() {}
            }
            if let Err(error) = rest.finish(0, None).await {
                tracing::debug!(%error, "an abandoned call ended");
            }
        };
        context.background.spawn(task);
    }
}

/// Whether a failure means that the sandbox's process is over.
const fn ends_the_process(error_type: ErrorType) -> bool {
    match error_type {
        ErrorType::Timeout | ErrorType::OutOfMemory | ErrorType::Exited => true,
        ErrorType::FunctionError
        | ErrorType::InitError
        | ErrorType::BadResponse
        | ErrorType::PlatformError
        | ErrorType::Cancelled
        | ErrorType::HookError => false,
    }
}

fn call_failure(error: CallError) -> Result<Failure, RunError> {
    let error_type = match error.kind {
        CallErrorKind::FunctionError => ErrorType::FunctionError,
        CallErrorKind::BadResponse => ErrorType::BadResponse,
        CallErrorKind::BadEvent => return Err(RunError::BadEvent(error.message)),
    };
    Ok(Failure { error_type, class: error.class, message: error.message, stack: error.stack })
}

fn joined(mut first: Logs, then: Logs) -> Logs {
    if first.is_empty() {
        return then;
    }
    for line in then.lines() {
        first.push(line.level, &line.text);
    }
    first.add_dropped(then.dropped_bytes());
    first
}
