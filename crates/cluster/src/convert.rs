//! The values of the model as they travel, and back. What came over the network is checked here.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use impuls_dispatch::{CommandPool, Executed, LiveSandbox, Refusals, RunError, SandboxUsage, Traffic};
use impuls_domain::{
    ArtifactDigest, Built, ErrorType, Failure, FunctionId, FunctionName, InvocationId, LoadFailure, LogLevel,
    Logs, Measured, Outcome, RevisionId, SandboxId, Usage, VersionNumber,
};
use impuls_sandbox::SandboxError;
use serde::{Deserialize, Serialize};

use crate::row::WireRevision;

/// A span as it travels: whole microseconds.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Which revision: a worker that does not know it finds it in the store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Which {
    pub(crate) function: FunctionId,
    pub(crate) version: u64,
    pub(crate) revision: RevisionId,
}

/// What [`crate::protocol::path::RUN`] asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunHead {
    pub(crate) id: InvocationId,
    pub(crate) which: Which,
    /// Until its deadline. Clocks of two machines differ, spans do not.
    pub(crate) remaining_us: u64,
    pub(crate) timeout_us: u64,
    pub(crate) deadline_unix_ms: u64,
    #[serde(default)]
    pub(crate) measure: bool,
    #[serde(default)]
    pub(crate) max_concurrency: Option<NonZeroU32>,
    /// Whether it may stream.
    #[serde(default)]
    pub(crate) streams: bool,
    /// How many frames with the context and the event follow.
    pub(crate) frames: usize,
    /// Whether a body follows them.
    #[serde(default)]
    pub(crate) has_input: bool,
}

/// What [`crate::protocol::path::EXECUTE`] asks. The standard input is a frame of its own.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExecuteHead {
    pub(crate) argv: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) working_dir: Option<String>,
    pub(crate) memory_mib: u32,
    pub(crate) milli_vcpu: u32,
    pub(crate) remaining_us: u64,
    /// Whether its standard input follows.
    #[serde(default)]
    pub(crate) has_stdin: bool,
    /// Whether to send what it writes meanwhile.
    #[serde(default)]
    pub(crate) streams: bool,
}

/// What [`crate::protocol::path::WARM`] asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WarmHead {
    pub(crate) which: Which,
    pub(crate) count: usize,
    pub(crate) remaining_us: u64,
}

/// What [`crate::protocol::path::BUILD`] and [`crate::protocol::path::CHECK`] ask.
#[derive(Serialize, Deserialize)]
pub(crate) struct CodeHead {
    pub(crate) function: String,
    pub(crate) revision: WireRevision,
}

/// What is asked about one function.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct FunctionHead {
    pub(crate) function: FunctionId,
}

/// A number that is asked or answered.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Count {
    #[serde(default)]
    pub(crate) count: usize,
}

/// How a call ended, without its result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    #[serde(default)]
    failure: Option<WireFailure>,
    #[serde(default)]
    logs: Vec<(u8, String)>,
    #[serde(default)]
    dropped_bytes: u64,
    duration_us: u64,
    #[serde(default)]
    init_us: u64,
    memory_mib: u32,
    #[serde(default)]
    measured: Option<Measured>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireFailure {
    error_type: String,
    class: String,
    message: String,
    stack: Option<String>,
}

const LEVELS: [LogLevel; 6] =
    [LogLevel::Stdout, LogLevel::Stderr, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];

fn level(wanted: LogLevel) -> u8 {
    let place = LEVELS.iter().position(|level| *level == wanted);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or_default()
}

impl Ended {
    pub(crate) fn of<Body>(outcome: &Outcome<Body>) -> Self {
        let Outcome { result, logs, usage } = outcome;
        let failure = result.as_ref().err().map(|failure| WireFailure {
            error_type: failure.error_type.as_str().to_owned(),
            class: failure.class.clone(),
            message: failure.message.clone(),
            stack: failure.stack.clone(),
        });
        Self {
            failure,
            logs: logs.lines().iter().map(|line| (level(line.level), line.text.clone())).collect(),
            dropped_bytes: logs.dropped_bytes(),
            duration_us: micros(usage.duration),
            init_us: micros(usage.init_duration),
            memory_mib: usage.memory_mib,
            measured: usage.measured,
        }
    }

