//! Reading an event: bounded, counted, and not copied if it comes in one piece.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use impuls_domain::limits::PAYLOAD_LIMIT;

use super::Front;
use super::progress::{PATIENCE, TheirTurn};
use crate::problem::{Problem, ProblemKind};

/// How much of a refused body is read, so that ordinary clients see the refusal and not a broken connection.
const DRAIN_LIMIT: usize = 16 * 1024 * 1024;
/// Events up to this size are not counted against `FrontConfig::event_memory`.
const SMALL_EVENT: usize = 64 * 1024;

impl Front {
    /// The whole event. One that arrives in one piece, as small ones do, is not copied.
    pub(super) async fn read_event(
        &self,
        parts: &Parts,
        mut body: Incoming,
        until: TheirTurn<'_>,
    ) -> Result<Event<'_>, Problem> {
        let announced = body.size_hint().lower();
        if announced > PAYLOAD_LIMIT as u64 {
            if !parts.headers.contains_key(header::EXPECT) {
                drain(body);
            }
            return Err(too_large());
        }
        let mut event = Event { front: self, bytes: Bytes::new(), counted: 0 };
        let mut whole: Option<BytesMut> = None;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            until.note();
            let length = event.bytes.len() + whole.as_ref().map_or(0, BytesMut::len) + piece.len();
            if length > PAYLOAD_LIMIT {
                drain(body);
                return Err(too_large());
            }
            event.count(length)?;
            match &mut whole {
                Some(whole) => whole.extend_from_slice(&piece),
                None if event.bytes.is_empty() => event.bytes = piece,
                None => {
                    let expected = usize::try_from(announced).unwrap_or(0).max(length);
                    let mut joined = BytesMut::with_capacity(expected);
                    joined.extend_from_slice(&std::mem::take(&mut event.bytes));
                    joined.extend_from_slice(&piece);
                    whole = Some(joined);
                }
            }
        }
        if let Some(whole) = whole {
            event.bytes = whole.freeze();
        }
        Ok(event)
    }
}

/// An event in memory; counted for as long as it is there.
pub(super) struct Event<'a> {
    front: &'a Front,
    pub(super) bytes: Bytes,
    counted: usize,
}

impl Event<'_> {
    fn count(&mut self, length: usize) -> Result<(), Problem> {
        if length <= SMALL_EVENT || length <= self.counted {
            return Ok(());
        }
        let more = length - self.counted;
        let before = self.front.event_memory.fetch_add(more, Ordering::Relaxed);
        self.counted = length;
        if before + more > self.front.config.event_memory {
            let problem = Problem::new(
                ProblemKind::Throttled,
                "too many large events are being processed; try again later",
            );
            return Err(problem.retry_after(Duration::from_secs(1)));
        }
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.front.event_memory.fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("the event has more than {PAYLOAD_LIMIT} bytes (6 MiB)"))
}

fn broken(error: &hyper::Error) -> Problem {
    Problem::new(ProblemKind::InvalidRequest, format!("the event cannot be read: {error}"))
}

/// Reads the rest of a refused body while the refusal is on its way.
fn drain(mut body: Incoming) {
    tokio::spawn(tokio::time::timeout(PATIENCE, async move {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    }));
}
