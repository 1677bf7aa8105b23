//! One call over the network, both ways at once.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use impuls_dispatch::{Duplex, ExecuteRequest, Executed, Input, OutputStream, RunError, RunRequest};
use impuls_domain::{Deadline, Outcome};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::replay::Replay;
use super::{Elsewhere, Miss, lost, which};
use crate::client::Peer;
use crate::convert::{Ended, ExecuteHead, Failed, RunHead, WireExecuted, chain, micros};
use crate::protocol::{Frames, ProtocolError, Sending, frame, head, json, kind, path};

/// Output that waits for a slow reader.
const WAITING: usize = 256 * 1024;
/// Pieces of a body that wait to be sent.
const PIECES: usize = 1;

fn broken(error: &ProtocolError) -> Miss {
    lost(chain(error))
}

/// Runs a call. The duplex is whole afterwards where the call may go elsewhere, and gone where it may not.
pub(super) async fn run(
    peer: &Peer,
    request: &RunRequest,
    duplex: &mut Option<Duplex>,
) -> Result<Outcome<Bytes>, Miss> {
    let has_input = duplex.as_ref().is_some_and(|duplex| duplex.input.is_some());
    let body = begin(request, duplex.is_some(), has_input);
    let (input, body) = if has_input {
        let (input, pieces) = mpsc::channel(PIECES);
        (Some(input), body.then(pieces))
    } else {
        (None, body)
    };
    let response = peer.ask(path::RUN, body).await?;
    let mut reply =
        Reply { frames: Frames::new(response.into_body()), by: request.deadline, has_begun: false };
    let Some(Duplex { input: source, output }) = duplex.take() else {
        return reply.outcome().await;
    };
    let mut source = source.map(Replay::new);
    let ended = {
        let pump = async {
            if let (Some(source), Some(input)) = (&mut source, input) {
                give(source, input).await;
            }
        };
        let reading = reply.relay(&output);
        let (mut pump, mut reading) = (std::pin::pin!(pump), std::pin::pin!(reading));
        tokio::select! {
            biased;
            ended = &mut reading => ended,
            () = &mut pump => reading.await,
        }
    };
    ended.map_err(|miss| {
        if reply.has_begun || miss.elsewhere == Elsewhere::Never {
            return Miss { elsewhere: Elsewhere::Never, ..miss };
        }
        // A streaming call is answered before it begins, so that the worker may have taken some of the body by now.
        let input = match source.map(Replay::again) {
            None => None,
            Some(Some(input)) => Some(input),
            Some(None) => return Miss { elsewhere: Elsewhere::Never, ..miss },
        };
        *duplex = Some(Duplex { input, output });
        miss
    })
}

fn begin(request: &RunRequest, streams: bool, has_input: bool) -> Sending {
    let parts = [(kind::CONTEXT, &request.context), (kind::EVENT, &request.event)];
    let head = RunHead {
        id: request.id,
        which: which(&request.target),
        remaining_us: micros(request.deadline.remaining(Instant::now().into_std())),
        timeout_us: micros(request.timeout),
        deadline_unix_ms: request.deadline_unix_ms,
        measure: request.measure,
        max_concurrency: request.max_concurrency,
        streams,
        frames: parts.iter().filter(|(_, payload)| !payload.is_empty()).count(),
        has_input,
    };
    let mut frames = vec![json(kind::HEAD, &head)];
    for (kind, payload) in parts.into_iter().filter(|(_, payload)| !payload.is_empty()) {
        frames.push(self::head(kind, payload.len()));
        frames.push(payload.clone());
    }
    Sending::whole(joined(frames))
}

/// Small neighbours as one, because each is a frame of HTTP/2 of its own.
pub(crate) fn joined(frames: Vec<Bytes>) -> Vec<Bytes> {
    /// What is copied rather than sent apart.
    const SMALL: usize = 16 * 1024;
    let mut sent: Vec<Bytes> = Vec::with_capacity(frames.len());
    let mut small = BytesMut::new();
    for bytes in frames {
        if bytes.len() <= SMALL {
            small.extend_from_slice(&bytes);
            continue;
        }
        if !small.is_empty() {
            sent.push(small.split().freeze());
        }
        sent.push(bytes);
    }
    if !small.is_empty() {
        sent.push(small.freeze());
    }
    sent
}

