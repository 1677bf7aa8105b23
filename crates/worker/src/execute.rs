//! One-off commands: each in a sandbox of the system image that no other command has seen, destroyed afterwards.
//!
//! The first command makes the worker keep such sandboxes ready. The agent inside runs the command; what it writes is
//! also sent while it runs, so that a command which is killed at its deadline still has its output.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use impuls_dispatch::{CommandPool, ExecuteRequest, Executed, OnOutput, OutputStream, RunError};
use impuls_domain::{Contract, LogLevel, Logs, SandboxId};
use impuls_sandbox::{
    Assignment, CallError, Connection, Init, LossReason, Lost, Part, RuntimeImage, SandboxError,
    SandboxLimits, Waiting,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::local::LocalWorker;
use crate::room::Room;
use crate::start::{CODE_DIR, Counted, SPAWNER_RESTART, StartContext, TRIES, is_death, unassigned};

/// The runtime whose sandboxes hold the machine's own programs and nothing else.
const RUNTIME: &str = "command";
/// Where a command runs that says nothing else: the one folder that it can write to.
const WORKING_DIR: &str = "/tmp";
/// The most of each stream that is kept for a command which does not live to report its output, in bytes.
const CAPTURE_LIMIT: usize = 1024 * 1024;
/// How long the news of an agent's end may come after the end of its connection.
const EXIT_NEWS: Duration = Duration::from_millis(500);

/// What the agent is told.
#[derive(Serialize)]
struct Command<'a> {
    argv: &'a [String],
    env: &'a BTreeMap<String, String>,
    stdin_base64: String,
    cwd: &'a str,
    stream: bool,
}

/// What the agent answers.
#[derive(Deserialize)]
struct Answer {
    exit_code: Option<i32>,
    signal: Option<i32>,
    stdout_base64: String,
    stderr_base64: String,
    #[serde(default)]
    truncated: bool,
}

