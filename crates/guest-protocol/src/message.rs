//! What the payloads hold. Events and results are opaque bytes here; everything else is small JSON.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::frame::{FrameError, FrameKind, encode};

/// Payload of [`FrameKind::Init`]: which code to load and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// The function's name.
    pub function_name: String,
    /// The version number, or `$LATEST`.
    pub function_version: String,
    /// The function's id.
    pub function_id: String,
    /// `file.function`, or `function` for single-file code.
    pub handler: String,
    /// `module`, `scoped`, `program`, `command`, `bootstrap` or `http`.
    pub contract: String,
    /// What the agent runs; empty where a shim loads the code, and for a sandbox whose every call brings its own.
    #[serde(default)]
    pub command: Vec<String>,
    /// The sandbox's memory limit, in MiB.
    pub memory_mb: u32,
    /// How long a call may take by the function's own settings, in milliseconds; 0 if nothing says so. A call's
    /// deadline is what counts.
    #[serde(default)]
    pub timeout_ms: u64,
    /// Slots: how many calls may run at once.
    pub concurrency: u32,
    /// The function's own environment variables.
    pub environment: BTreeMap<String, String>,
    /// Where the code is, inside the sandbox.
    pub code_dir: String,
    /// Only prove that the code loads; no call will follow.
    pub check: bool,
}

/// Payload of [`FrameKind::Ready`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The shim's language.
    pub runtime: String,
    /// The interpreter's version.
    pub version: String,
}

/// What kept the code from loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitErrorKind {
    /// It does not parse.
    Syntax,
    /// There is no such file or handler.
    Handler,
    /// The top level threw.
    Init,
}

/// Payload of [`FrameKind::InitError`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitError {
    /// What went wrong.
    pub kind: InitErrorKind,
    /// The language's name of the error.
    #[serde(rename = "type")]
    pub class: String,
    /// One sentence.
    pub message: String,
    /// The stack trace, if any.
    #[serde(default)]
    pub stack: Option<String>,
    /// The file to blame, relative to the code's folder.
    #[serde(default)]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default)]
    pub line: Option<u32>,
}

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallErrorKind {
    /// The handler failed.
    FunctionError,
    /// Its result cannot be sent.
    BadResponse,
    /// The event is not JSON: the caller's mistake.
    BadEvent,
}

/// Payload of [`FrameKind::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// Whose fault it is.
    pub kind: CallErrorKind,
    /// The language's name of the error.
    #[serde(rename = "type")]
    pub class: String,
    /// One sentence.
    pub message: String,
    /// The stack trace, if any.
    #[serde(default)]
    pub stack: Option<String>,
}

/// What [`FrameKind::Context`] says of the way that a call's bytes travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streaming {
    /// The reply may be streamed: its head as the first [`FrameKind::Chunk`], alone, and then the body. The head is a JSON
    /// object of at most [`REPLY_HEAD_LIMIT`](crate::REPLY_HEAD_LIMIT) bytes with `statusCode`, `headers` and
    /// `cookies`. What a guest sends as a result without a chunk is an ordinary result.
    #[serde(default)]
    pub stream: bool,
    /// The event is without its body, which comes as [`FrameKind::Body`] frames.
    #[serde(default)]
    pub body: bool,
}

/// Appends an [`FrameKind::Invoke`] frame: the request id's 16 bytes, the deadline in milliseconds since the
/// Unix epoch, and the event (empty means `null`).
pub fn encode_invoke(
    out: &mut BytesMut,
    call: u32,
    request: Uuid,
    deadline_unix_ms: u64,
    event: &[u8],
) -> Result<(), FrameError> {
    encode(out, FrameKind::Invoke, call, &[request.as_bytes(), &deadline_unix_ms.to_le_bytes(), event])
}

/// Payload of [`FrameKind::Log`]: a level's number and text, or how many bytes were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogText {
    /// Text at level 0 (stdout), 1 (stderr), 2 (debug), 3 (info), 4 (warn) or 5 (error).
    Text {
        /// The level's number.
        level: u8,
        /// Whole lines without the last newline.
        text: String,
    },
    /// Bytes that the shim dropped because the invocation had written its share.
    Dropped(u64),
}

impl LogText {
    /// Reads a payload; `None` if it is malformed. Invalid UTF-8 is replaced, never refused.
    #[must_use]
    pub fn decode(payload: &Bytes) -> Option<Self> {
        let (&level, rest) = payload.split_first()?;
        match level {
            0..=5 => Some(Self::Text { level, text: String::from_utf8_lossy(rest).into_owned() }),
            6 => Some(Self::Dropped(u64::from_le_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }
}
