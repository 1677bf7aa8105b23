//! How each thing that can be asked is answered.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::Incoming;
use impuls_dispatch::{
    Duplex, ExecuteRequest, Executed, Input, InputBroken, OnOutput, OutputStream, RunError, RunRequest,
    Target,
};
use impuls_domain::{Deadline, Environment, Limits, Outcome, Revision, VersionNumber};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::convert::{
    CodeHead, Count, Ended, ExecuteHead, Failed, FunctionHead, RunHead, WarmHead, Which, WireBuilt,
    WireChecked, WireExecuted, WirePool, WireRefusals, WireSandbox, micros,
};
use crate::protocol::{Frames, ProtocolError, Sending, frame, json, kind};
use crate::remote::exchange::with_rest;
use crate::serving::{Entered, Serving};

/// The longest that a request may ask for: far beyond every timeout of a function.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Pieces of text that wait to be sent; what a command or build writes faster than that is left out of what is shown
/// meanwhile.
const TEXTS: usize = 256;
/// Pieces of output that wait to be sent.
const PIECES: usize = 2;

type Answered = Result<Sending, ProtocolError>;

/// Something that was asked.
pub(super) struct Asked {
    serving: Arc<Serving>,
    frames: Frames<Incoming>,
    /// Counts it from its first byte on.
    entered: Entered,
}

fn after(us: u64) -> Deadline {
    let now = Instant::now().into_std();
    Deadline::at(now + Duration::from_micros(us).min(LONGEST))
}

fn ended(value: &impl Serialize) -> Sending {
    Sending::whole([json(kind::ENDED, value)])
}

fn failed(error: &RunError) -> Sending {
    Sending::whole([json(kind::FAILED, &Failed::of(error))])
}

fn missing(what: &'static str) -> ProtocolError {
    ProtocolError::Missing(what)
}

impl Asked {
    pub(super) fn new(serving: Arc<Serving>, body: Incoming) -> Self {
        let entered = serving.load.enter();
        Self { serving, frames: Frames::new(body), entered }
    }

    async fn head<T: DeserializeOwned>(&mut self) -> Result<T, ProtocolError> {
        self.frames.expect(kind::HEAD, "head").await
    }

    /// What comes in so many frames after the head: the context and the event.
    async fn rest(&mut self, frames: usize) -> Result<(Bytes, Bytes), ProtocolError> {
        let (mut context, mut event) = (Bytes::new(), Bytes::new());
        for _ in 0..frames {
            let (kind, payload) = self.frames.next().await?.ok_or(ProtocolError::Short)?;
            match kind {
                kind::CONTEXT => context = payload,
                kind::EVENT => event = payload,
                _ => {}
            }
        }
        Ok((context, event))
    }

    async fn target(&self, which: Which) -> Result<Result<Arc<Target>, RunError>, ProtocolError> {
        let version = VersionNumber::new(which.version).ok_or(missing("version"))?;
        Ok(self.serving.host.target(which.function, version, which.revision).await)
    }

    pub(super) async fn run(mut self) -> Answered {
        let head: RunHead = self.head().await?;
        let admitted = Instant::now().into_std();
        let deadline = after(head.remaining_us);
        let (context, event) = self.rest(head.frames).await?;
        let target = match self.target(head.which).await? {
            Ok(target) => target,
            Err(error) => return Ok(failed(&error)),
        };
        let request = RunRequest {
            id: head.id,
            target,
            event,
            context,
            admitted,
            deadline,
            timeout: Duration::from_micros(head.timeout_us),
            deadline_unix_ms: head.deadline_unix_ms,
            max_concurrency: head.max_concurrency,
            measure: head.measure,
        };
        if !head.streams {
            return Ok(outcome(self.serving.run(request, None).await));
        }
        let Self { serving, frames, entered } = self;
        let input = head.has_input.then(|| Box::new(Arriving(Some(frames))) as Box<dyn Input>);
        let (sender, more) = mpsc::channel(PIECES);
        let maker = tokio::spawn(async move {
            let _entered = entered;
            stream(&serving, request, input, sender).await;
        });
        Ok(Sending::default().then(more).made_by(maker))
    }

    pub(super) async fn execute(mut self) -> Answered {
        let head: ExecuteHead = self.head().await?;
        let (_, stdin) = self.rest(usize::from(head.has_stdin)).await?;
        let Some(limits) = Limits::default()
            .with_memory_mib(head.memory_mib)
            .and_then(|limits| limits.with_milli_vcpu(head.milli_vcpu))
            .ok()
        else {
            return Err(missing("valid limits"));
        };
        let environment = Environment::new(head.environment).map_err(|_| missing("valid environment"))?;
        let Self { serving, entered, .. } = self;
        let (sender, more) = mpsc::channel(TEXTS);
        let request = ExecuteRequest {
            argv: head.argv,
            environment,
            stdin,
            working_dir: head.working_dir,
            limits,
            deadline: after(head.remaining_us),
            on_output: head.streams.then(|| texts(sender.clone())),
        };
        let maker = tokio::spawn(async move {
            let _entered = entered;
            let frames = match serving.execute(request).await {
                Ok(executed) => command_ended(executed),
                Err(error) => vec![json(kind::FAILED, &Failed::of(&error))],
            };
            send(&sender, frames).await;
        });
        Ok(Sending::default().then(more).made_by(maker))
    }

    pub(super) async fn warm(mut self) -> Answered {
        let head: WarmHead = self.head().await?;
        let target = match self.target(head.which).await? {
            Ok(target) => target,
            Err(error) => return Ok(failed(&error)),
        };
        let count = self.serving.host.worker().warm(&target, head.count, after(head.remaining_us)).await;
        Ok(ended(&Count { count }))
    }

