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

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use impuls_domain::{Deadline, InvocationId, LogLevel, Logs};
use impuls_guest_protocol::{CallError, Decoder, Frame, FrameKind, LogText, encode, encode_invoke};
use parking_lot::Mutex;
use slab::Slab;
use tokio::net::UnixStream;
use tokio::time::Sleep;

/// First read buffer of a connection, in bytes.
const READ_BUFFER: usize = 8 * 1024;
/// Reads in one turn of the driver before other tasks get theirs.
const READS_PER_TURN: usize = 16;
/// Frames of the sandbox itself (call id 0) that wait to be received; a sandbox that sends more is at fault.
const CONTROL_LIMIT: usize = 16;

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
    /// Released when the call has ended in the sandbox.
    pub hold: Hold,
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
    reply: Option<Result<Bytes, CallError>>,
    deadline: Instant,
    expired: bool,
    abandoned: bool,
    _hold: Hold,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    pending: Slab<Pending>,
    control: VecDeque<Frame>,
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
        let input = BytesMut::with_capacity(READ_BUFFER);
        tokio::spawn(Driver { stream, shared: shared.clone(), input, timer: None });
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
        encode_invoke(&mut state.out, id, request, call.deadline_unix_ms, call.event).map_err(|_| Gone)?;
        entry.insert(Pending {
            waker: None,
            logs: Logs::default(),
            reply: None,
            deadline: call.deadline.instant(),
            expired: false,
            abandoned: false,
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
        encode(&mut state.out, kind, 0, &[payload]).map_err(|_| Gone)?;
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

/// A call in flight.
pub struct Waiting {
    shared: Arc<Shared>,
    key: Option<usize>,
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
            && encode(&mut state.out, FrameKind::Cancel, id, &[]).is_ok()
        {
            wake(state.driver.take());
        }
    }
}

/// The task of one connection.
struct Driver {
    stream: UnixStream,
    shared: Arc<Shared>,
    input: BytesMut,
    /// Armed for `State::timer` as it was when last looked at.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What one step of the driver achieved.
enum Step {
    /// Did something; there may be more.
    Progress,
    /// Must wait for the socket.
    Blocked,
    /// The connection is of no further use.
    End,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        let (closing, timer) = {
            let mut state = driver.shared.state.lock();
            match &mut state.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                None => state.driver = Some(cx.waker().clone()),
            }
            (state.closing, state.timer)
        };
        if closing || driver.flush(cx) || driver.read(cx) {
            driver.end();
            return Poll::Ready(());
        }
        driver.keep_deadlines(timer, cx);
        Poll::Pending
    }
}

impl Driver {
    /// Arms the timer for this instant, and ends the wait of calls whose deadline has passed when it fires.
    fn keep_deadlines(&mut self, at: Option<Instant>, cx: &mut Context<'_>) {
        let mut at = at.map(tokio::time::Instant::from_std);
        while let Some(next) = at {
            let timer = match &mut self.timer {
                Some(timer) => {
                    if timer.deadline() != next {
                        timer.as_mut().reset(next);
                    }
                    timer
                }
                None => self.timer.insert(Box::pin(tokio::time::sleep_until(next))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            at = self.expire(next.into_std()).map(tokio::time::Instant::from_std);
        }
    }

    /// Ends the wait of calls whose deadline is not after `now`; the earliest deadline of the others.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.shared.state.lock();
        let waiting = |call: &Pending| call.reply.is_none() && !call.abandoned && !call.expired;
        let mut wakers = Vec::new();
        for (_, call) in state.pending.iter_mut() {
            if waiting(call) && call.deadline <= now {
                call.expired = true;
                wakers.extend(call.waker.take());
            }
        }
        state.timer =
            state.pending.iter().filter(|(_, call)| waiting(call)).map(|(_, call)| call.deadline).min();
        let next = state.timer;
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Writes what is queued; true when the connection has ended.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let mut out = {
                let mut state = self.shared.state.lock();
                if state.out.is_empty() {
                    return false;
                }
                state.out.split()
            };
            let step = match self.stream.try_write(&out) {
                Ok(written) => {
                    let _sent = out.split_to(written);
                    Step::Progress
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Step::Blocked,
                Err(_) => Step::End,
            };
            self.unqueue(out);
            match step {
                Step::Progress => {}
                Step::Blocked => match self.stream.poll_write_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return true,
                    Poll::Pending => return false,
                },
                Step::End => return true,
            }
        }
    }

    /// Puts bytes that could not be written back to the front of the queue, or their memory back to use.
    fn unqueue(&self, mut rest: BytesMut) {
        let mut state = self.shared.state.lock();
        if rest.is_empty() && !state.out.is_empty() {
            return;
        }
        rest.extend_from_slice(&state.out);
        state.out = rest;
    }

