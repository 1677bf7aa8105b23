//! One sandbox, as the server holds it: its socket, its output, its end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as BlockingStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use impuls_domain::{Deadline, LogLevel, Logs, SandboxId};
use impuls_guest_protocol::FrameKind;
use impuls_sandbox::{
    Assignment, Connection, Exit, Gone, InitFailure, InitReport, Output, OutputSource, Refusals, Sandbox,
    SandboxError, SandboxSpec, SandboxUsage, Traffic,
};
use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::driver::{Answer, Core, Folder, Refused, Station};
use crate::messages::{Create, End, Key, Request, Usage};
use crate::network::{Attachment, Network};
use crate::spawner::CODE;

/// How long the news of an end may come after the end of the connection.
const NEWS_DELAY: Duration = Duration::from_millis(500);
/// Longest piece of a dead process's output in an error, in characters.
const LAST_WORDS: usize = 2_000;

/// A sandbox of the process driver.
pub(crate) struct ProcessSandbox {
    id: SandboxId,
    core: Arc<Core>,
    station: Arc<Station>,
    folder: Arc<Folder>,
    network: Arc<Network>,
    /// Its own part of the network, if its function has one.
    attachment: Mutex<Option<Attachment>>,
    /// What the attachment had counted when it went.
    refused: Mutex<Refusals>,
    output: Arc<Output>,
    anchor: Connection,
    end: watch::Receiver<Option<End>>,
    ended: watch::Sender<Option<End>>,
    destroyed: AtomicBool,
}

/// What a sandbox's process gets: listening socket, standard output, standard error.
pub(crate) type Stdio = [OwnedFd; 3];

fn setup(step: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |source| SandboxError::Setup { step: step.to_owned(), source }
}

