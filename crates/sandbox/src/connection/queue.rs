//! What waits to be written to a sandbox, and how far writing has come.
//!
//! Nothing here is bounded by itself. Whatever a sandbox can make the host queue is queued only when what was queued for
//! the same reason before has been written, which positions in the stream tell.

use bytes::BytesMut;
use impuls_guest_protocol::{CHUNK_WINDOW, FrameError, FrameKind, encode, encode_invoke};
use uuid::Uuid;

/// Bodies of calls are queued only while fewer bytes wait.
const ROOM: u64 = CHUNK_WINDOW as u64;
/// The most memory that an empty queue keeps.
const KEPT: usize = 64 * 1024;

/// The frames to be written.
#[derive(Default)]
pub(super) struct Queue {
    out: BytesMut,
    /// All bytes that were ever queued, and how many of them have been written.
    queued: u64,
    written: u64,
    /// Whether somebody waits for room.
    wanted: bool,
}

impl Queue {
    /// Queues a frame and returns where it ends.
    pub(super) fn push(&mut self, kind: FrameKind, call: u32, parts: &[&[u8]]) -> Result<u64, FrameError> {
        self.grow(|out| encode(out, kind, call, parts))
    }

    /// The same for a call's event.
    pub(super) fn push_invoke(
        &mut self,
        call: u32,
        request: Uuid,
        deadline_unix_ms: u64,
        event: &[u8],
    ) -> Result<u64, FrameError> {
        self.grow(|out| encode_invoke(out, call, request, deadline_unix_ms, event))
    }

    fn grow(&mut self, add: impl FnOnce(&mut BytesMut) -> Result<(), FrameError>) -> Result<u64, FrameError> {
        let before = self.out.len();
        add(&mut self.out)?;
        self.queued += (self.out.len() - before) as u64;
        Ok(self.queued)
    }

    /// Whether everything up to a frame's end has been written.
    pub(super) const fn has_written(&self, end: u64) -> bool {
        self.written >= end
    }

    /// Whether a body may be queued; if not, [`Queue::wrote`] will say when.
    pub(super) fn has_room(&mut self) -> bool {
        let room = self.waiting() < ROOM;
        self.wanted |= !room;
        room
    }

    /// Bytes that have not been written.
    pub(super) const fn waiting(&self) -> u64 {
        self.queued - self.written
    }

    /// Notes that so many bytes have been written; true if there is room now for those who wanted some.
    pub(super) fn wrote(&mut self, bytes: usize) -> bool {
        self.written += bytes as u64;
        self.wanted && self.waiting() < ROOM && std::mem::take(&mut self.wanted)
    }

    /// Takes all that waits; `empty`, whose bytes have been written, becomes the queue's memory.
    pub(super) fn take(&mut self, mut empty: BytesMut) -> BytesMut {
        empty.clear();
        if empty.capacity() > KEPT {
            empty = BytesMut::new();
        }
        std::mem::replace(&mut self.out, empty)
    }
}
