//! One container, as the server holds it: its socket, its output, its end.

mod show;
mod wire;

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
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
    SandboxError, SandboxLimits, SandboxSpec, SandboxUsage,
};
use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::net::UnixStream;
use tokio::sync::watch;

use self::wire::Wire;
use crate::bundle::resources;
use crate::cgroup::{Group, counts_swap};
use crate::driver::{Core, Engine, Handed, setup};
use crate::init::{MESSAGE, Word};
use crate::orphans::BUNDLES;
use crate::root::CODE;
use crate::sys;

/// How long the news of an end may come after the end of the connection.
const NEWS_DELAY: Duration = Duration::from_secs(2);
/// Longest piece of a dead process's output in an error, in characters.
const LAST_WORDS: usize = 2_000;

/// How a container's end is known: by what process 1 said, and by the kernel.
#[derive(Clone, Copy, Debug)]
struct End {
    exit: Exit,
    /// Why the runtime's process could not be executed.
    failed: Option<i32>,
    usage: Option<SandboxUsage>,
}

/// A sandbox of the container driver.
pub(crate) struct ContainerSandbox {
    id: SandboxId,
    core: Arc<Core>,
    trace: Trace,
    output: Arc<Output>,
    anchor: Connection,
    /// Its first process, which this server is the parent of.
    process: Arc<OwnedFd>,
    pid: Pid,
    end: watch::Receiver<Option<End>>,
    limits: Mutex<SandboxLimits>,
    wire: Arc<Wire>,
    assigned: AtomicBool,
    /// Held by whoever removes it; true once that is done.
    removed: Arc<tokio::sync::Mutex<bool>>,
}

/// What a container has on the machine besides its processes.
#[derive(Clone, Debug)]
struct Trace {
    folder: PathBuf,
    socket: PathBuf,
    group: Group,
    first_id: u32,
}

impl Trace {
    /// Removes all of it. To be called once nothing runs in it any more; at the end of a failed start `delete` kills
    /// what there may be.
    async fn remove(&self, core: &Core) -> Result<(), SandboxError> {
        let deleted = core.engine.delete(&self.folder).await;
        let _gone_already = fs::remove_file(&self.socket);
        let _gone_already = fs::remove_dir_all(&self.folder);
        core.ids.lock().give_back(self.first_id);
        core.live.fetch_sub(1, Ordering::AcqRel);
        deleted.map_err(setup("delete a container"))
    }
}

impl ContainerSandbox {
    /// Makes a container whose runtime is starting. Once begun it must be run to its end.
    pub(crate) async fn make(core: &Arc<Core>, spec: SandboxSpec) -> Result<Arc<Self>, SandboxError> {
        let first_id = core.ids.lock().take().ok_or(SandboxError::AtCapacity)?;
        core.live.fetch_add(1, Ordering::AcqRel);
        let name = spec.id.to_string();
        let trace = Trace {
            folder: core.folder.join(BUNDLES).join(&name),
            // Through the folder's descriptor, because a socket's own path is limited to 107 bytes.
            socket: PathBuf::from(format!("/proc/self/fd/{}/{name}.sock", core.handle.as_raw_fd())),
            group: Group::new(core.cgroup(&name)),
            first_id,
        };
        match Self::begin(core, &spec, trace.clone()).await {
            Ok(sandbox) => Ok(Arc::new(sandbox)),
            Err(error) => {
                // It is the first error that matters.
                let _nothing_to_delete = trace.remove(core).await;
                Err(error)
            }
        }
    }