impl ProcessSandbox {
    /// Makes the server's part of a sandbox. Dropped, it takes everything with it.
    pub(crate) fn prepare(
        core: &Arc<Core>,
        station: &Arc<Station>,
        (folder, network): (&Arc<Folder>, &Arc<Network>),
        spec: &SandboxSpec,
    ) -> Result<(Arc<Self>, Stdio), SandboxError> {
        let path = socket_path(folder, spec.id);
        let listener = UnixListener::bind(&path).map_err(setup("bind the sandbox's socket"))?;
        let stream = BlockingStream::connect(&path).map_err(setup("connect to the sandbox's socket"))?;
        stream.set_nonblocking(true).map_err(setup("connect to the sandbox's socket"))?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| setup("make pipes")(error.into()));
        let ((stdout, stdout_guest), (stderr, stderr_guest)) = (pipe()?, pipe()?);
        // The caller may be on any runtime; what lives as long as the sandbox is served by the driver's.
        let entered = core.runtime.enter();
        let output = Output::new(stdout, stderr).map_err(setup("watch pipes"))?;
        let stream = UnixStream::from_std(stream).map_err(setup("watch the sandbox's socket"))?;
        let anchor = Connection::serve(stream, output.clone());
        drop(entered);
        let (ended, end) = watch::channel(None);
        core.enter(key(spec.id), ended.clone());
        let sandbox = Self {
            id: spec.id,
            core: core.clone(),
            station: station.clone(),
            folder: folder.clone(),
            network: network.clone(),
            attachment: Mutex::new(None),
            refused: Mutex::default(),
            output,
            anchor,
            end,
            ended,
            destroyed: AtomicBool::new(false),
        };
        Ok((Arc::new(sandbox), [listener.into(), stdout_guest, stderr_guest]))
    }

    /// Has the spawner make its part.
    pub(crate) async fn build(&self, create: Create, fds: Stdio) -> Result<(), Refused> {
        let fds = fds.each_ref().map(AsFd::as_fd);
        self.station.link.order(|request| Request::Create { request, create }, &fds).await
    }

    /// Waits until the shim speaks.
    pub(crate) async fn await_ready(&self) -> Result<(), SandboxError> {
        match self.anchor.receive().await {
            Ok(frame) if frame.kind == FrameKind::Ready => Ok(()),
            Ok(frame) => Err(SandboxError::Protocol(format!("first frame is {:?}", frame.kind))),
            Err(Gone) => {
                let exit = tokio::time::timeout(NEWS_DELAY, self.exited()).await.ok();
                Err(SandboxError::DiedInSetup(self.last_words(exit)))
            }
        }
    }

    fn last_words(&self, exit: Option<Exit>) -> String {
        let how = match exit {
            None => "it closed its socket".to_owned(),
            Some(Exit { out_of_memory: true, .. }) => "out of memory".to_owned(),
            Some(Exit { signal: Some(signal), .. }) => format!("signal {signal}"),
            Some(Exit { code, .. }) => format!("exit code {}", code.unwrap_or_default()),
        };
        let output = self.output.drain();
        let text: Vec<&str> = output
            .iter()
            .filter(|(level, _)| *level == LogLevel::Stderr)
            .map(|(_, text)| text.as_str())
            .collect();
        let text: String = text.join("\n").chars().take(LAST_WORDS).collect();
        if text.is_empty() { how } else { format!("{how}: {text}") }
    }

    /// What has passed over its network: nothing while it has none.
    fn traffic(&self) -> Option<Traffic> {
        self.attachment.lock().as_ref().map_or_else(|| Some(Traffic::default()), Attachment::traffic)
    }

    fn forget(&self) {
        self.core.leave(key(self.id));
        let _gone_already = std::fs::remove_file(socket_path(&self.folder, self.id));
    }

    async fn load(&self, assignment: &Assignment) -> Result<InitReport, SandboxError> {
        if assignment.init.code_dir != CODE {
            let source = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(SandboxError::Setup { step: format!("show code elsewhere than at {CODE}"), source });
        }
        match self.enter(assignment).await {
            Err(SandboxError::Gone(Gone)) => return self.ended_while_loading().await,
            other => other?,
        }
        let init = serde_json::to_vec(&assignment.init).map_err(|error| setup("write INIT")(error.into()))?;
        if self.anchor.send(FrameKind::Init, &init).is_err() {
            return self.ended_while_loading().await;
        }
        match self.anchor.receive().await {
            Err(Gone) => self.ended_while_loading().await,
            Ok(frame) if frame.kind == FrameKind::InitOk => Ok(Ok(())),
            Ok(frame) if frame.kind == FrameKind::InitError => serde_json::from_slice(&frame.payload)
                .map(|error| Err(InitFailure::Reported(error)))
                .map_err(|error| SandboxError::Protocol(error.to_string())),
            Ok(frame) => Err(SandboxError::Protocol(format!("{:?} in answer to INIT", frame.kind))),
        }
    }

    /// Shows the code, sets the limits and gives it its network: all that must be before its code runs.
    async fn enter(&self, assignment: &Assignment) -> Result<(), SandboxError> {
        let network = !assignment.network.is_off();
        if network {
            self.network.check()?;
        }
        let (key, code, limits) = (key(self.id), assignment.code.clone(), assignment.limits.into());
        let order = |request| Request::Assign { request, key, code, limits, network };
        match self.station.link.ask(order, &[]).await? {
            Answer::Assigned(namespace) => {
                let (policy, init) = (&assignment.network, &assignment.init);
                let function = (init.function_name.as_str(), init.function_id.as_str());
                let attachment = self.network.attach(policy, function, namespace, &self.station.link).await?;
                *self.attachment.lock() = Some(attachment);
                Ok(())
            }
            Answer::Failed(refusal) => Err(Refused::Refusal(refusal).into()),
            Answer::Done | Answer::Welcome(..) => Ok(()),
        }
    }

    /// The connection ended while the code was being loaded: the code's own doing, whether its process ended or
    /// only closed its socket.
    async fn ended_while_loading(&self) -> Result<InitReport, SandboxError> {
        let exit = tokio::time::timeout(NEWS_DELAY, self.exited()).await;
        let unheard = Exit { code: None, signal: None, out_of_memory: false };
        Ok(Err(InitFailure::Exited(exit.unwrap_or(unheard))))
    }
}