    /// The outcome, with the result that came with it.
    pub(crate) fn outcome<Body: Default>(self, result: Option<Body>) -> Outcome<Body> {
        let mut logs = Logs::default();
        for (number, text) in &self.logs {
            let level = LEVELS.get(usize::from(*number)).copied().unwrap_or(LogLevel::Info);
            logs.push(level, text);
        }
        logs.add_dropped(self.dropped_bytes);
        let result = match self.failure {
            None => Ok(result.unwrap_or_default()),
            Some(WireFailure { error_type, class, message, stack }) => Err(Failure {
                // A kind that a newer worker knows.
                error_type: ErrorType::parse(&error_type).unwrap_or(ErrorType::FunctionError),
                class,
                message,
                stack,
            }),
        };
        let usage = Usage {
            duration: Duration::from_micros(self.duration_us),
            init_duration: Duration::from_micros(self.init_us),
            memory_mib: self.memory_mib,
            measured: self.measured,
        };
        Outcome { result, logs, usage }
    }
}

/// Why there is no end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    kind: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retry_after_ms: u64,
}

impl Failed {
    pub(crate) fn of(error: &RunError) -> Self {
        let (kind, message) = match error {
            RunError::NoSandboxInTime => ("no_sandbox_in_time", String::new()),
            RunError::QueueFull { .. } => ("queue_full", String::new()),
            RunError::BadEvent(message) => ("bad_event", message.clone()),
            RunError::InputBroken(_) => ("input_broken", String::new()),
            RunError::WorkerLost(worker) => ("worker_lost", worker.clone()),
            RunError::NoWorker(why) => ("no_worker", (*why).to_owned()),
            RunError::Sandbox(SandboxError::AtCapacity) => ("at_capacity", String::new()),
            RunError::Sandbox(SandboxError::Gone(_)) => ("sandbox_gone", String::new()),
            RunError::Sandbox(SandboxError::SpawnerGone) => ("spawner_gone", String::new()),
            RunError::Sandbox(SandboxError::DeadlineExceeded) => ("sandbox_late", String::new()),
            RunError::Sandbox(SandboxError::Network(why)) => ("no_network", why.clone()),
            RunError::Sandbox(other) => ("sandbox", chain(other)),
            RunError::Code(error) => ("code", chain(&**error)),
        };
        let retry_after_ms = match error {
            RunError::QueueFull { retry_after } => micros(*retry_after) / 1_000,
            _ => 0,
        };
        Self { kind: kind.to_owned(), message, retry_after_ms }
    }

    /// The error, and whether the call has certainly not begun and may fare better elsewhere.
    pub(crate) fn error(self) -> (RunError, bool) {
        let sandbox = |error| (RunError::Sandbox(error), true);
        match self.kind.as_str() {
            "no_sandbox_in_time" => (RunError::NoSandboxInTime, false),
            "queue_full" => {
                (RunError::QueueFull { retry_after: Duration::from_millis(self.retry_after_ms) }, true)
            }
            "bad_event" => (RunError::BadEvent(self.message), false),
            "input_broken" => (RunError::InputBroken(impuls_dispatch::InputBroken), false),
            "worker_lost" => (RunError::WorkerLost(self.message), false),
            "at_capacity" => sandbox(SandboxError::AtCapacity),
            "spawner_gone" => sandbox(SandboxError::SpawnerGone),
            "sandbox_gone" => sandbox(SandboxError::Gone(impuls_sandbox::Gone)),
            "sandbox_late" => (RunError::Sandbox(SandboxError::DeadlineExceeded), false),
            "no_network" => (RunError::Sandbox(SandboxError::Network(self.message)), false),
            "code" => (RunError::Code(Box::new(Told(self.message))), true),
            _ => {
                let source = io::Error::other(Told(self.message));
                (RunError::Sandbox(SandboxError::Setup { step: "on its worker".to_owned(), source }), false)
            }
        }
    }
}