    async fn code(&mut self) -> Result<(impuls_domain::FunctionName, Revision), ProtocolError> {
        let head: CodeHead = self.head().await?;
        let function = head.function.parse().map_err(|_| missing("valid name"))?;
        let revision = head.revision.revision().map_err(|_| missing("valid revision"))?;
        Ok((function, revision))
    }

    pub(super) async fn build(mut self) -> Answered {
        let (_, revision) = self.code().await?;
        let Self { serving, entered, .. } = self;
        let (sender, more) = mpsc::channel(TEXTS);
        let maker = tokio::spawn(async move {
            let _entered = entered;
            let log = texts(sender.clone());
            let last = match serving.host.build(&revision, &log).await {
                Ok(built) => json(kind::ENDED, &WireBuilt::from(built)),
                Err(error) => json(kind::FAILED, &Failed::of(&error)),
            };
            send(&sender, [last]).await;
        });
        Ok(Sending::default().then(more).made_by(maker))
    }

    pub(super) async fn check(mut self) -> Answered {
        let (function, revision) = self.code().await?;
        let (sandbox_after, failure) = self.serving.host.check(&function, &revision).await;
        let failure = failure.map(Into::into);
        Ok(ended(&WireChecked { sandbox_after_us: sandbox_after.map(micros), failure }))
    }

    pub(super) async fn activate(mut self) -> Answered {
        let FunctionHead { function } = self.head().await?;
        Ok(match self.serving.host.activate(function).await {
            Ok(()) => ended(&Count::default()),
            Err(error) => failed(&error),
        })
    }

    pub(super) async fn prewarm(mut self) -> Answered {
        let Count { count } = self.head().await?;
        Ok(ended(&WirePool::from(self.serving.host.worker().prewarm_commands(count).await)))
    }

    pub(super) async fn pool(self) -> Answered {
        Ok(ended(&WirePool::from(self.serving.host.worker().command_pool().await)))
    }

    pub(super) async fn sandboxes(self) -> Answered {
        let live = self.serving.host.worker().sandboxes().await;
        Ok(ended(&live.iter().map(WireSandbox::from).collect::<Vec<_>>()))
    }

    pub(super) async fn refusals(mut self) -> Answered {
        let FunctionHead { function } = self.head().await?;
        Ok(ended(&WireRefusals::from(self.serving.host.worker().refusals(function).await)))
    }

    pub(super) fn wake(self) -> Sending {
        self.serving.host.wake();
        ended(&Count::default())
    }
}

/// The end of a call as it is sent.
fn call_ended(ended: Result<Outcome<Bytes>, RunError>) -> Vec<Bytes> {
    match ended {
        Ok(outcome) => {
            let end = serde_json::to_vec(&Ended::of(&outcome)).unwrap_or_default();
            with_rest(&end, &[outcome.result.unwrap_or_default()])
        }
        Err(error) => vec![json(kind::FAILED, &Failed::of(&error))],
    }
}

fn outcome(ended: Result<Outcome<Bytes>, RunError>) -> Sending {
    Sending::whole(call_ended(ended))
}

fn command_ended(mut executed: Executed) -> Vec<Bytes> {
    let (stdout, stderr) = (std::mem::take(&mut executed.stdout), std::mem::take(&mut executed.stderr));
    let end = serde_json::to_vec(&WireExecuted::from(&executed)).unwrap_or_default();
    let length = u32::try_from(stdout.len()).unwrap_or(u32::MAX).to_be_bytes();
    with_rest(&end, &[Bytes::copy_from_slice(&length), stdout, stderr])
}

/// Passes text on without waiting for anybody.
fn texts(sender: mpsc::Sender<Bytes>) -> OnOutput {
    OnOutput::new(move |stream, text| {
        let number = match stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        };
        let payload = [&[number], text.as_bytes()].concat();
        // Who does not read fast enough sees less.
        drop(sender.try_send(frame(kind::TEXT, &payload)));
    })
}

/// Sends frames; nobody may want them any more.
async fn send(sender: &mpsc::Sender<Bytes>, frames: impl IntoIterator<Item = Bytes>) {
    for frame in frames {
        if sender.send(frame).await.is_err() {
            return;
        }
    }
}

/// Runs a call that may stream, and sends what it makes as it comes.
async fn stream(
    serving: &Serving,
    request: RunRequest,
    input: Option<Box<dyn Input>>,
    sender: mpsc::Sender<Bytes>,
) {
    let (duplex, mut output) = Duplex::new(input);
    let running = serving.run(request, Some(duplex));
    let passing = async {
        while let Some(piece) = output.recv().await {
            if sender.send(frame(kind::OUTPUT, &piece)).await.is_err() {
                return;
            }
        }
    };
    let (mut running, mut passing) = (std::pin::pin!(running), std::pin::pin!(passing));
    let mut has_passed = false;
    // The call is polled while somebody waits for room, so that its deadline holds.
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut passing, if !has_passed => has_passed = true,
            ended = &mut running => break ended,
        }
    };
    if !has_passed {
        passing.await;
    }
    send(&sender, call_ended(ended)).await;
}

/// The body of a request, as it arrives over the network.
struct Arriving(Option<Frames<Incoming>>);

#[async_trait]
impl Input for Arriving {
    async fn next(&mut self) -> Option<Result<Bytes, InputBroken>> {
        loop {
            match self.0.as_mut()?.next().await {
                Ok(Some((kind::INPUT, piece))) => return Some(Ok(piece)),
                Ok(Some((kind::INPUT_END, _))) => {
                    self.0 = None;
                    return None;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    self.0 = None;
                    return Some(Err(InputBroken));
                }
            }
        }
    }
}
