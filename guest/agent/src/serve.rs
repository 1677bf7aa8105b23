//! Connections, frames, and which contract answers them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use impuls_guest_protocol::{
    CallErrorKind, Decoder, Frame, FrameKind, Init, InitError, InitErrorKind, Ready,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_local};

use crate::bootstrap::Bootstrap;
use crate::call::{Invocation, Outbox, Reply, error};
use crate::code::Code;
use crate::web::Web;
use crate::{build, command, native, program};

/// Bytes of the request id and the deadline before the event.
const INVOKE_HEAD: usize = 24;
/// How long the last frames may take to leave when the function's own process has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The descriptor of the listening socket, as for every shim.
const LISTENER: i32 = 3;

/// The agent's whole life in a sandbox: serves the listening Unix socket at descriptor 3 until it is killed.
pub(crate) fn run() -> ExitCode {
    // SAFETY: the protocol gives this process the descriptor, and nothing else in it knows of it.
    #[expect(unsafe_code, reason = "a descriptor that is inherited by number")]
    let listener = unsafe { OwnedFd::from_raw_fd(LISTENER) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, serve(listener)) {
        Ok(code) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What the sandbox runs.
#[derive(Clone)]
enum Mode {
    /// A process for each call.
    Program(Rc<Code>),
    /// Each call brings its command.
    Command(Rc<Code>),
    /// Each call brings a build of the code.
    Build(Rc<Code>),
    Bootstrap(Rc<Bootstrap>),
    Web(Rc<Web>),
    /// A program that has taken over the socket.
    Native,
}

/// What all connections share.
pub(crate) struct Agent {
    mode: RefCell<Option<Mode>>,
    outboxes: RefCell<Vec<Rc<Outbox>>>,
    /// The listening socket.
    pub(crate) listener: UnixListener,
    /// Whether somebody else accepts connections now.
    handed_over: watch::Sender<bool>,
    /// The exit code of the function's own process, once it has ended.
    ended: watch::Sender<Option<u8>>,
}

impl Agent {
    /// Accepts no more connections, because another process will.
    pub(crate) async fn stop_listening(&self) {
        self.handed_over.send_replace(true);
        // The loop that accepts takes notice before this goes on.
        tokio::task::yield_now().await;
    }

    /// The function's own process has ended, and with it this sandbox.
    pub(crate) fn end(&self, code: u8) {
        self.ended.send_replace(Some(code));
    }
}

/// Serves the socket until the function's own process ends.
async fn serve(listener: OwnedFd) -> io::Result<ExitCode> {
    // Programs that are run here have no business with it.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC)?;
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (ended, mut end) = watch::channel(None);
    let (handed_over, mut taken) = watch::channel(false);
    let (mode, outboxes) = Default::default();
    let agent = Rc::new(Agent { mode, outboxes, listener, handed_over, ended });
    loop {
        let listens = !*taken.borrow_and_update();
        tokio::select! {
            accepted = agent.listener.accept(), if listens => {
                let (stream, _) = accepted?;
                spawn_local(connection(agent.clone(), stream));
            }
            Ok(()) = taken.changed() => {}
            // Its sender lives in the agent.
            Ok(()) = end.changed() => {
                let outboxes = agent.outboxes.borrow().clone();
                let flushed = async {
                    for outbox in outboxes {
                        while !outbox.bytes.borrow().is_empty() {
                            tokio::task::yield_now().await;
                        }
                    }
                };
                let _late = tokio::time::timeout(LAST_WORDS, flushed).await;
                return Ok(ExitCode::from(end.borrow().unwrap_or(1)));
            }
        }
    }
}

async fn connection(agent: Rc<Agent>, stream: UnixStream) {
    let (reader, writer) = stream.into_split();
    let outbox = Rc::new(Outbox::default());
    agent.outboxes.borrow_mut().push(outbox.clone());
    let ready = Ready { runtime: "agent".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    // A structure of texts.
    outbox.send(FrameKind::Ready, 0, &[&serde_json::to_vec(&ready).unwrap_or_default()]);
    let writing = spawn_local(write(writer, outbox.clone()));
    let calls = Calls::new(&agent, &outbox);
    let _hung_up = calls.read(reader).await;
    agent.outboxes.borrow_mut().retain(|other| !Rc::ptr_eq(other, &outbox));
    writing.abort();
}

/// Writes what has been queued, all at once.
async fn write(mut writer: OwnedWriteHalf, outbox: Rc<Outbox>) -> io::Result<()> {
    loop {
        outbox.filled.notified().await;
        loop {
            let mut bytes = outbox.bytes.borrow().clone().freeze();
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len();
            while bytes.has_remaining() {
                writer.write_buf(&mut bytes).await?;
            }
            outbox.bytes.borrow_mut().advance(length);
        }
    }
}

/// A call that is being run by a task of its own.
struct Running {
    reply: Rc<Reply>,
    task: AbortHandle,
}

/// The calls of one connection.
struct Calls {
    agent: Rc<Agent>,
    outbox: Rc<Outbox>,
    contexts: RefCell<HashMap<u32, Bytes>>,
    running: Rc<RefCell<HashMap<u32, Running>>>,
    is_assigned: Cell<bool>,
}

impl Calls {
    fn new(agent: &Rc<Agent>, outbox: &Rc<Outbox>) -> Self {
        Self {
            agent: agent.clone(),
            outbox: outbox.clone(),
            contexts: RefCell::default(),
            running: Rc::default(),
            is_assigned: Cell::new(false),
        }
    }

    async fn read(&self, mut reader: OwnedReadHalf) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            while let Some(frame) = Decoder::next(&mut buffer).map_err(io::Error::other)? {
                self.accept(frame)?;
            }
        }
    }

    fn accept(&self, frame: Frame) -> io::Result<()> {
        match frame.kind {
            FrameKind::Init => {
                let init = serde_json::from_slice(&frame.payload).map_err(io::Error::other)?;
                self.init(init);
            }
            FrameKind::Context => {
                self.contexts.borrow_mut().insert(frame.call, frame.payload);
            }
            FrameKind::Invoke => self.invoke(frame)?,
            FrameKind::Cancel => self.cancel(frame.call),
            FrameKind::Credit => self.credit(&frame)?,
            FrameKind::Body => self.body(frame)?,
            // Nothing else comes from the host: it is out of step.
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    fn init(&self, init: Init) {
        if self.is_assigned.replace(true) || self.agent.mode.borrow().is_some() {
            return;
        }
        let (agent, outbox, code) = (self.agent.clone(), self.outbox.clone(), Rc::new(Code::new(init)));
        spawn_local(async move {
            match assign(&agent, &outbox, code).await {
                Ok(mode) => {
                    *agent.mode.borrow_mut() = mode;
                    outbox.send(FrameKind::InitOk, 0, &[]);
                }
                Err(refusal) => {
                    // A structure of texts.
                    let payload = serde_json::to_vec(&refusal).unwrap_or_default();
                    outbox.send(FrameKind::InitError, 0, &[&payload]);
                }
            }
        });
    }

    fn invoke(&self, mut frame: Frame) -> io::Result<()> {
        if frame.payload.len() < INVOKE_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut request = [0; 16];
        frame.payload.copy_to_slice(&mut request);
        let reply = Reply::new(self.outbox.clone(), frame.call);
        let invocation = Invocation {
            reply: reply.clone(),
            request: uuid::Uuid::from_bytes(request),
            deadline_unix_ms: frame.payload.get_u64_le(),
            event: frame.payload,
            context: self.contexts.borrow_mut().remove(&frame.call).unwrap_or_default(),
        };
        let (running, call) = (self.running.clone(), frame.call);
        let task = match self.agent.mode.borrow().clone() {
            Some(Mode::Program(code)) => spawn_local(async move {
                program::call(&code, invocation, code.init.concurrency <= 1).await;
                running.borrow_mut().remove(&call);
            }),
            Some(Mode::Command(code)) => spawn_local(async move {
                command::call(&code, invocation, code.init.concurrency <= 1).await;
                running.borrow_mut().remove(&call);
            }),
            Some(Mode::Build(code)) => spawn_local(async move {
                build::call(&code, invocation).await;
                running.borrow_mut().remove(&call);
            }),
            Some(Mode::Web(web)) => spawn_local(async move {
                web.call(invocation).await;
                running.borrow_mut().remove(&call);
            }),
            Some(Mode::Bootstrap(bootstrap)) => {
                bootstrap.push(invocation);
                return Ok(());
            }
            Some(Mode::Native) | None => return Err(io::ErrorKind::InvalidData.into()),
        };
        if !reply.is_done() {
            let task = task.abort_handle();
            self.running.borrow_mut().insert(frame.call, Running { reply, task });
        }
        Ok(())
    }

    /// Output of a call was taken; one that has ended needs no credit.
    fn credit(&self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.payload.as_ref().try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        if let Some(running) = self.running.borrow().get(&frame.call) {
            running.reply.credit(u32::from_le_bytes(bytes) as usize);
        }
        Ok(())
    }

    /// More of a call's body; one that has ended needs none.
    fn body(&self, frame: Frame) -> io::Result<()> {
        match self.running.borrow().get(&frame.call) {
            Some(running) => {
                running.reply.receive_body(frame.payload).map_err(|_| io::ErrorKind::InvalidData.into())
            }
            None => Ok(()),
        }
    }

    /// Nobody waits for the call any more: its process is killed with its task.
    fn cancel(&self, call: u32) {
        let Some(Running { reply, task }) = self.running.borrow_mut().remove(&call) else { return };
        task.abort();
        reply.fail(&error(
            CallErrorKind::FunctionError,
            "Cancelled",
            "the call was cancelled".to_owned(),
            None,
        ));
    }
}

/// Makes the sandbox one of this code; nothing is run yet when this is only a check.
async fn assign(agent: &Rc<Agent>, outbox: &Rc<Outbox>, code: Rc<Code>) -> Result<Option<Mode>, InitError> {
    if let Some(refusal) = code.refusal() {
        return Err(refusal);
    }
    if code.init.check {
        return Ok(None);
    }
    let loose = Reply::new(outbox.clone(), 0);
    Ok(Some(match code.init.contract.as_str() {
        "program" => Mode::Program(code),
        "command" if code.init.command.is_empty() => Mode::Command(code),
        "command" => Mode::Program(code),
        "native" => {
            native::start(agent, &code).await?;
            Mode::Native
        }
        "build" => Mode::Build(code),
        "bootstrap" => Mode::Bootstrap(Bootstrap::start(agent, &code, loose).await?),
        "http" => Mode::Web(Web::start(agent, &code, loose).await?),
        other => {
            let message = format!("the agent does not know the contract {other}");
            return Err(init_error(InitErrorKind::Handler, "", message));
        }
    }))
}

/// Why code cannot be used.
pub(crate) fn init_error(kind: InitErrorKind, class: &str, message: String) -> InitError {
    InitError { kind, class: class.to_owned(), message, stack: None, file: None, line: None }
}
