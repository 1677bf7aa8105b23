//! What passes through a call while it runs: the request's body towards the sandbox, output towards the client.

use bytes::{Bytes, BytesMut};
use impuls_dispatch::{Duplex, Input, InputBroken};
use impuls_sandbox::Waiting;

/// [`impuls_sandbox::Streaming`] of a call whose body comes apart from its event.
const WITH_BODY: &[u8] = br#"{"stream":true,"body":true}"#;
/// The same of one whose event is complete.
const WITHOUT_BODY: &[u8] = br#"{"stream":true}"#;

/// What came of a duplex.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// The function does not stream: its result is the reply.
    Nothing,
    /// Output that nobody had taken when the call ended.
    Rest(Bytes),
}

impl Relayed {
    /// The outcome's result, given the sandbox's.
    pub(crate) fn or(self, result: Bytes) -> Bytes {
        match self {
            Self::Nothing => result,
            Self::Rest(rest) => rest,
        }
    }
}

/// What a sandbox is told of a call with this duplex.
pub(crate) fn streaming(duplex: &Duplex) -> Bytes {
    Bytes::from_static(if duplex.input.is_some() { WITH_BODY } else { WITHOUT_BODY })
}

/// Passes bytes in both directions until the call has its reply or will have none. `Err` if the client broke off.
pub(crate) async fn relay(waiting: &Waiting, duplex: Duplex) -> Result<Relayed, InputBroken> {
    let Duplex { input, output } = duplex;
    let taking = async {
        // The head goes first, so that whoever reads knows that there is a stream; the channel is still empty.
        let Some(head) = waiting.next_chunk().await else { return Relayed::Nothing };
        let mut listens = output.send(head).await.is_ok();
        while listens {
            tokio::select! {
                biased;
                () = waiting.ended() => break,
                room = output.reserve() => match room {
                    Ok(room) => match waiting.next_chunk().await {
                        Some(chunk) => room.send(chunk),
                        None => break,
                    },
                    Err(_) => listens = false,
                },
            }
        }
        // Nobody waits for a slow reader once the call has ended; what is left is no more than its window. A reader that
        // has all it wants only waits for the end.
        let mut rest = BytesMut::new();
        while let Some(chunk) = waiting.next_chunk().await {
            if listens {
                rest.extend_from_slice(&chunk);
            }
        }
        Relayed::Rest(rest.freeze())
    };
    let Some(mut input) = input else { return Ok(taking.await) };
    let mut taking = std::pin::pin!(taking);
    tokio::select! {
        relayed = &mut taking => return Ok(relayed),
        sent = give(waiting, input.as_mut()) => sent?,
    }
    // What it held of the request is free now.
    drop(input);
    Ok(taking.await)
}

/// Sends the whole body, or as much of it as the call lives to take.
async fn give(waiting: &Waiting, input: &mut dyn Input) -> Result<(), InputBroken> {
    while let Some(piece) = input.next().await {
        let piece = piece?;
        if !piece.is_empty() && waiting.send_body(piece).await.is_err() {
            return Ok(());
        }
    }
    let _ended = waiting.send_body(Bytes::new()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use impuls_sandbox::Streaming;

    use super::*;

    #[test]
    fn what_a_sandbox_is_told_is_what_it_reads() {
        for (text, body) in [(WITH_BODY, true), (WITHOUT_BODY, false)] {
            let read: Streaming = serde_json::from_slice(text).unwrap();
            assert_eq!(read, Streaming { stream: true, body });
        }
    }
}
