//! The connection to a live sandbox: many calls at once over one Unix socket.
//!
//! Each front thread has its own connection to a sandbox, so that the thread which answers an HTTP connection is
//! the one that reads the sandbox's socket. One driver task per connection, on the thread that made it, writes
//! what calls have queued and completes calls as frames come in. Queued frames are corked: a call only wakes the
//! driver, which runs after every other task that is ready, and then writes for all of them at once.
//!
//! The driver also keeps the deadlines: one timer for all calls of the connection, armed for the earliest, so that a
//! call costs no timer of its own.
//!
//! The lock inside is held for a few instructions and only ever contended by a caller on a foreign thread.

mod driver;
mod queue;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use impuls_domain::{Deadline, InvocationId, LogLevel, Logs};
use impuls_guest_protocol::{CHUNK_WINDOW, CallError, Frame, FrameKind};
use parking_lot::Mutex;
use slab::Slab;
use tokio::net::UnixStream;

use self::driver::Driver;
use self::queue::Queue;

/// Output that has been taken is credited once it is so many bytes: a frame for every piece would cost more than a small
/// piece itself.
const CREDIT_STEP: usize = CHUNK_WINDOW / 4;

/// The sandbox is gone: its process ended, was killed, or broke the protocol. Calls that were in flight may have
/// run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sandbox is gone")]
pub struct Gone;

/// Why a call has no reply. It may have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// Its sandbox ended first.
    Gone,
    /// Its deadline passed. It may still be running, and holds what it holds until it has ended.
    DeadlinePassed,
}

/// A call that has no reply.
#[derive(Debug)]
pub struct Lost {
    /// Why.
    pub reason: LossReason,
    /// What it had written by then.
    pub logs: Logs,
}

/// The call has its reply or will have none: nothing more can be sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended")]
pub struct Ended;

/// Text that reached the sandbox's standard output and error past the shim, from child processes for example.
pub trait OutputSource: Send + Sync + 'static {
    /// Takes what has been written so far, without waiting.
    fn drain(&self) -> Vec<(LogLevel, String)>;
}

/// Whatever a call occupies: released by drop, when the call has really ended in the sandbox, whoever still waits.
pub struct Hold(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send>);

impl Hold {
    /// Holds a guard until the call has ended.
    pub fn new(guard: impl Send + 'static) -> Self {
        Self(Box::new(guard))
    }
}

/// One call to be made.
pub struct Call<'a> {
    /// The request id that the function sees.
    pub request: InvocationId,
    /// When the function must have answered: then the wait ends.
    pub deadline: Deadline,
    /// The same in milliseconds since the Unix epoch, for the function to read.
    pub deadline_unix_ms: u64,
    /// The event; empty means `null`.
    pub event: &'a [u8],
    /// What else the function is told, as a JSON object; empty for nothing.
    pub context: &'a [u8],
    /// Released when the call has ended in the sandbox.
    pub hold: Hold,
}

/// What a call sends before its reply.
#[derive(Debug)]
pub enum Part {
    /// Log text.
    Logs(Logs),
    /// A piece of its output.
    Chunk(Bytes),
}

/// What a sandbox answered.
#[derive(Debug)]
pub struct Reply {
    /// The result as JSON text, or why there is none.
    pub result: Result<Bytes, CallError>,
    /// What the call wrote.
    pub logs: Logs,
}

struct Pending {
    waker: Option<Waker>,
    logs: Logs,
    /// Output that has not been taken.
    output: Output,
    /// Output that has been taken and not been credited. With what has not been taken at most [`CHUNK_WINDOW`] bytes.
    owed: usize,
    /// Where in the queue its event ends: a sandbox that answers before has not read it.
    invoked: u64,
    /// Where its last credit ends.
    credited: u64,
    /// Bytes of its body that may still be sent.
    body_window: usize,
    reply: Option<Result<Bytes, CallError>>,
    deadline: Instant,
    expired: bool,
    abandoned: bool,
    /// Whether somebody waits for log text; others are not woken for it.
    takes_logs: bool,
    _hold: Hold,
}

/// Output that has not been taken, in memory of its own: a piece of the connection's read buffer, however small, would
/// keep all of that. The first chunk may be the head of a response and stays alone; what follows is one text.
#[derive(Default)]
struct Output {
    begun: bool,
    head: Option<Bytes>,
    rest: BytesMut,
}

impl Output {
    fn len(&self) -> usize {
        self.head.as_ref().map_or(0, Bytes::len) + self.rest.len()
    }