    /// Reads what is there and completes calls; true when the connection has ended.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..READS_PER_TURN {
            self.input.reserve(READ_BUFFER);
            let step = match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => Step::End,
                Ok(_) => self.take_frames(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Step::Blocked,
                Err(_) => Step::End,
            };
            match step {
                Step::Progress => {}
                Step::Blocked => match self.stream.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return true,
                    Poll::Pending => return false,
                },
                Step::End => return true,
            }
        }
        cx.waker().wake_by_ref();
        false
    }

    /// Hands the whole frames of the buffer to their calls.
    fn take_frames(&mut self) -> Step {
        let mut frames = Frames { output: &*self.shared.output, drained: false };
        loop {
            let frame = match Decoder::next(&mut self.input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Step::Progress,
                Err(_) => return Step::End,
            };
            if frames.accept(&self.shared, frame).is_err() {
                return Step::End;
            }
        }
    }

    /// Fails every call that is still waiting and lets nobody in any more.
    fn end(&self) {
        let mut state = self.shared.state.lock();
        state.gone = true;
        // Calls that somebody waits for stay, with what they have written, until that somebody takes them.
        let wakers: Vec<Waker> = state.pending.iter_mut().filter_map(|(_, call)| call.waker.take()).collect();
        let abandoned: Vec<usize> =
            state.pending.iter().filter(|(_, call)| call.abandoned).map(|(key, _)| key).collect();
        let ended: Vec<Pending> =
            abandoned.into_iter().filter_map(|key| state.pending.try_remove(key)).collect();
        let control = state.control_waker.take();
        drop(state);
        drop(ended);
        wake(control);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One batch of frames: the output of the whole sandbox is drained at most once for it, before its first reply.
struct Frames<'a> {
    output: &'a dyn OutputSource,
    drained: bool,
}

impl Frames<'_> {
    fn accept(&mut self, shared: &Shared, frame: Frame) -> Result<(), Gone> {
        match frame.kind {
            FrameKind::Result => self.complete(shared, frame.call, Ok(frame.payload)),
            FrameKind::Error => {
                let error = serde_json::from_slice(&frame.payload).map_err(|_| Gone)?;
                self.complete(shared, frame.call, Err(error))
            }
            FrameKind::Log => log(shared, &frame),
            FrameKind::Ready | FrameKind::InitOk | FrameKind::InitError => {
                let mut state = shared.state.lock();
                if state.control.len() >= CONTROL_LIMIT {
                    return Err(Gone);
                }
                state.control.push_back(frame);
                wake(state.control_waker.take());
                Ok(())
            }
            FrameKind::Init | FrameKind::Invoke | FrameKind::Cancel => Err(Gone),
        }
    }

    fn complete(&mut self, shared: &Shared, call: u32, result: Result<Bytes, CallError>) -> Result<(), Gone> {
        let output = if self.drained { Vec::new() } else { self.output.drain() };
        self.drained = true;
        let key = (call as usize).checked_sub(1).ok_or(Gone)?;
        let mut state = shared.state.lock();
        let pending = state.pending.get_mut(key).filter(|pending| pending.reply.is_none()).ok_or(Gone)?;
        for (level, text) in output {
            pending.logs.push(level, &text);
        }
        if pending.abandoned {
            let ended = state.pending.remove(key);
            drop(state);
            drop(ended);
            return Ok(());
        }
        pending.reply = Some(result);
        let waker = pending.waker.take();
        drop(state);
        wake(waker);
        Ok(())
    }
}

fn log(shared: &Shared, frame: &Frame) -> Result<(), Gone> {
    let text = LogText::decode(&frame.payload).ok_or(Gone)?;
    let mut guard = shared.state.lock();
    let state = &mut *guard;
    let pending = (frame.call as usize).checked_sub(1).and_then(|key| state.pending.get_mut(key));
    let logs = pending.map_or(&mut state.loose_logs, |pending| &mut pending.logs);
    match text {
        LogText::Dropped(bytes) => logs.add_dropped(bytes),
        LogText::Text { level, text } => logs.push(level_of(level), &text),
    }
    Ok(())
}

const fn level_of(number: u8) -> LogLevel {
    match number {
        1 => LogLevel::Stderr,
        2 => LogLevel::Debug,
        3 => LogLevel::Info,
        4 => LogLevel::Warn,
        5 => LogLevel::Error,
        _ => LogLevel::Stdout,
    }
}

#[cfg(test)]
mod tests;
