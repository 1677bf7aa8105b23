//! Framing: `u32` little-endian length of the rest, `u8` kind, `u32` little-endian call id, payload.
//!
//! A connection carries any number of calls at once; the call id, chosen by the host, tells them apart. Call id
//! 0 belongs to the sandbox itself.

use bytes::{Buf, Bytes, BytesMut};

/// The most bytes that a frame's length field may announce (8 MiB): the largest payload and room for its head.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;
/// Bytes of a call's output, or of its body, that may be on their way or wait at the other side, which credits what is
/// taken. It bounds the memory that a slow reader costs.
pub const CHUNK_WINDOW: usize = 256 * 1024;
/// The most bytes of a streamed reply's head, which is its first chunk.
pub const REPLY_HEAD_LIMIT: usize = 64 * 1024;
/// Bytes of kind and call id, which the length counts.
const HEAD: usize = 5;
/// Bytes of the length field, which it does not count.
const PREFIX: usize = 4;

/// What a frame is. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Host to guest: code, handler, environment; once in the life of a sandbox.
    Init = 1,
    /// Host to guest: one event.
    Invoke = 2,
    /// Host to guest: nobody waits for this call any more.
    Cancel = 3,
    /// Host to guest, right before the call's event: what else is known of the call, as a JSON object. A guest ignores
    /// what it does not know.
    Context = 4,
    /// Host to guest: so many more bytes of a call's output may be sent, as a `u32` in little-endian order.
    Credit = 5,
    /// Host to guest: a piece of the body of a call whose context announced one; without bytes, its end. At most
    /// [`CHUNK_WINDOW`] bytes that the guest has not credited yet.
    Body = 6,
    /// Guest to host: first frame of every connection.
    Ready = 64,
    /// Guest to host: the code is loaded and the handler found.
    InitOk = 65,
    /// Guest to host: the code cannot be used.
    InitError = 66,
    /// Guest to host: a call's result as JSON text.
    Result = 67,
    /// Guest to host: a call failed.
    Error = 68,
    /// Guest to host: log text of a call, always before its result.
    Log = 69,
    /// Guest to host: a piece of a call's output, always before its result. At most [`CHUNK_WINDOW`] bytes that the
    /// host has not credited yet.
    Chunk = 70,
    /// Guest to host: so many more bytes of a call's body may be sent, as a `u32` in little-endian order; always before
    /// its result.
    BodyCredit = 71,
}

impl FrameKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Init,
            2 => Self::Invoke,
            3 => Self::Cancel,
            4 => Self::Context,
            5 => Self::Credit,
            6 => Self::Body,
            64 => Self::Ready,
            65 => Self::InitOk,
            66 => Self::InitError,
            67 => Self::Result,
            68 => Self::Error,
            69 => Self::Log,
            70 => Self::Chunk,
            71 => Self::BodyCredit,
            _ => return None,
        })
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// The call it belongs to.
    pub call: u32,
    /// The rest, not interpreted.
    pub payload: Bytes,
}

/// Why bytes are not frames. The connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is below the head's or above [`MAX_FRAME`].
    #[error("frame announces {0} bytes; 5 to 8388608 are allowed")]
    Length(usize),
    /// A kind that this side does not know.
    #[error("frame has the unknown kind {0}")]
    Kind(u8),
}

/// Appends one frame whose payload is the parts in order. A payload beyond [`MAX_FRAME`] is the caller's
/// mistake and yields `Err` with `out` unchanged.
pub fn encode(out: &mut BytesMut, kind: FrameKind, call: u32, parts: &[&[u8]]) -> Result<(), FrameError> {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    let length = HEAD + payload;
    let field =
        u32::try_from(length).ok().filter(|_| length <= MAX_FRAME).ok_or(FrameError::Length(length))?;
    out.reserve(PREFIX + length);
    out.extend_from_slice(&field.to_le_bytes());
    out.extend_from_slice(&[kind as u8]);
    out.extend_from_slice(&call.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Takes frames off the front of a buffer that a reader fills.
#[derive(Debug, Default)]
pub struct Decoder;

impl Decoder {
    /// The next whole frame, or `None` until more bytes have arrived. Payloads share the buffer's memory. After
    /// `Err` the stream is out of step and must be closed.
    pub fn next(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some((prefix, rest)) = buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if !(HEAD..=MAX_FRAME).contains(&length) {
            return Err(FrameError::Length(length));
        }
        let Some((&[kind, a, b, c, d], _)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let kind = FrameKind::from_number(kind).ok_or(FrameError::Kind(kind))?;
        if rest.len() < length {
            buffer.reserve(length - rest.len());
            return Ok(None);
        }
        let mut whole = buffer.split_to(PREFIX + length);
        whole.advance(PREFIX + HEAD);
        Ok(Some(Frame { kind, call: u32::from_le_bytes([a, b, c, d]), payload: whole.freeze() }))
    }
}

#[cfg(test)]
mod tests;