    fn add(&mut self, chunk: &[u8]) {
        if std::mem::replace(&mut self.begun, true) {
            self.rest.extend_from_slice(chunk);
        } else {
            self.head = Some(Bytes::copy_from_slice(chunk));
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        self.head.take().or_else(|| (!self.rest.is_empty()).then(|| self.rest.split().freeze()))
    }
}

#[derive(Default)]
struct State {
    queue: Queue,
    pending: Slab<Pending>,
    /// Frames of the sandbox itself: one greeting, and one answer to [`FrameKind::Init`].
    control: VecDeque<Frame>,
    greeted: bool,
    loading: bool,
    control_waker: Option<Waker>,
    driver: Option<Waker>,
    /// When the driver's timer is to fire; never later than the earliest deadline of a waiting call.
    timer: Option<Instant>,
    loose_logs: Logs,
    gone: bool,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    output: Arc<dyn OutputSource>,
}

/// A connection; cheap to clone. It closes when the last clone is dropped.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closing = true;
        wake(state.driver.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Connection {
    /// Serves a connected socket with a task of the current runtime; `output` is drained whenever calls complete.
    #[must_use]
    pub fn serve(stream: UnixStream, output: Arc<dyn OutputSource>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), output });
        tokio::spawn(Driver::new(stream, shared.clone()));
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Makes a call. `Err` means that it provably has not begun; the `hold` is released. Otherwise the future
    /// returned waits for the reply. Dropping it tells the sandbox that nobody waits; the call goes on there, and
    /// its `hold` is released when it has ended.
    pub fn call(&self, call: Call<'_>) -> Result<Waiting, Gone> {
        let key = self.start(call)?;
        Ok(Waiting { shared: self.handle.shared.clone(), key: Some(key) })
    }

    fn start(&self, call: Call<'_>) -> Result<usize, Gone> {
        let mut guard = self.handle.shared.state.lock();
        let state = &mut *guard;
        if state.gone {
            return Err(Gone);
        }
        let entry = state.pending.vacant_entry();
        let key = entry.key();
        let id = call_id(key).ok_or(Gone)?;
        let request = call.request.as_uuid();
        if !call.context.is_empty() {
            state.queue.push(FrameKind::Context, id, &[call.context]).map_err(|_| Gone)?;
        }
        let invoked = state.queue.push_invoke(id, request, call.deadline_unix_ms, call.event);
        entry.insert(Pending {
            waker: None,
            logs: Logs::default(),
            output: Output::default(),
            owed: 0,
            invoked: invoked.map_err(|_| Gone)?,
            credited: 0,
            body_window: CHUNK_WINDOW,
            reply: None,
            deadline: call.deadline.instant(),
            expired: false,
            abandoned: false,
            takes_logs: false,
            _hold: call.hold,
        });
        if state.timer.is_none_or(|timer| call.deadline.instant() < timer) {
            state.timer = Some(call.deadline.instant());
        }
        let driver = state.driver.take();
        drop(guard);
        wake(driver);
        Ok(key)
    }

    /// Sends one frame of the sandbox itself, such as [`FrameKind::Init`].
    pub fn send(&self, kind: FrameKind, payload: &[u8]) -> Result<(), Gone> {
        let mut state = self.handle.shared.state.lock();
        if state.gone {
            return Err(Gone);
        }
        state.queue.push(kind, 0, &[payload]).map_err(|_| Gone)?;
        state.loading |= kind == FrameKind::Init;
        wake(state.driver.take());
        Ok(())
    }