/// What a worker says of its failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Told(pub(crate) String);

/// An error and all its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// [`CommandPool`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WirePool {
    #[serde(default)]
    ready: usize,
    #[serde(default)]
    target: usize,
    #[serde(default)]
    running: usize,
}

impl From<CommandPool> for WirePool {
    fn from(pool: CommandPool) -> Self {
        Self { ready: pool.ready, target: pool.target, running: pool.running }
    }
}

impl From<WirePool> for CommandPool {
    fn from(pool: WirePool) -> Self {
        Self { ready: pool.ready, target: pool.target, running: pool.running }
    }
}

/// How a command ended, with what it wrote in frames of its own.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WireExecuted {
    exit_code: Option<i32>,
    signal: Option<i32>,
    truncated: bool,
    duration_us: u64,
    start_us: u64,
    prewarmed: bool,
    timed_out: bool,
    out_of_memory: bool,
}

impl From<&Executed> for WireExecuted {
    fn from(executed: &Executed) -> Self {
        Self {
            exit_code: executed.exit_code,
            signal: executed.signal,
            truncated: executed.truncated,
            duration_us: micros(executed.duration),
            start_us: micros(executed.start_duration),
            prewarmed: executed.prewarmed,
            timed_out: executed.timed_out,
            out_of_memory: executed.out_of_memory,
        }
    }
}

impl WireExecuted {
    pub(crate) fn executed(self) -> Executed {
        Executed {
            exit_code: self.exit_code,
            signal: self.signal,
            truncated: self.truncated,
            duration: Duration::from_micros(self.duration_us),
            start_duration: Duration::from_micros(self.start_us),
            prewarmed: self.prewarmed,
            timed_out: self.timed_out,
            out_of_memory: self.out_of_memory,
            ..Executed::default()
        }
    }
}

/// [`Refusals`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WireRefusals {
    packets: u64,
    lookups: u64,
}

impl From<Refusals> for WireRefusals {
    fn from(Refusals { packets, lookups }: Refusals) -> Self {
        Self { packets, lookups }
    }
}

impl From<WireRefusals> for Refusals {
    fn from(WireRefusals { packets, lookups }: WireRefusals) -> Self {
        Self { packets, lookups }
    }
}

/// [`LiveSandbox`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireSandbox {
    id: SandboxId,
    function: FunctionId,
    function_name: String,
    version: u64,
    memory_mib: u32,
    milli_vcpu: u32,
    usage: Option<WireUsage>,
    #[serde(default)]
    refused: WireRefusals,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireUsage {
    cpu_us: u64,
    memory_bytes: u64,
    memory_peak_bytes: u64,
    traffic: Option<(u64, u64)>,
}

impl From<&LiveSandbox> for WireSandbox {
    fn from(sandbox: &LiveSandbox) -> Self {
        let usage = sandbox.usage.as_ref().map(|usage| WireUsage {
            cpu_us: micros(usage.cpu),
            memory_bytes: usage.memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            traffic: usage.traffic.map(|traffic| (traffic.received_bytes, traffic.sent_bytes)),
        });
        Self {
            id: sandbox.id,
            function: sandbox.function,
            function_name: sandbox.function_name.to_string(),
            version: sandbox.version.get(),
            memory_mib: sandbox.memory_mib,
            milli_vcpu: sandbox.milli_vcpu,
            usage,
            refused: sandbox.refused.into(),
        }
    }
}