/// Sends the whole body, or as much of it as the worker takes. One that breaks off has no end.
async fn give(source: &mut dyn Input, input: mpsc::Sender<Bytes>) {
    while let Some(piece) = source.next().await {
        let Ok(piece) = piece else { return };
        if input.send(frame(kind::INPUT, &piece)).await.is_err() {
            return;
        }
    }
    // It fails if the worker wants nothing more.
    drop(input.send(frame(kind::INPUT_END, &[])).await);
}

/// What a worker answers.
struct Reply {
    frames: Frames<Incoming>,
    by: Deadline,
    /// Whether there was output: nobody else may run the call then.
    has_begun: bool,
}

/// The next thing in a reply.
enum Said {
    Output(Bytes),
    Ended(Outcome<Bytes>),
}

impl Reply {
    async fn outcome(&mut self) -> Result<Outcome<Bytes>, Miss> {
        loop {
            if let Said::Ended(outcome) = self.next().await? {
                return Ok(outcome);
            }
        }
    }

    /// The next piece or the end. Safe to drop until the end has begun to arrive; then it comes at once.
    async fn next(&mut self) -> Result<Said, Miss> {
        loop {
            match self.frames.next().await.map_err(|error| broken(&error))? {
                None => return Err(lost("the answer ended before the call did".to_owned())),
                Some((kind::OUTPUT, piece)) => {
                    self.has_begun = true;
                    return Ok(Said::Output(piece));
                }
                Some((kind::FAILED, text)) => return Err(failed(&text)),
                Some((kind::RESULT, bytes)) => return ended(bytes).map(Said::Ended),
                Some(_) => {}
            }
        }
    }

    /// Passes output on as it comes, no faster than it is taken, and returns what is left of it as the result. Nobody
    /// waits for a slow reader once the deadline has passed: what comes then is no more than the windows hold.
    async fn relay(&mut self, output: &mpsc::Sender<Bytes>) -> Result<Outcome<Bytes>, Miss> {
        let (mut waiting, mut bytes) = (VecDeque::<Bytes>::new(), 0usize);
        let (mut streams, mut listens) = (false, true);
        let deadline = Instant::from(self.by.instant());
        let outcome = loop {
            let has_room = bytes < WAITING || Instant::now() >= deadline;
            tokio::select! {
                biased;
                room = output.reserve(), if listens && !waiting.is_empty() => match (room, waiting.pop_front()) {
                    (Ok(room), Some(piece)) => {
                        bytes -= piece.len();
                        room.send(piece);
                    }
                    _ => listens = false,
                },
                said = self.next(), if has_room => match said? {
                    Said::Output(piece) => {
                        streams = true;
                        if listens {
                            bytes += piece.len();
                            waiting.push_back(piece);
                        }
                    }
                    Said::Ended(outcome) => break outcome,
                },
                () = tokio::time::sleep_until(deadline), if !has_room => {}
            }
        };
        // The head is no part of a result; nobody has it yet if the whole reply came at once.
        if let (true, Ok(room)) = (streams && listens, output.try_reserve())
            && let Some(first) = waiting.pop_front()
        {
            room.send(first);
        }
        if !streams || waiting.is_empty() {
            return Ok(outcome);
        }
        let result = outcome.result.map(|last| {
            waiting.push_back(last);
            Bytes::from(Vec::from(waiting).concat())
        });
        Ok(Outcome { result, ..outcome })
    }
}

/// How it ended: a JSON object and, after its length, the result.
fn ended(bytes: Bytes) -> Result<Outcome<Bytes>, Miss> {
    let (end, result) = split(bytes).map_err(|error| broken(&error))?;
    let ended: Ended = serde_json::from_slice(&end).map_err(|error| broken(&error.into()))?;
    Ok(ended.outcome(Some(result)))
}