    async fn begin(core: &Arc<Core>, spec: &SandboxSpec, trace: Trace) -> Result<Self, SandboxError> {
        let config = core.describe(spec, trace.first_id).await?;
        fs::create_dir(&trace.folder).map_err(setup("make the container's folder"))?;
        let listener = UnixListener::bind(&trace.socket).map_err(setup("bind the container's socket"))?;
        let connecting = setup("connect to the container's socket");
        let stream = BlockingStream::connect(&trace.socket).map_err(&connecting)?;
        stream.set_nonblocking(true).map_err(&connecting)?;
        let (control, theirs) = BlockingStream::pair().map_err(setup("make a socket pair"))?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| setup("make pipes")(error.into()));
        let ((stdout, stdout_guest), (stderr, stderr_guest)) = (pipe()?, pipe()?);
        let output = Output::new(stdout, stderr).map_err(setup("watch pipes"))?;
        let handed =
            Handed { sockets: [listener.into(), theirs.into()], output: [stdout_guest, stderr_guest] };
        let pid = core.engine.run(&trace.folder, &config, handed).await;
        let pid = pid.map_err(|error| make_failed(&core.engine, error, &output))?;
        // No code of a user's is in it yet.
        trace.group.bind_memory().map_err(setup("bind the container's memory"))?;
        let watching = setup("watch the container's process");
        let pid = Pid::from_raw(pid).ok_or_else(|| watching(io::ErrorKind::InvalidData.into()))?;
        let process = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| watching(error.into()))?;
        let process = Arc::new(process);
        let end = watch_end(&process, control, trace.group.clone()).map_err(&watching)?;
        let stream = UnixStream::from_std(stream).map_err(setup("watch the container's socket"))?;
        Ok(Self {
            id: spec.id,
            core: core.clone(),
            trace,
            anchor: Connection::serve(stream, output.clone()),
            output,
            process,
            pid,
            end,
            limits: Mutex::new(spec.limits),
            wire: Arc::default(),
            assigned: AtomicBool::new(false),
            removed: Arc::default(),
        })
    }

    /// Waits until the shim speaks.
    pub(crate) async fn await_ready(&self) -> Result<(), SandboxError> {
        match self.anchor.receive().await {
            Ok(frame) if frame.kind == FrameKind::Ready => Ok(()),
            Ok(frame) => Err(SandboxError::Protocol(format!("first frame is {:?}", frame.kind))),
            Err(Gone) => match tokio::time::timeout(NEWS_DELAY, self.ended()).await {
                Ok(End { failed: Some(errno), .. }) => {
                    Err(setup("execute runtime")(io::Error::from_raw_os_error(errno)))
                }
                Ok(End { exit, .. }) => Err(SandboxError::DiedInSetup(last_words(Some(exit), &self.output))),
                Err(_) => Err(SandboxError::DiedInSetup(last_words(None, &self.output))),
            },
        }
    }

    async fn ended(&self) -> End {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        // The task that watches ends with the server's runtime only.
        ended.unwrap_or(End { exit: UNHEARD, failed: None, usage: None })
    }

    async fn load(&self, assignment: &Assignment) -> Result<InitReport, SandboxError> {
        if assignment.init.code_dir != CODE {
            let step = format!("show code elsewhere than at {CODE}");
            return Err(setup(&step)(io::ErrorKind::InvalidInput.into()));
        }
        if self.assigned.swap(true, Ordering::AcqRel) {
            return Err(setup("assign twice")(io::ErrorKind::ResourceBusy.into()));
        }
        if self.end.borrow().is_some() {
            return Ok(Err(InitFailure::Exited(self.ended().await.exit)));
        }
        let before = std::mem::replace(&mut *self.limits.lock(), assignment.limits);
        if before != assignment.limits {
            let limits = resources(assignment.limits, counts_swap());
            self.core.engine.update(&self.trace.folder, &limits).await.map_err(setup("set limits"))?;
        }
        show::code(self.process.clone(), self.pid, assignment.code.clone()).await?;
        if !assignment.network.is_off() {
            self.attach(assignment).await?;
        }
        let init = serde_json::to_vec(&assignment.init).map_err(|error| setup("write INIT")(error.into()))?;
        if self.anchor.send(FrameKind::Init, &init).is_err() {
            return Ok(self.ended_while_loading().await);
        }
        match self.anchor.receive().await {
            Err(Gone) => Ok(self.ended_while_loading().await),
            Ok(frame) if frame.kind == FrameKind::InitOk => Ok(Ok(())),
            Ok(frame) if frame.kind == FrameKind::InitError => serde_json::from_slice(&frame.payload)
                .map(|error| Err(InitFailure::Reported(error)))
                .map_err(|error| SandboxError::Protocol(error.to_string())),
            Ok(frame) => Err(SandboxError::Protocol(format!("{:?} in answer to INIT", frame.kind))),
        }
    }

    /// Gives it the network of its function, before any of its code runs.
    async fn attach(&self, assignment: &Assignment) -> Result<(), SandboxError> {
        let network = self.core.network.as_ref().ok_or_else(|| {
            SandboxError::Network("containers have none here; set the function's network to off".to_owned())
        })?;
        let namespace = show::network(self.process.clone()).await?;
        let init = &assignment.init;
        let function = (init.function_name.as_str(), init.function_id.as_str());
        self.wire.plug(network.attach(&assignment.network, function, namespace).await?);
        Ok(())
    }

    /// The connection ended while the code was being loaded: the code's own doing.
    async fn ended_while_loading(&self) -> InitReport {
        let end = tokio::time::timeout(NEWS_DELAY, self.ended()).await;
        Err(InitFailure::Exited(end.map_or(UNHEARD, |end| end.exit)))
    }
}

const UNHEARD: Exit = Exit { code: None, signal: None, out_of_memory: false };

/// What the runtime said, and what came out of its standard error.
fn make_failed(engine: &Engine, error: io::Error, output: &Output) -> SandboxError {
    let step = format!("make a container with {}", engine.runtime().name);
    let words = stderr_of(output);
    if words.is_empty() {
        setup(&step)(error)
    } else {
        setup(&step)(io::Error::other(format!("{error}: {words}")))
    }
}