impl WireSandbox {
    /// The sandbox, unless something of it cannot be.
    pub(crate) fn sandbox(self) -> Option<LiveSandbox> {
        let traffic = |(received_bytes, sent_bytes)| Traffic { received_bytes, sent_bytes };
        let usage = self.usage.map(|usage| SandboxUsage {
            cpu: Duration::from_micros(usage.cpu_us),
            memory_bytes: usage.memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            traffic: usage.traffic.map(traffic),
        });
        Some(LiveSandbox {
            id: self.id,
            function: self.function,
            function_name: self.function_name.parse::<FunctionName>().ok()?,
            version: VersionNumber::new(self.version)?,
            memory_mib: self.memory_mib,
            milli_vcpu: self.milli_vcpu,
            usage,
            refused: self.refused.into(),
        })
    }
}

/// [`LoadFailure`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireLoadFailure {
    class: String,
    message: String,
    file: Option<String>,
    line: Option<u32>,
}

impl From<LoadFailure> for WireLoadFailure {
    fn from(LoadFailure { class, message, file, line }: LoadFailure) -> Self {
        Self { class, message, file, line }
    }
}

impl From<WireLoadFailure> for LoadFailure {
    fn from(WireLoadFailure { class, message, file, line }: WireLoadFailure) -> Self {
        Self { class, message, file, line }
    }
}

/// [`Built`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireBuilt {
    AsIs,
    Archive([u8; 32]),
    Failed(WireLoadFailure),
}

impl From<Built> for WireBuilt {
    fn from(built: Built) -> Self {
        match built {
            Built::AsIs => Self::AsIs,
            Built::Archive(digest) => Self::Archive(*digest.as_bytes()),
            Built::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

impl From<WireBuilt> for Built {
    fn from(built: WireBuilt) -> Self {
        match built {
            WireBuilt::AsIs => Self::AsIs,
            WireBuilt::Archive(digest) => Self::Archive(ArtifactDigest::from_bytes(digest)),
            WireBuilt::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

/// What loading code once came to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WireChecked {
    pub(crate) sandbox_after_us: Option<u64>,
    pub(crate) failure: Option<WireLoadFailure>,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_outcome_comes_back_whole() {
        let mut logs = Logs::default();
        logs.push(LogLevel::Warn, "careful");
        logs.push(LogLevel::Stderr, "two\nlines");
        logs.add_dropped(7);
        let failure = Failure {
            error_type: ErrorType::Timeout,
            class: "C".to_owned(),
            message: "m".to_owned(),
            stack: Some("s".to_owned()),
        };
        let usage = Usage {
            duration: Duration::from_micros(1_234),
            init_duration: Duration::from_micros(5),
            memory_mib: 128,
            measured: Some(Measured { cpu_ns: 9, ..Measured::default() }),
        };
        for result in [Ok(Bytes::from_static(b"[1]")), Err(failure)] {
            let outcome = Outcome { result: result.clone(), logs: logs.clone(), usage };
            let text = serde_json::to_vec(&Ended::of(&outcome)).unwrap();
            let back: Ended = serde_json::from_slice(&text).unwrap();
            assert_eq!(back.outcome(result.ok()), outcome);
        }
    }

    #[test]
    fn every_error_of_a_worker_means_the_same_here() {
        let setup = SandboxError::Setup { step: "mount".to_owned(), source: io::Error::other("no") };
        let errors = [
            (RunError::NoSandboxInTime, false),
            (RunError::QueueFull { retry_after: Duration::from_secs(2) }, true),
            (RunError::BadEvent("x".to_owned()), false),
            (RunError::InputBroken(impuls_dispatch::InputBroken), false),
            (RunError::Sandbox(SandboxError::AtCapacity), true),
            (RunError::Sandbox(SandboxError::Network("n".to_owned())), false),
            (RunError::Sandbox(setup), false),
        ];
        for (error, elsewhere) in errors {
            let text = serde_json::to_vec(&Failed::of(&error)).unwrap();
            let (back, may_go) = serde_json::from_slice::<Failed>(&text).unwrap().error();
            assert_eq!(std::mem::discriminant(&back), std::mem::discriminant(&error));
            assert_eq!(may_go, elsewhere, "{error}");
        }
    }
}