fn key(id: SandboxId) -> Key {
    id.as_uuid().as_u128()
}

/// Through the folder's descriptor, because a socket's own path is limited to 107 bytes.
fn socket_path(folder: &Folder, id: SandboxId) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{id}.sock", folder.handle.as_raw_fd()))
}

fn exit_of(end: End) -> Exit {
    Exit { code: end.code, signal: end.signal, out_of_memory: end.out_of_memory }
}

#[async_trait]
impl Sandbox for ProcessSandbox {
    fn id(&self) -> SandboxId {
        self.id
    }

    async fn assign(&self, assignment: Assignment, by: Deadline) -> Result<InitReport, SandboxError> {
        let loaded = tokio::time::timeout_at(by.instant().into(), self.load(&assignment)).await;
        loaded.unwrap_or(Ok(Err(InitFailure::DeadlineExceeded)))
    }

    async fn connect(&self) -> Result<Connection, SandboxError> {
        let stream = UnixStream::connect(socket_path(&self.folder, self.id)).await.map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SandboxError::Gone(Gone),
                _ => setup("connect to the sandbox's socket")(error),
            }
        })?;
        Ok(Connection::serve(stream, self.output.clone()))
    }

    fn usage(&self) -> Option<SandboxUsage> {
        let ended = self.end.borrow().and_then(|end| end.usage);
        let of = |usage: Usage| SandboxUsage {
            cpu: Duration::from_nanos(usage.cpu_ns),
            memory_bytes: usage.memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            traffic: self.traffic(),
        };
        ended.or_else(|| self.core.cgroups.usage(key(self.id))).map(of)
    }

    fn refusals(&self) -> Refusals {
        let attachment = self.attachment.lock();
        attachment.as_ref().map_or_else(|| *self.refused.lock(), Attachment::refused)
    }

    fn take_loose_logs(&self) -> Logs {
        self.anchor.take_loose_logs()
    }

    async fn exited(&self) -> Exit {
        let mut end = self.end.clone();
        // The sender lives as long as `self`, so this never fails.
        let end = end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        exit_of(end.unwrap_or_default())
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        if self.destroyed.load(Ordering::Acquire) {
            return Ok(());
        }
        let key = key(self.id);
        let order = |request| Request::Destroy { request, key };
        match self.station.link.order(order, &[]).await.map_err(SandboxError::from) {
            // Its sandboxes have gone with it.
            Err(SandboxError::SpawnerGone) => self.core.remove_leftovers(key).await,
            other => other?,
        }
        let killed = End { signal: Some(libc::SIGKILL), ..End::default() };
        self.ended.send_if_modified(|end| end.is_none() && end.replace(killed).is_none());
        let attachment = self.attachment.lock().take();
        if let Some(attachment) = attachment {
            *self.refused.lock() = attachment.refused();
            let refused = attachment.detach().await;
            *self.refused.lock() = refused;
        }
        self.destroyed.store(true, Ordering::Release);
        self.forget();
        Ok(())
    }
}

impl Drop for ProcessSandbox {
    fn drop(&mut self) {
        if self.destroyed.load(Ordering::Acquire) {
            return;
        }
        self.forget();
        let key = key(self.id);
        if !self.station.link.post(|request| Request::Destroy { request, key }) {
            // The socket is full for a moment; wait for room elsewhere.
            let station = self.station.clone();
            self.core.runtime.spawn(async move {
                let _gone = station.link.order(|request| Request::Destroy { request, key }, &[]).await;
            });
        }
    }
}