/// A JSON object with bytes after it, in one payload.
pub(crate) fn with_rest(json: &[u8], rest: &[Bytes]) -> Vec<Bytes> {
    let length = 4 + json.len() + rest.iter().map(Bytes::len).sum::<usize>();
    let mut frames = vec![head(kind::RESULT, length)];
    frames.push(Bytes::copy_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes()));
    frames.push(Bytes::copy_from_slice(json));
    frames.extend(rest.iter().cloned());
    joined(frames)
}

fn split(mut bytes: Bytes) -> Result<(Bytes, Bytes), ProtocolError> {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else { return Err(ProtocolError::Short) };
    let length = u32::from_be_bytes(*length) as usize;
    let mut bytes = bytes.split_off(4);
    if length > bytes.len() {
        return Err(ProtocolError::Short);
    }
    let json = bytes.split_to(length);
    Ok((json, bytes))
}

fn failed(text: &[u8]) -> Miss {
    match serde_json::from_slice::<Failed>(text) {
        Ok(failed) => {
            let (error, elsewhere) = failed.error();
            Miss { error, elsewhere: if elsewhere { Elsewhere::IfUnbound } else { Elsewhere::Never } }
        }
        Err(error) => broken(&error.into()),
    }
}

/// Runs a command.
pub(super) async fn execute(
    peer: &Peer,
    head: ExecuteHead,
    request: &ExecuteRequest,
) -> Result<Executed, Miss> {
    let mut frames = vec![json(kind::HEAD, &head)];
    if !request.stdin.is_empty() {
        frames.push(self::head(kind::EVENT, request.stdin.len()));
        frames.push(request.stdin.clone());
    }
    let response = peer.ask(path::EXECUTE, Sending::whole(joined(frames))).await?;
    let mut frames = Frames::new(response.into_body());
    let mut has_begun = false;
    while let Some((kind, payload)) = frames.next().await.map_err(|error| broken(&error))? {
        match kind {
            kind::TEXT => {
                has_begun = true;
                if let (Some(on_output), Some((stream, text))) = (&request.on_output, text(&payload)) {
                    on_output.call(stream, text);
                }
            }
            kind::FAILED => {
                let miss = failed(&payload);
                return Err(if has_begun { Miss { elsewhere: Elsewhere::Never, ..miss } } else { miss });
            }
            kind::RESULT => return executed(payload),
            _ => {}
        }
    }
    Err(Miss { error: RunError::WorkerLost(peer.id().to_owned()), elsewhere: Elsewhere::Never })
}

fn executed(payload: Bytes) -> Result<Executed, Miss> {
    let broken = |error: ProtocolError| broken(&error);
    let (end, output) = split(payload).map_err(broken)?;
    let (stdout, stderr) = split(output).map_err(broken)?;
    let executed: WireExecuted = serde_json::from_slice(&end).map_err(|error| broken(error.into()))?;
    Ok(Executed { stdout, stderr, ..executed.executed() })
}

/// A piece of text with its stream.
pub(crate) fn text(payload: &[u8]) -> Option<(OutputStream, &str)> {
    let (stream, text) = payload.split_first()?;
    let stream = if *stream == 2 { OutputStream::Stderr } else { OutputStream::Stdout };
    Some((stream, std::str::from_utf8(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_comes_back_behind_its_json() {
        for rest in [Bytes::new(), Bytes::from(vec![7; 100_000])] {
            let sent: Vec<u8> = with_rest(b"{}", std::slice::from_ref(&rest)).concat();
            let (json, back) = split(Bytes::copy_from_slice(&sent[5..])).unwrap();
            assert_eq!((&*json, &*back), (&b"{}"[..], &*rest));
        }
        assert!(split(Bytes::from_static(&[0, 0, 0, 9, 1])).is_err());
        assert!(split(Bytes::from_static(&[0])).is_err());
    }
}
