//! What travels between a controller and a worker: HTTP/2, over TLS between nodes that have certificates, one `POST` for
//! each thing that is asked.
//!
//! The bodies of requests and replies are *frames*: one byte that says what it is, four bytes of length (big-endian), and
//! so many bytes. A frame of an unknown kind is skipped, as are unknown members of JSON objects, so that two neighbouring
//! releases understand each other. Each request says the version that it speaks ([`VERSION_HEADER`]); a worker refuses what
//! it cannot understand before anything has begun.
//!
//! ```text
//!   request:  HEAD (JSON), CONTEXT?, EVENT?, then for a body that still arrives: INPUT*, INPUT_END
//!   reply:    OUTPUT* or TEXT*, then ENDED (JSON), RESULT (JSON and bytes) or FAILED (JSON)
//! ```
//!
//! A reply that ends without one of the last three means that the worker was lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The version that this program speaks.
pub const VERSION: u32 = 1;
/// The oldest version that it understands.
pub const OLDEST: u32 = 1;
/// The header in which a request says its version.
pub const VERSION_HEADER: &str = "impuls-protocol";
/// The header in which a worker says how many calls it has.
pub const LOAD_HEADER: &str = "impuls-load";
/// The header in which a worker says why it has not begun: a word of [`refused`].
pub const REFUSED_HEADER: &str = "impuls-refused";

/// The words of [`REFUSED_HEADER`].
pub mod refused {
    /// It stops.
    pub const DRAINING: &str = "draining";
    /// It has as many calls as it may have.
    pub const FULL: &str = "full";
    /// The token is wrong or missing.
    pub const TOKEN: &str = "token";
    /// It does not speak the request's version.
    pub const VERSION: &str = "version";
}

/// The paths of what can be asked.
pub mod path {
    /// Run a call.
    pub const RUN: &str = "/v1/run";
    /// Run a command.
    pub const EXECUTE: &str = "/v1/execute";
    /// Have sandboxes of a revision ready.
    pub const WARM: &str = "/v1/warm";
    /// Have sandboxes for commands ready.
    pub const PREWARM: &str = "/v1/prewarm";
    /// The sandboxes for commands.
    pub const POOL: &str = "/v1/pool";
    /// The live sandboxes.
    pub const SANDBOXES: &str = "/v1/sandboxes";
    /// What a function was refused.
    pub const REFUSALS: &str = "/v1/refusals";
    /// Build code.
    pub const BUILD: &str = "/v1/build";
    /// Load code once.
    pub const CHECK: &str = "/v1/check";
    /// A function has changed.
    pub const ACTIVATE: &str = "/v1/activate";
    /// Look for asynchronous invocations.
    pub const WAKE: &str = "/v1/wake";
}

/// The kinds of frames.
pub mod kind {
    /// What is asked, as JSON.
    pub const HEAD: u8 = 1;
    /// What else the function is told.
    pub const CONTEXT: u8 = 2;
    /// The event, or the standard input of a command.
    pub const EVENT: u8 = 3;
    /// A piece of a body that arrives meanwhile.
    pub const INPUT: u8 = 4;
    /// The end of that body.
    pub const INPUT_END: u8 = 5;
    /// A piece of output that is passed on.
    pub const OUTPUT: u8 = 16;
    /// A piece of text that a command or build writes: a byte 1 or 2 for the stream, then UTF-8.
    pub const TEXT: u8 = 17;
    /// How it ended, as JSON.
    pub const ENDED: u8 = 18;
    /// How a call or a command ended: four bytes of length (big-endian), so many bytes of JSON, and then the result; of a
    /// command the length of its standard output, that, and its standard error.
    pub const RESULT: u8 = 19;
    /// Why there is no end, as JSON.
    pub const FAILED: u8 = 20;
}

/// The most bytes of one frame.
pub const FRAME_LIMIT: usize = 32 * 1024 * 1024;
/// The bytes before a frame's own.
const FRAME_HEAD: usize = 5;

/// Bytes that are not as they must be, or that break off.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The connection or the stream ended.
    #[error("the connection broke off")]
    Broken(#[source] hyper::Error),
    /// It ended in the middle.
    #[error("the message ended in the middle")]
    Short,
    /// A frame is larger than any may be.
    #[error("a frame has {0} bytes, which is more than any may have")]
    TooLarge(usize),
    /// A JSON object is not what it must be.
    #[error("a part of the message is not as it must be")]
    Json(#[from] serde_json::Error),
    /// What must come did not come.
    #[error("the message has no {0}")]
    Missing(&'static str),
}

/// The bytes that stand before a frame's own.
#[must_use]
pub fn head(kind: u8, length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD);
    put_head(&mut bytes, kind, length);
    bytes.freeze()
}

fn put_head(bytes: &mut BytesMut, kind: u8, length: usize) {
    bytes.put_u8(kind);
    // Nothing that is sent is as long as that; the reader would refuse it.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// A frame of its own.
#[must_use]
pub fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD + payload.len());
    put_head(&mut bytes, kind, payload.len());
    bytes.put_slice(payload);
    bytes.freeze()
}

