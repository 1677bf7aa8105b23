//! One call: where its log text and its reply go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use impuls_guest_protocol::{CHUNK_WINDOW, CallError, CallErrorKind, FrameKind, encode};
use tokio::sync::Notify;

/// Most log text of one call, in bytes; what is beyond is counted.
const LOG_LIMIT: usize = 1024 * 1024;
/// The largest result, in bytes.
pub(crate) const RESULT_LIMIT: usize = 6 * 1024 * 1024;
/// Longest piece of log text in one frame.
const LOG_PIECE: usize = 64 * 1024;
/// Longest piece of output in one frame.
const OUTPUT_PIECE: usize = 64 * 1024;
/// What the payload of a log frame begins with when text was left out.
const DROPPED: u8 = 6;

/// Frames on their way to the host over one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: RefCell<BytesMut>,
    pub(crate) filled: Notify,
}

impl Outbox {
    /// Queues one frame.
    pub(crate) fn send(&self, kind: FrameKind, call: u32, parts: &[&[u8]]) {
        // Nothing that is sent is larger than a frame: results and pieces of log text are bounded.
        let _fits = encode(&mut self.bytes.borrow_mut(), kind, call, parts);
        self.filled.notify_one();
    }
}

/// One call, or with the number 0 the sandbox itself.
pub(crate) struct Reply {
    outbox: Rc<Outbox>,
    call: u32,
    written: Cell<usize>,
    dropped: Cell<usize>,
    done: Cell<bool>,
    /// Bytes of output that may still be sent.
    window: Cell<usize>,
    credited: Notify,
    body: RefCell<Body>,
}

/// The part of a call's body that has arrived and was not taken.
#[derive(Default)]
struct Body {
    pieces: VecDeque<Bytes>,
    /// At most [`CHUNK_WINDOW`].
    bytes: usize,
    ended: bool,
    waker: Option<Waker>,
}

/// The host sent more of a body than it was credited.
#[derive(Debug)]
pub(crate) struct Overrun;

impl Reply {
    pub(crate) fn new(outbox: Rc<Outbox>, call: u32) -> Rc<Self> {
        Rc::new(Self {
            outbox,
            call,
            written: Cell::new(0),
            dropped: Cell::new(0),
            done: Cell::new(false),
            window: Cell::new(CHUNK_WINDOW),
            credited: Notify::new(),
            body: RefCell::default(),
        })
    }

    /// Sends log text, without its last newline. Level 0 is standard output, 1 standard error.
    pub(crate) fn log(&self, level: u8, text: &[u8]) {
        self.log_exactly(level, text.strip_suffix(b"\n").unwrap_or(text));
    }

    /// Sends output as it is, which may begin and end within a line.
    pub(crate) fn log_exactly(&self, level: u8, text: &[u8]) {
        let room = LOG_LIMIT.saturating_sub(self.written.get()).min(text.len());
        let (kept, beyond) = text.split_at_checked(room).unwrap_or((text, &[]));
        self.written.set(self.written.get() + kept.len());
        self.dropped.set(self.dropped.get() + beyond.len());
        for piece in kept.chunks(LOG_PIECE) {
            self.outbox.send(FrameKind::Log, self.call, &[&[level], piece]);
        }
    }

    /// Sends output, no faster than the host takes it.
    pub(crate) async fn stream(&self, mut output: Bytes) {
        while !output.is_empty() {
            let room = self.window.get();
            if room == 0 {
                self.credited.notified().await;
                continue;
            }
            let piece = output.split_to(room.min(OUTPUT_PIECE).min(output.len()));
            self.window.set(room - piece.len());
            self.outbox.send(FrameKind::Chunk, self.call, &[&piece]);
        }
    }

    /// The host has taken so many bytes of output.
    pub(crate) fn credit(&self, bytes: usize) {
        self.window.set((self.window.get() + bytes).min(CHUNK_WINDOW));
        self.credited.notify_one();
    }