impl LocalWorker {
    pub(crate) async fn run_command(&self, request: ExecuteRequest) -> Result<Executed, RunError> {
        let context = &self.context;
        let _running = Counted::new(&context.executing);
        let begun = Instant::now();
        let image = context.command_image()?;
        let code = context.folders.empty().await.map_err(|error| RunError::Code(error.into()))?;
        let mut tries = TRIES;
        loop {
            let room = match context.command_sandbox(&image, &request).await {
                Ok(room) => room,
                Err(SandboxError::SpawnerGone) if tries > 1 => {
                    tries -= 1;
                    tokio::time::sleep(SPAWNER_RESTART).await;
                    continue;
                }
                Err(SandboxError::DeadlineExceeded) => return Ok(late(begun)),
                Err(error) => return Err(error.into()),
            };
            match room.begin(&request, &code).await {
                // The connection closes with its last holder.
                Ok((_connection, waiting)) => {
                    let start_duration = begun.elapsed();
                    let executed = room.finish(waiting, request.on_output.as_ref()).await?;
                    return Ok(Executed { start_duration, ..executed });
                }
                Err(SandboxError::DeadlineExceeded) => return Ok(late(begun)),
                // It died while it waited; nothing of the command has begun.
                Err(error) => {
                    tries -= usize::from(!(room.prewarmed && is_death(&error)));
                    if tries == 0 || !error.is_retryable() {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    pub(crate) fn keep_command_sandboxes(&self, count: usize) -> CommandPool {
        if let Ok(image) = self.context.command_image() {
            self.context.prewarm.ask(&image, count);
        }
        self.command_sandboxes()
    }

    pub(crate) fn command_sandboxes(&self) -> CommandPool {
        let running = self.context.executing.load(std::sync::atomic::Ordering::Relaxed);
        let image = self.context.command_image();
        let (ready, target) = image.map_or((0, 0), |image| self.context.prewarm.counts(&image));
        CommandPool { ready, target, running }
    }
}

/// A command whose deadline passed before there was a sandbox.
fn late(begun: Instant) -> Executed {
    Executed { start_duration: begun.elapsed(), timed_out: true, ..Executed::default() }
}

impl StartContext {
    fn command_image(&self) -> Result<Arc<RuntimeImage>, RunError> {
        let name = RUNTIME.parse().map_err(|error: impuls_domain::NameError| RunError::Code(error.into()))?;
        let installed = self.catalogue.resolve(&name).map_err(|error| RunError::Code(error.into()))?;
        Ok(installed.agent_image.clone())
    }

    /// A prewarmed sandbox, or a new one. Its limits are set when it is assigned.
    async fn command_sandbox(
        self: &Arc<Self>,
        image: &Arc<RuntimeImage>,
        request: &ExecuteRequest,
    ) -> Result<Room, SandboxError> {
        let room = |sandbox, prewarmed| Room { context: self.clone(), sandbox, prewarmed };
        if let Some(sandbox) = self.prewarm.take(image) {
            return Ok(room(self.counted(sandbox), true));
        }
        self.prewarm.enable(image);
        let spec = unassigned(image, SandboxLimits::from(&request.limits));
        Ok(room(self.create(&self.drivers.standard, spec, request.deadline).await?, false))
    }
}

impl Room {
    /// Hands the command to the agent.
    async fn begin(
        &self,
        request: &ExecuteRequest,
        code: &Path,
    ) -> Result<(Connection, Waiting), SandboxError> {
        let limits = SandboxLimits::from(&request.limits);
        let assignment = Assignment {
            code: code.to_owned(),
            limits,
            network: self.context.config.command_network.clone(),
            init: init(self.sandbox.id(), limits.memory_mib),
        };
        let command = Command {
            argv: &request.argv,
            env: request.environment.variables(),
            stdin_base64: STANDARD.encode(&request.stdin),
            cwd: request.working_dir.as_deref().unwrap_or(WORKING_DIR),
            stream: true,
        };
        let event =
            serde_json::to_vec(&command).map_err(|error| SandboxError::Protocol(error.to_string()))?;
        self.call(assignment, &event, request.deadline).await
    }

    async fn finish(&self, waiting: Waiting, on_output: Option<&OnOutput>) -> Result<Executed, RunError> {
        let begun = Instant::now();
        let mut captured = Captured::default();
        while let Some(part) = waiting.next_part().await {
            // A command sends no output but as log text and with its result.
            if let Part::Logs(logs) = part {
                captured.add(&logs, on_output);
            }
        }
        let ended = waiting.await;
        let duration = begun.elapsed();
        let mut executed = match ended {
            Ok(reply) => reported(reply.result)?,
            Err(Lost { reason, logs }) => {
                captured.add(&logs, on_output);
                let timed_out = reason == LossReason::DeadlinePassed;
                let news = if timed_out { Duration::ZERO } else { EXIT_NEWS };
                let exit = tokio::time::timeout(news, self.sandbox.exited()).await;
                let killed = self.killed().await;
                let exit = exit.unwrap_or(killed);
                Executed {
                    exit_code: exit.code.filter(|_| !timed_out),
                    signal: exit.signal,
                    out_of_memory: exit.out_of_memory,
                    timed_out,
                    ..captured.into_executed()
                }
            }
        };
        if executed.signal == Some(KILLED) && !executed.timed_out {
            // Nothing but the kernel sends it to a command that nobody stopped, and that for its memory alone.
            executed.out_of_memory |= self.killed().await.out_of_memory;
        }
        Ok(Executed { duration, prewarmed: self.prewarmed, ..executed })
    }
}

/// `SIGKILL` (`signal(7)`).
const KILLED: i32 = 9;

fn init(id: SandboxId, memory_mb: u32) -> Init {
    Init {
        function_name: RUNTIME.to_owned(),
        function_version: "1".to_owned(),
        function_id: id.to_string(),
        handler: RUNTIME.to_owned(),
        contract: Contract::Command.as_str().to_owned(),
        memory_mb,
        timeout_ms: 0,
        concurrency: 1,
        environment: BTreeMap::new(),
        code_dir: CODE_DIR.to_owned(),
        check: false,
        command: Vec::new(),
    }
}

/// What the agent says about a command that has ended.
fn reported(result: Result<Bytes, CallError>) -> Result<Executed, RunError> {
    let broken = |text: String| RunError::Sandbox(SandboxError::Protocol(text));
    let answer = result.map_err(|error| broken(error.message))?;
    let answer: Answer = serde_json::from_slice(&answer).map_err(|error| broken(error.to_string()))?;
    let bytes =
        |text: &str| STANDARD.decode(text).map(Bytes::from).map_err(|error| broken(error.to_string()));
    Ok(Executed {
        exit_code: answer.exit_code,
        signal: answer.signal,
        stdout: bytes(&answer.stdout_base64)?,
        stderr: bytes(&answer.stderr_base64)?,
        truncated: answer.truncated,
        ..Executed::default()
    })
}

/// What a command has written so far, within a bound.
#[derive(Default)]
struct Captured {
    stdout: String,
    stderr: String,
    truncated: bool,
}

impl Captured {
    fn add(&mut self, logs: &Logs, on_output: Option<&OnOutput>) {
        self.truncated |= logs.dropped_bytes() > 0;
        for line in logs.lines() {
            let (stream, kept) = match line.level {
                LogLevel::Stdout => (OutputStream::Stdout, &mut self.stdout),
                LogLevel::Stderr | LogLevel::Debug | LogLevel::Info | LogLevel::Warn | LogLevel::Error => {
                    (OutputStream::Stderr, &mut self.stderr)
                }
            };
            let room = CAPTURE_LIMIT.saturating_sub(kept.len());
            let fits = line.text.get(..line.text.floor_char_boundary(room)).unwrap_or_default();
            kept.push_str(fits);
            self.truncated |= fits.len() < line.text.len();
            if let Some(on_output) = on_output {
                on_output.call(stream, &line.text);
            }
        }
    }

    fn into_executed(self) -> Executed {
        Executed {
            stdout: self.stdout.into(),
            stderr: self.stderr.into(),
            truncated: self.truncated,
            ..Executed::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn output_is_passed_on_whole_and_kept_within_a_bound() {
        let seen = Arc::new(Mutex::new(0));
        let counter = seen.clone();
        let on_output = OnOutput::new(move |_, text| *counter.lock().unwrap() += text.len());
        let mut captured = Captured::default();
        for _ in 0..3 {
            let mut logs = Logs::default();
            logs.push(LogLevel::Stdout, &"é".repeat(CAPTURE_LIMIT / 4));
            logs.push(LogLevel::Stderr, "e\n");
            captured.add(&logs, Some(&on_output));
        }
        assert_eq!(*seen.lock().unwrap(), 3 * (CAPTURE_LIMIT / 2 + 2));
        let executed = captured.into_executed();
        assert_eq!(executed.stdout.len(), CAPTURE_LIMIT);
        assert_eq!(executed.stderr, "e\ne\ne\n");
        assert!(executed.truncated);
    }

    #[test]
    fn the_agents_answer_is_read() {
        let answer =
            r#"{"exit_code":3,"signal":null,"stdout_base64":"aGk=","stderr_base64":"","truncated":false}"#;
        let executed = reported(Ok(Bytes::from_static(answer.as_bytes()))).unwrap();
        assert_eq!((executed.exit_code, executed.stdout.as_ref()), (Some(3), &b"hi"[..]));
        assert!(matches!(
            reported(Ok(Bytes::from_static(b"{}"))),
            Err(RunError::Sandbox(SandboxError::Protocol(_)))
        ));
    }
}