/// A frame with a JSON object.
#[must_use]
pub fn json(kind: u8, value: &impl Serialize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(256);
    put_head(&mut bytes, kind, 0);
    let mut writer = bytes.writer();
    // Writing plain values to memory does not fail.
    drop(serde_json::to_writer(&mut writer, value));
    let mut bytes = writer.into_inner();
    let length = u32::try_from(bytes.len() - FRAME_HEAD).unwrap_or(u32::MAX);
    if let Some(place) = bytes.get_mut(1..FRAME_HEAD) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    bytes.freeze()
}

/// Reads frames from a body.
pub struct Frames<B> {
    body: B,
    buffer: BytesMut,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Frames<B> {
    /// The frames of this body.
    pub fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the end. Safe to drop.
    pub async fn next(&mut self) -> Result<Option<(u8, Bytes)>, ProtocolError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            match self.body.frame().await {
                Some(Ok(piece)) => {
                    if let Ok(data) = piece.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(ProtocolError::Broken(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ProtocolError::Short),
            }
        }
    }

    fn take(&mut self) -> Result<Option<(u8, Bytes)>, ProtocolError> {
        let Some((&[kind, a, b, c, d], _)) = self.buffer.split_first_chunk::<FRAME_HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_LIMIT {
            return Err(ProtocolError::TooLarge(length));
        }
        if self.buffer.len() < FRAME_HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD);
        Ok(Some((kind, self.buffer.split_to(length).freeze())))
    }

    /// The next frame's JSON object, which must be of this kind; others before it are skipped.
    pub async fn expect<T: DeserializeOwned>(
        &mut self,
        wanted: u8,
        name: &'static str,
    ) -> Result<T, ProtocolError> {
        while let Some((kind, payload)) = self.next().await? {
            if kind == wanted {
                return Ok(serde_json::from_slice(&payload)?);
            }
        }
        Err(ProtocolError::Missing(name))
    }
}

/// A body of frames: those that are there, and then those that come.
#[derive(Default)]
pub struct Sending {
    ready: VecDeque<Bytes>,
    more: Option<mpsc::Receiver<Bytes>>,
    /// Who makes what comes; ended with the body.
    maker: Option<JoinHandle<()>>,
}

impl Sending {
    /// A body that is complete.
    #[must_use]
    pub fn whole(ready: impl IntoIterator<Item = Bytes>) -> Self {
        Self { ready: ready.into_iter().collect(), more: None, maker: None }
    }

    /// A body that goes on with what comes.
    #[must_use]
    pub fn then(mut self, more: mpsc::Receiver<Bytes>) -> Self {
        self.more = Some(more);
        self
    }

    /// A body whose maker is stopped when nobody wants it any more.
    #[must_use]
    pub fn made_by(mut self, maker: JoinHandle<()>) -> Self {
        self.maker = Some(maker);
        self
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(maker) = &self.maker {
            maker.abort();
        }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(more) = &mut self.more else { return Poll::Ready(None) };
        let polled = std::task::ready!(more.poll_recv(cx));
        if polled.is_none() {
            self.more = None;
        }
        Poll::Ready(polled.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.more.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body of these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<(u8, Bytes)>, ProtocolError> {
        let pieces = bytes.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut frames, mut all) = (Frames::new(Pieces(pieces)), Vec::new());
            while let Some(frame) = frames.next().await? {
                all.push(frame);
            }
            Ok(all)
        })
    }

    proptest! {
        #[test]
        fn frames_come_as_they_were_sent_however_they_are_cut(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..10),
            piece in 1usize..20,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, bytes)| frame(*kind, bytes)).collect();
            let got: Vec<_> = read(&bytes, piece).unwrap().into_iter().map(|(k, b)| (k, b.to_vec())).collect();
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..20) {
            drop(read(&bytes, piece));
        }
    }

    #[test]
    fn what_breaks_off_or_is_too_large_is_refused() {
        assert!(matches!(read(&frame(1, b"abc")[..6], 2), Err(ProtocolError::Short)));
        assert!(matches!(read(&[1, 255, 255, 255, 255], 5), Err(ProtocolError::TooLarge(_))));
        assert_eq!(read(&json(7, &[1]), 99).unwrap(), [(7, Bytes::from_static(b"[1]"))]);
    }
}
