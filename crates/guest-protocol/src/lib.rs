//! The frames between a worker and the program inside a sandbox, a shim or the agent: the only code that host
//! and guest share.
//!
//! [`frame`] is the framing, [`message`] what the payloads hold. Nothing here does input or output. Whoever
//! writes a shim for another language reads `guest/shims/README.md`.

pub mod frame;
pub mod message;

pub use frame::{CHUNK_WINDOW, Decoder, Frame, FrameError, FrameKind, MAX_FRAME, REPLY_HEAD_LIMIT, encode};
pub use message::{
    CallError, CallErrorKind, Init, InitError, InitErrorKind, LogText, Ready, Streaming, encode_invoke,
};
