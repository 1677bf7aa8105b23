//! The task of one connection: writes what calls have queued, hands frames to their calls, keeps the deadlines.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use impuls_domain::LogLevel;
use impuls_guest_protocol::{CHUNK_WINDOW, CallError, Decoder, Frame, FrameKind, LogText};
use tokio::net::UnixStream;
use tokio::time::Sleep;

use super::{Gone, OutputSource, Pending, Shared, State, wake};

/// First read buffer of a connection, in bytes.
const READ_BUFFER: usize = 8 * 1024;
/// Reads in one turn of the driver before other tasks get theirs.
const READS_PER_TURN: usize = 16;
/// The longest greeting of a sandbox, in bytes.
pub(super) const READY_LIMIT: usize = 4 * 1024;
/// Its longest word on code that it was to load. Message and stack are cut after 65,536 characters each, which JSON may
/// write with six bytes.
pub(super) const INIT_LIMIT: usize = 1024 * 1024;

/// The task of one connection.
pub(super) struct Driver {
    stream: UnixStream,
    shared: Arc<Shared>,
    input: BytesMut,
    /// What is being written, and how much of it has been.
    writing: BytesMut,
    written: usize,
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
    /// The task of a connected socket.
    pub(super) fn new(stream: UnixStream, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            shared,
            input: BytesMut::with_capacity(READ_BUFFER),
            writing: BytesMut::new(),
            written: 0,
            timer: None,
        }
    }

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
        let mut wrote = 0;
        loop {
            if !self.next_to_write(wrote) {
                return false;
            }
            wrote = 0;
            match self.stream.try_write(self.writing.get(self.written..).unwrap_or_default()) {
                Ok(written) => {
                    self.written += written;
                    wrote = written;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return true,
                        Poll::Pending => return false,
                    }
                }
                Err(_) => return true,
            }
        }
    }

    /// Notes what has been written and takes what is to be written next; false if there is nothing.
    fn next_to_write(&mut self, wrote: usize) -> bool {
        let mut state = self.shared.state.lock();
        let mut wakers = Vec::new();
        if state.queue.wrote(wrote) {
            wakers.extend(state.pending.iter_mut().filter_map(|(_, call)| call.waker.take()));
        }
        if self.written == self.writing.len() {
            self.writing = state.queue.take(std::mem::take(&mut self.writing));
            self.written = 0;
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        !self.writing.is_empty()
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
            FrameKind::Chunk => chunk(shared, &frame),
            FrameKind::BodyCredit => body_credit(shared, &frame),
            FrameKind::Ready | FrameKind::InitOk | FrameKind::InitError => control(shared, &frame),
            FrameKind::Init
            | FrameKind::Invoke
            | FrameKind::Cancel
            | FrameKind::Context
            | FrameKind::Credit
            | FrameKind::Body => Err(Gone),
        }
    }

    fn complete(&mut self, shared: &Shared, call: u32, result: Result<Bytes, CallError>) -> Result<(), Gone> {
        let output = if self.drained { Vec::new() } else { self.output.drain() };
        self.drained = true;
        let mut guard = shared.state.lock();
        let state = &mut *guard;
        let (key, pending) = running(state, call)?;
        for (level, text) in output {
            pending.logs.push(level, &text);
        }
        if pending.abandoned {
            let ended = state.pending.remove(key);
            drop(guard);
            drop(ended);
            return Ok(());
        }
        pending.reply = Some(result);
        let waker = pending.waker.take();
        drop(guard);
        wake(waker);
        Ok(())
    }
}

/// A call that has its event and no reply. A sandbox that says anything of another is at fault; could it answer what it
/// has not read, nothing would bound the events that wait for it to read.
fn running(state: &mut State, call: u32) -> Result<(usize, &mut Pending), Gone> {
    let key = (call as usize).checked_sub(1).ok_or(Gone)?;
    let pending = state.pending.get_mut(key).filter(|pending| pending.reply.is_none()).ok_or(Gone)?;
    if state.queue.has_written(pending.invoked) { Ok((key, pending)) } else { Err(Gone) }
}

/// A sandbox greets once, and answers once to code; nobody would receive more.
fn control(shared: &Shared, frame: &Frame) -> Result<(), Gone> {
    let mut state = shared.state.lock();
    let (is_due, limit) = match frame.kind {
        FrameKind::Ready => (!std::mem::replace(&mut state.greeted, true), READY_LIMIT),
        _ => (std::mem::take(&mut state.loading), INIT_LIMIT),
    };
    if !is_due || frame.payload.len() > limit {
        return Err(Gone);
    }
    // In memory of its own, not the read buffer's.
    let payload = Bytes::copy_from_slice(&frame.payload);
    state.control.push_back(Frame { payload, ..*frame });
    let waker = state.control_waker.take();
    drop(state);
    wake(waker);
    Ok(())
}

fn log(shared: &Shared, frame: &Frame) -> Result<(), Gone> {
    let text = LogText::decode(&frame.payload).ok_or(Gone)?;
    let mut guard = shared.state.lock();
    let state = &mut *guard;
    let pending = (frame.call as usize).checked_sub(1).and_then(|key| state.pending.get_mut(key));
    let mut waker = None;
    let logs = match pending {
        Some(pending) => {
            waker = pending.waker.take_if(|_| pending.takes_logs);
            &mut pending.logs
        }
        None => &mut state.loose_logs,
    };
    match text {
        LogText::Dropped(bytes) => logs.add_dropped(bytes),
        LogText::Text { level, text } => logs.push(level_of(level), &text),
    }
    drop(guard);
    wake(waker);
    Ok(())
}

/// A guest that sends more than it was credited is at fault. Output that nobody waits for is thrown away, and its sender,
/// having no credit, stops.
fn chunk(shared: &Shared, frame: &Frame) -> Result<(), Gone> {
    let mut guard = shared.state.lock();
    let (_, pending) = running(&mut guard, frame.call)?;
    if pending.output.len() + pending.owed + frame.payload.len() > CHUNK_WINDOW {
        return Err(Gone);
    }
    if pending.abandoned {
        pending.owed += frame.payload.len();
        return Ok(());
    }
    // A chunk without bytes says nothing.
    if frame.payload.is_empty() {
        return Ok(());
    }
    pending.output.add(&frame.payload);
    let waker = pending.waker.take();
    drop(guard);
    wake(waker);
    Ok(())
}

/// A guest that credits more than it was sent is at fault.
fn body_credit(shared: &Shared, frame: &Frame) -> Result<(), Gone> {
    let bytes = u32::from_le_bytes(frame.payload.as_ref().try_into().map_err(|_| Gone)?);
    let mut guard = shared.state.lock();
    let (_, pending) = running(&mut guard, frame.call)?;
    let window = pending.body_window.saturating_add(bytes as usize);
    if window > CHUNK_WINDOW {
        return Err(Gone);
    }
    pending.body_window = window;
    let waker = pending.waker.take();
    drop(guard);
    wake(waker);
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