    /// The next frame of the sandbox itself ([`FrameKind::Ready`], [`FrameKind::InitOk`], …). One receiver at a
    /// time; safe to drop.
    pub async fn receive(&self) -> Result<Frame, Gone> {
        std::future::poll_fn(|cx| {
            let mut state = self.handle.shared.state.lock();
            match state.control.pop_front() {
                Some(frame) => Poll::Ready(Ok(frame)),
                None if state.gone => Poll::Ready(Err(Gone)),
                None => {
                    state.control_waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes the log text that belongs to no call, such as what the top level wrote.
    #[must_use]
    pub fn take_loose_logs(&self) -> Logs {
        std::mem::take(&mut self.handle.shared.state.lock().loose_logs)
    }

    /// Whether the sandbox is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.handle.shared.state.lock().gone
    }
}

/// Call id 0 is the sandbox's own, so calls count from 1.
fn call_id(key: usize) -> Option<u32> {
    u32::try_from(key).ok()?.checked_add(1)
}

/// A call in flight. All that is awaited on it at one time must be awaited by one task.
pub struct Waiting {
    shared: Arc<Shared>,
    key: Option<usize>,
}

impl Waiting {
    /// Takes the next piece of output, or the log text that has arrived so far, waiting for either; `None` once the call
    /// has its reply or will have none: then await this itself. Log text that is taken here is not part of the reply's.
    /// Output is sent no faster than it is taken; what came in several pieces may be taken as one, but for the first. Safe
    /// to drop.
    pub async fn next_part(&self) -> Option<Part> {
        std::future::poll_fn(|cx| self.poll_part(cx, true)).await
    }

    /// As [`Waiting::next_part`] for output alone; log text stays for the reply, and nobody is woken for it.
    pub async fn next_chunk(&self) -> Option<Bytes> {
        std::future::poll_fn(|cx| {
            self.poll_part(cx, false).map(|part| match part {
                Some(Part::Chunk(chunk)) => Some(chunk),
                Some(Part::Logs(_)) | None => None,
            })
        })
        .await
    }

    fn poll_part(&self, cx: &mut Context<'_>, with_logs: bool) -> Poll<Option<Part>> {
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        let Some(pending) = self.key.and_then(|key| state.pending.get_mut(key)) else {
            return Poll::Ready(None);
        };
        if with_logs && !pending.logs.is_empty() {
            return Poll::Ready(Some(Part::Logs(std::mem::take(&mut pending.logs))));
        }
        if let Some(chunk) = pending.output.take() {
            pending.owed += chunk.len();
            let id = self.key.and_then(call_id).filter(|_| pending.reply.is_none());
            if let Some(id) = id
                && pending.credit(id, &mut state.queue)
            {
                wake(state.driver.take());
            }
            return Poll::Ready(Some(Part::Chunk(chunk)));
        }
        if pending.has_ended(state.gone) {
            return Poll::Ready(None);
        }
        pending.takes_logs = with_logs;
        pending.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends a piece of the call's body, no faster than the sandbox takes it; a piece without bytes is the end of the
    /// body. Dropped half-way, it may have sent a part.
    pub async fn send_body(&self, mut piece: Bytes) -> Result<(), Ended> {
        let is_end = piece.is_empty();
        std::future::poll_fn(|cx| {
            let mut guard = self.shared.state.lock();
            let state = &mut *guard;
            let Some((key, pending)) = self.key.and_then(|key| Some((key, state.pending.get_mut(key)?)))
            else {
                return Poll::Ready(Err(Ended));
            };
            let (false, Some(id)) = (pending.has_ended(state.gone), call_id(key)) else {
                return Poll::Ready(Err(Ended));
            };
            // Credits alone bound nothing: a sandbox can send them for what it has not read.
            let room = if state.queue.has_room() { pending.body_window } else { 0 };
            let now = piece.split_to(room.min(piece.len()));
            if is_end || !now.is_empty() {
                pending.body_window -= now.len();
                state.queue.push(FrameKind::Body, id, &[&now]).map_err(|_| Ended)?;
                wake(state.driver.take());
            }
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
            pending.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the call has its reply or will have none. Output may be left to be taken. Safe to drop.
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut guard = self.shared.state.lock();
            let state = &mut *guard;
            match self.key.and_then(|key| state.pending.get_mut(key)) {
                Some(pending) if !pending.has_ended(state.gone) => {
                    pending.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(_) | None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Tells the sandbox that nobody waits for this call any more, so that it may end it early.
    pub fn cancel(&self) {
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        let running = self.key.filter(|key| {
            state.pending.get(*key).is_some_and(|pending| pending.reply.is_none() && !state.gone)
        });
        if let Some(id) = running.and_then(call_id)
            && state.queue.push(FrameKind::Cancel, id, &[]).is_ok()
        {
            wake(state.driver.take());
        }
    }
}

impl Pending {
    /// Queues what is owed, if it is worth a frame; whether there is one. The credit before it must have been written, so
    /// a sandbox that reads nothing has one that waits, and gets no more.
    fn credit(&mut self, id: u32, queue: &mut Queue) -> bool {
        if self.owed < CREDIT_STEP || !queue.has_written(self.credited) {
            return false;
        }
        let credit = u32::try_from(self.owed).unwrap_or(u32::MAX).to_le_bytes();
        let Ok(end) = queue.push(FrameKind::Credit, id, &[&credit]) else { return false };
        self.owed = 0;
        self.credited = end;
        true
    }

    /// Whether there is a reply or will be none.
    const fn has_ended(&self, gone: bool) -> bool {
        self.reply.is_some() || self.expired || gone
    }
}

impl Future for Waiting {
    type Output = Result<Reply, Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.shared.state.lock();
        let gone = state.gone;
        let lost = |reason, logs| Poll::Ready(Err(Lost { reason, logs }));
        let Some(pending) = this.key.and_then(|key| state.pending.get_mut(key)) else {
            return lost(LossReason::Gone, Logs::default());
        };
        if pending.reply.is_none() && !gone {
            if pending.expired {
                pending.abandoned = true;
                this.key = None;
                return lost(LossReason::DeadlinePassed, std::mem::take(&mut pending.logs));
            }
            match &mut pending.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => pending.waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let ended = this.key.take().and_then(|key| state.pending.try_remove(key));
        drop(state);
        match ended {
            Some(Pending { reply: Some(result), logs, .. }) => Poll::Ready(Ok(Reply { result, logs })),
            Some(Pending { logs, .. }) => lost(LossReason::Gone, logs),
            None => lost(LossReason::Gone, Logs::default()),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        let gone = state.gone;
        let Some(pending) = state.pending.get_mut(key) else { return };
        if pending.reply.is_some() || gone {
            let ended = state.pending.remove(key);
            drop(guard);
            drop(ended);
            return;
        }
        pending.abandoned = true;
        pending.waker = None;
        if let Some(id) = call_id(key)
            && state.queue.push(FrameKind::Cancel, id, &[]).is_ok()
        {
            wake(state.driver.take());
        }
    }
}

#[cfg(test)]
mod tests;