fn stderr_of(output: &Output) -> String {
    let output = output.drain();
    let errors = output.iter().filter(|(level, _)| *level == LogLevel::Stderr).map(|(_, text)| text.as_str());
    errors.collect::<Vec<_>>().join("\n").chars().take(LAST_WORDS).collect()
}

fn last_words(exit: Option<Exit>, output: &Output) -> String {
    let how = match exit {
        None => "it closed its socket".to_owned(),
        Some(Exit { out_of_memory: true, .. }) => "out of memory".to_owned(),
        Some(Exit { signal: Some(signal), .. }) => format!("signal {signal}"),
        Some(Exit { code, .. }) => format!("exit code {}", code.unwrap_or_default()),
    };
    let text = stderr_of(output);
    if text.is_empty() { how } else { format!("{how}: {text}") }
}

/// Reaps the first process when it ends and tells how the container ended. Its own process is only reported once the
/// kernel has ended all others of its pid namespace.
fn watch_end(
    process: &Arc<OwnedFd>,
    control: BlockingStream,
    group: Group,
) -> io::Result<watch::Receiver<Option<End>>> {
    let watched = sys::watched(process.try_clone()?)?;
    control.set_nonblocking(true)?;
    let (ended, end) = watch::channel(None);
    tokio::spawn(async move {
        while let Ok(mut ready) = watched.readable().await {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(watched.get_ref())), options) {
                Ok(None) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Ok(Some(status)) => {
                    ended.send_replace(Some(end_of(Some(status), control, &group)));
                    return;
                }
                // Somebody else has reaped it.
                Err(_) => {
                    ended.send_replace(Some(end_of(None, control, &group)));
                    return;
                }
            }
        }
    });
    Ok(end)
}

fn end_of(status: Option<WaitIdStatus>, mut control: BlockingStream, group: &Group) -> End {
    let mut message = [0; MESSAGE];
    let word = control.read_exact(&mut message).ok().and_then(|()| Word::read(message));
    let (code, signal, failed) = match word {
        Some(Word::Exited { code, signal }) => (code, signal, None),
        Some(Word::Failed(errno)) => (None, None, Some(errno)),
        None => (None, status.and_then(|status| status.terminating_signal()).or(Some(libc::SIGKILL)), None),
    };
    let out_of_memory = group.is_out_of_memory();
    End { exit: Exit { code, signal, out_of_memory }, failed, usage: group.usage() }
}

#[async_trait]
impl Sandbox for ContainerSandbox {
    fn id(&self) -> SandboxId {
        self.id
    }

    async fn assign(&self, assignment: Assignment, by: Deadline) -> Result<InitReport, SandboxError> {
        let loaded = tokio::time::timeout_at(by.instant().into(), self.load(&assignment)).await;
        loaded.unwrap_or(Ok(Err(InitFailure::DeadlineExceeded)))
    }

    async fn connect(&self) -> Result<Connection, SandboxError> {
        let stream = UnixStream::connect(&self.trace.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SandboxError::Gone(Gone),
            _ => setup("connect to the container's socket")(error),
        })?;
        Ok(Connection::serve(stream, self.output.clone()))
    }

    fn take_loose_logs(&self) -> Logs {
        self.anchor.take_loose_logs()
    }

    fn usage(&self) -> Option<SandboxUsage> {
        let last = self.end.borrow().and_then(|end| end.usage);
        let usage = last.or_else(|| self.trace.group.usage())?;
        Some(SandboxUsage { traffic: self.wire.traffic(), ..usage })
    }

    fn refusals(&self) -> Refusals {
        self.wire.refused()
    }

    async fn exited(&self) -> Exit {
        self.ended().await.exit
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        // A task of its own, because the runtime must not be stopped half-way.
        let removal = self.core.runtime.spawn(self.removal());
        removal.await.map_err(|error| setup("delete a container")(io::Error::other(error)))?
    }
}

impl ContainerSandbox {
    /// Kills the container, waits for its end and removes its traces, unless that is done.
    fn removal(&self) -> impl Future<Output = Result<(), SandboxError>> + Send + use<> {
        let (removed, core, process) = (self.removed.clone(), self.core.clone(), self.process.clone());
        let (mut end, trace, wire) = (self.end.clone(), self.trace.clone(), self.wire.clone());
        async move {
            let mut removed = removed.lock().await;
            if *removed {
                return Ok(());
            }
            let _ended_already = pidfd_send_signal(&process, Signal::KILL);
            drop(end.wait_for(Option::is_some).await);
            wire.cut().await;
            // Whatever the runtime says, a second attempt would find nothing.
            *removed = true;
            trace.remove(&core).await
        }
    }
}

impl Drop for ContainerSandbox {
    fn drop(&mut self) {
        // Nobody else can hold the lock any more, unless a removal is under way.
        if self.removed.try_lock().is_ok_and(|removed| *removed) {
            return;
        }
        let removal = self.removal();
        self.core.runtime.spawn(async move {
            if let Err(error) = removal.await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a container could not be removed");
            }
        });
    }
}