    /// A piece of the call's body has arrived, or without bytes its end.
    pub(crate) fn receive_body(&self, piece: Bytes) -> Result<(), Overrun> {
        let mut body = self.body.borrow_mut();
        body.bytes += piece.len();
        if body.ended || body.bytes > CHUNK_WINDOW {
            return Err(Overrun);
        }
        if piece.is_empty() {
            body.ended = true;
        } else {
            body.pieces.push_back(piece);
        }
        let waker = body.waker.take();
        drop(body);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The next piece of the call's body, for which the host is credited; `None` at its end.
    pub(crate) fn poll_body(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut body = self.body.borrow_mut();
        match body.pieces.pop_front() {
            Some(piece) => {
                body.bytes -= piece.len();
                if !self.done.get() {
                    // A piece is never larger than the window.
                    let credit = u32::try_from(piece.len()).unwrap_or(0).to_le_bytes();
                    self.outbox.send(FrameKind::BodyCredit, self.call, &[&credit]);
                }
                Poll::Ready(Some(piece))
            }
            None if body.ended => Poll::Ready(None),
            None => {
                body.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether the call has its reply.
    pub(crate) fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Sends the result. Output that is no JSON becomes a JSON string.
    pub(crate) fn succeed(&self, output: Vec<u8>) {
        let result = json(output);
        if result.len() > RESULT_LIMIT {
            let message =
                format!("the result has {} bytes; at most {RESULT_LIMIT} are allowed", result.len());
            return self.fail(&error(CallErrorKind::BadResponse, "", message, None));
        }
        if self.finish() {
            self.outbox.send(FrameKind::Result, self.call, &[&result]);
        }
    }

    /// Sends a failure.
    pub(crate) fn fail(&self, error: &CallError) {
        if self.finish() {
            // A structure of texts.
            let payload = serde_json::to_vec(error).unwrap_or_default();
            self.outbox.send(FrameKind::Error, self.call, &[&payload]);
        }
    }

    fn finish(&self) -> bool {
        let dropped = self.dropped.take();
        if dropped > 0 && !self.done.get() {
            let count = (dropped as u64).to_le_bytes();
            self.outbox.send(FrameKind::Log, self.call, &[&[DROPPED], &count]);
        }
        !self.done.replace(true)
    }
}

/// A failure of a call.
pub(crate) fn error(kind: CallErrorKind, class: &str, message: String, stack: Option<String>) -> CallError {
    CallError { kind, class: class.to_owned(), message, stack }
}

/// JSON text as it is, anything else as a JSON string.
fn json(output: Vec<u8>) -> Vec<u8> {
    if serde_json::from_slice::<serde::de::IgnoredAny>(&output).is_ok() {
        return output;
    }
    serde_json::to_vec(&String::from_utf8_lossy(&output)).unwrap_or_default()
}

/// One event to be handled.
pub(crate) struct Invocation {
    pub(crate) reply: Rc<Reply>,
    pub(crate) request: uuid::Uuid,
    pub(crate) deadline_unix_ms: u64,
    /// Empty means `null`.
    pub(crate) event: Bytes,
    /// What else is known of the call, as JSON; may be empty.
    pub(crate) context: Bytes,
}

#[cfg(test)]
mod tests {
    use impuls_guest_protocol::{Decoder, Frame};

    use super::*;

    fn sent(outbox: &Outbox) -> Option<Frame> {
        Decoder::next(&mut outbox.bytes.borrow_mut()).unwrap()
    }

    #[test]
    fn a_body_is_credited_as_it_is_taken_and_bounded() {
        let outbox = Rc::new(Outbox::default());
        let reply = Reply::new(outbox.clone(), 7);
        let cx = Context::from_waker(Waker::noop());
        assert!(reply.poll_body(&cx).is_pending());
        reply.receive_body(Bytes::from(vec![0; CHUNK_WINDOW])).unwrap();
        assert!(sent(&outbox).is_none(), "nothing is credited before it is taken");
        assert!(matches!(reply.poll_body(&cx), Poll::Ready(Some(piece)) if piece.len() == CHUNK_WINDOW));
        let credit = sent(&outbox).unwrap();
        assert_eq!((credit.kind, credit.call), (FrameKind::BodyCredit, 7));
        assert_eq!(credit.payload[..], u32::try_from(CHUNK_WINDOW).unwrap().to_le_bytes());
        reply.receive_body(Bytes::from_static(b"x")).unwrap();
        assert!(reply.receive_body(Bytes::from(vec![0; CHUNK_WINDOW])).is_err(), "more than was credited");
    }

    #[test]
    fn a_body_ends_once_and_a_call_that_is_done_gives_no_credit() {
        let outbox = Rc::new(Outbox::default());
        let reply = Reply::new(outbox.clone(), 7);
        let cx = Context::from_waker(Waker::noop());
        reply.receive_body(Bytes::from_static(b"last")).unwrap();
        reply.receive_body(Bytes::new()).unwrap();
        assert!(reply.receive_body(Bytes::from_static(b"more")).is_err());
        reply.succeed(b"null".to_vec());
        assert_eq!(sent(&outbox).unwrap().kind, FrameKind::Result);
        assert!(matches!(reply.poll_body(&cx), Poll::Ready(Some(_))));
        assert!(matches!(reply.poll_body(&cx), Poll::Ready(None)));
        assert!(sent(&outbox).is_none(), "a result is the last that is sent");
    }
}
