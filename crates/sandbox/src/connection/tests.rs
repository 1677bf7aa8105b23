use std::sync::atomic::{AtomicUsize, Ordering};

use impuls_guest_protocol::{CHUNK_WINDOW, CallErrorKind, Decoder, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::driver::{INIT_LIMIT, READY_LIMIT};
use super::*;

/// What has been written past the shim: one line, once.
struct OneLine(AtomicUsize);

impl OutputSource for OneLine {
    fn drain(&self) -> Vec<(LogLevel, String)> {
        let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        if first { vec![(LogLevel::Stderr, "from a child".to_owned())] } else { Vec::new() }
    }
}

/// The guest's end of a connection.
struct Guest {
    stream: UnixStream,
    input: BytesMut,
}

impl Guest {
    async fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = Decoder::next(&mut self.input).unwrap() {
                return frame;
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the host hung up");
        }
    }

    async fn send(&mut self, kind: FrameKind, call: u32, payload: &[u8]) {
        let mut out = BytesMut::new();
        encode(&mut out, kind, call, &[payload]).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }
}

fn pair() -> (Connection, Guest) {
    let (host, guest) = UnixStream::pair().unwrap();
    let connection = Connection::serve(host, Arc::new(OneLine(AtomicUsize::new(0))));
    (connection, Guest { stream: guest, input: BytesMut::new() })
}

/// Counts how many calls have released what they held.
struct Released(Arc<AtomicUsize>);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn call(event: &[u8], released: &Arc<AtomicUsize>) -> Call<'static> {
    let event: &'static [u8] = Box::leak(event.to_vec().into_boxed_slice());
    Call {
        request: InvocationId::new(),
        deadline: Deadline::at(Instant::now() + std::time::Duration::from_secs(60)),
        deadline_unix_ms: 7,
        event,
        context: b"",
        hold: Hold::new(Released(released.clone())),
    }
}

#[tokio::test]
async fn calls_overlap_and_each_gets_its_own_reply() {
    let (connection, mut guest) = pair();
    let released = Arc::new(AtomicUsize::new(0));
    let first = connection.call(call(b"1", &released)).unwrap();
    let second = connection.call(call(b"2", &released)).unwrap();
    let (one, two) = (guest.receive().await, guest.receive().await);
    assert_eq!((&one.payload[24..], &two.payload[24..]), (&b"1"[..], &b"2"[..]));
    guest.send(FrameKind::Result, two.call, b"\"two\"").await;
    guest.send(FrameKind::Result, one.call, b"\"one\"").await;
    assert_eq!(second.await.unwrap().result.unwrap(), "\"two\"");
    assert_eq!(first.await.unwrap().result.unwrap(), "\"one\"");
    assert_eq!(released.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn logs_belong_to_their_call_and_come_with_its_reply() {
    let (connection, mut guest) = pair();
    let released = Arc::default();
    let waiting = connection.call(call(b"", &released)).unwrap();
    let frame = guest.receive().await;
    guest.send(FrameKind::Log, frame.call, b"\x03hello").await;
    guest.send(FrameKind::Log, 0, b"\x00nobody's").await;
    guest.send(FrameKind::Log, frame.call, b"\x06\x05\0\0\0\0\0\0\0").await;
    let error = br#"{"kind":"FunctionError","type":"TypeError","message":"no"}"#;
    guest.send(FrameKind::Error, frame.call, error).await;
    let reply = waiting.await.unwrap();
    assert_eq!(reply.result.unwrap_err().kind, CallErrorKind::FunctionError);
    let lines: Vec<_> = reply.logs.lines().iter().map(|line| (line.level, line.text.as_str())).collect();
    assert_eq!(lines, [(LogLevel::Info, "hello"), (LogLevel::Stderr, "from a child")]);
    assert_eq!(reply.logs.dropped_bytes(), 5);
    assert_eq!(connection.take_loose_logs().lines().len(), 1);
}

#[tokio::test]
async fn a_sandbox_that_ends_fails_its_calls_and_keeps_what_they_wrote() {
    let (connection, mut guest) = pair();
    let released = Arc::new(AtomicUsize::new(0));
    let waiting = connection.call(call(b"", &released)).unwrap();
    let frame = guest.receive().await;
    guest.send(FrameKind::Log, frame.call, b"\x00last words").await;
    drop(guest);
    let lost = waiting.await.unwrap_err();
    assert_eq!(lost.reason, LossReason::Gone);
    assert_eq!(lost.logs.lines()[0].text, "last words");
    assert_eq!(released.load(Ordering::SeqCst), 1);
    assert!(connection.call(call(b"", &released)).is_err(), "a later call has not begun");
}

#[tokio::test]
async fn an_abandoned_call_holds_its_slot_until_it_has_ended() {
    let (connection, mut guest) = pair();
    let released = Arc::new(AtomicUsize::new(0));
    drop(connection.call(call(b"", &released)).unwrap());
    let invoke = guest.receive().await;
    assert_eq!(guest.receive().await.kind, FrameKind::Cancel);
    assert_eq!(released.load(Ordering::SeqCst), 0);
    let next = connection.call(call(b"", &released)).unwrap();
    let following = guest.receive().await;
    assert_ne!(following.call, invoke.call, "a call id is not given away while its call runs");
    guest.send(FrameKind::Result, invoke.call, b"1").await;
    guest.send(FrameKind::Result, following.call, b"2").await;
    assert_eq!(next.await.unwrap().result.unwrap(), "2");
    assert_eq!(released.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_guest_that_breaks_the_protocol_is_cut_off() {
    for (kind, call_id) in [(FrameKind::Result, 9), (FrameKind::Invoke, 1), (FrameKind::Result, 0)] {
        let (connection, mut guest) = pair();
        let released = Arc::default();
        let waiting = connection.call(call(b"", &released)).unwrap();
        guest.send(kind, call_id, b"null").await;
        assert!(waiting.await.is_err(), "{kind:?} for call {call_id}");
        assert!(connection.is_gone());
    }
}

/// Waits until the host has closed the connection.
async fn cut_off(mut guest: Guest) {
    let mut rest = Vec::new();
    let _reset_or_end = guest.stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_sandbox_greets_once_and_answers_once_to_code() {
    let (connection, mut guest) = pair();
    guest.send(FrameKind::Ready, 0, b"{}").await;
    assert_eq!(connection.receive().await.unwrap().kind, FrameKind::Ready);
    connection.send(FrameKind::Init, b"{}").unwrap();
    assert_eq!(guest.receive().await.kind, FrameKind::Init);
    guest.send(FrameKind::InitError, 0, &vec![b' '; INIT_LIMIT]).await;
    assert_eq!(connection.receive().await.unwrap().payload.len(), INIT_LIMIT);
    guest.send(FrameKind::InitOk, 0, b"{}").await;
    cut_off(guest).await;
    assert!(connection.is_gone(), "a second answer");
}

#[tokio::test]
async fn control_frames_that_nobody_asked_for_are_not_kept() {
    let long = vec![b' '; READY_LIMIT + 1];
    let floods: [&[(FrameKind, &[u8])]; 3] = [
        &[(FrameKind::InitOk, &[b' '; 1024])],
        &[(FrameKind::Ready, b"{}"), (FrameKind::Ready, b"{}")],
        &[(FrameKind::Ready, &long)],
    ];
    for flood in floods {
        let (connection, mut guest) = pair();
        for (kind, payload) in flood {
            guest.send(*kind, 0, payload).await;
        }
        cut_off(guest).await;
        assert!(connection.is_gone(), "{:?}", flood.first().map(|(kind, _)| kind));
    }
}

#[tokio::test]
async fn large_events_pass_whole() {
    let (connection, mut guest) = pair();
    let released = Arc::default();
    let event = vec![b'x'; 6 * 1024 * 1024];
    let waiting = connection.call(call(&event, &released)).unwrap();
    let frame = guest.receive().await;
    assert_eq!(frame.payload.len(), 24 + event.len());
    guest.send(FrameKind::Result, frame.call, &event).await;
    assert_eq!(waiting.await.unwrap().result.unwrap().len(), event.len());
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_its_deadline_and_holds_its_slot_beyond() {
    let (connection, mut guest) = pair();
    let released = Arc::new(AtomicUsize::new(0));
    let start = tokio::time::Instant::now();
    let after = |secs| Deadline::at((start + std::time::Duration::from_secs(secs)).into_std());
    let late = connection.call(Call { deadline: after(9), ..call(b"", &released) }).unwrap();
    let soon = connection.call(Call { deadline: after(3), ..call(b"", &released) }).unwrap();
    let (first, second) = (guest.receive().await, guest.receive().await);
    guest.send(FrameKind::Log, second.call, b"\x00so far").await;
    let lost = soon.await.unwrap_err();
    assert_eq!((lost.reason, start.elapsed().as_secs()), (LossReason::DeadlinePassed, 3));
    assert_eq!(lost.logs.lines()[0].text, "so far");
    assert_eq!(released.load(Ordering::SeqCst), 0, "it still runs");
    guest.send(FrameKind::Result, first.call, b"1").await;
    assert!(late.await.is_ok());
    assert_eq!(released.load(Ordering::SeqCst), 1);
}

fn texts(part: Option<Part>) -> Vec<String> {
    match part.unwrap() {
        Part::Logs(logs) => logs.lines().iter().map(|line| line.text.clone()).collect(),
        Part::Chunk(chunk) => panic!("{chunk:?} is output"),
    }
}

#[tokio::test]
async fn log_text_can_be_taken_before_the_reply() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let frame = guest.receive().await;
    guest.send(FrameKind::Log, frame.call, b"\0early").await;
    assert_eq!(texts(waiting.next_part().await), ["early"]);
    let (next, ()) = tokio::join!(waiting.next_part(), guest.send(FrameKind::Log, frame.call, b"\x01later"));
    assert_eq!(texts(next), ["later"]);
    guest.send(FrameKind::Result, frame.call, b"null").await;
    // What the sandbox wrote past the shim arrives with the reply.
    assert_eq!(texts(waiting.next_part().await), ["from a child"]);
    assert!(waiting.next_part().await.is_none());
    assert!(waiting.await.unwrap().logs.is_empty());
}

#[tokio::test]
async fn output_is_credited_as_it_is_taken() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    guest.send(FrameKind::Chunk, id, &vec![b'a'; CHUNK_WINDOW]).await;
    let Some(Part::Chunk(chunk)) = waiting.next_part().await else { panic!("no output") };
    assert_eq!(chunk.len(), CHUNK_WINDOW);
    let credit = guest.receive().await;
    assert_eq!((credit.kind, credit.call), (FrameKind::Credit, id));
    assert_eq!(credit.payload[..], u32::try_from(CHUNK_WINDOW).unwrap().to_le_bytes());
    guest.send(FrameKind::Chunk, id, b"end").await;
    let Some(Part::Chunk(chunk)) = waiting.next_part().await else { panic!("no output") };
    assert_eq!(chunk, "end");
    guest.send(FrameKind::Result, id, b"null").await;
    assert_eq!(texts(waiting.next_part().await), ["from a child"]);
    assert!(waiting.next_part().await.is_none());
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_guest_that_sends_more_output_than_it_may_is_cut_off() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    guest.send(FrameKind::Chunk, id, &vec![b'a'; CHUNK_WINDOW]).await;
    guest.send(FrameKind::Chunk, id, b"b").await;
    assert_eq!(waiting.await.unwrap_err().reason, LossReason::Gone);
}

#[tokio::test]
async fn a_body_is_sent_no_faster_than_it_is_credited() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    let receiving = async {
        let first = guest.receive().await;
        assert_eq!((first.kind, first.call, first.payload.len()), (FrameKind::Body, id, CHUNK_WINDOW));
        guest.send(FrameKind::BodyCredit, id, &3_u32.to_le_bytes()).await;
        assert_eq!(guest.receive().await.payload, "xxx");
        guest.send(FrameKind::BodyCredit, id, &9_u32.to_le_bytes()).await;
        assert_eq!(guest.receive().await.payload, "x");
        guest
    };
    let piece = Bytes::from(vec![b'x'; CHUNK_WINDOW + 4]);
    let (sent, mut guest) = tokio::join!(waiting.send_body(piece), receiving);
    sent.unwrap();
    waiting.send_body(Bytes::new()).await.unwrap();
    let end = guest.receive().await;
    assert_eq!((end.kind, end.payload.len()), (FrameKind::Body, 0));
}

#[tokio::test]
async fn a_body_that_nobody_takes_ends_with_its_call() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    let piece = Bytes::from(vec![b'x'; CHUNK_WINDOW + 1]);
    let replying = async {
        guest.receive().await;
        guest.send(FrameKind::Result, id, b"1").await;
    };
    let (sent, ended, ()) = tokio::join!(waiting.send_body(piece), waiting.ended(), replying);
    assert_eq!((sent, ended), (Err(Ended), ()));
    assert_eq!(waiting.await.unwrap().result.unwrap(), "1");
}

#[tokio::test]
async fn a_guest_that_credits_more_than_it_was_sent_is_cut_off() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    guest.send(FrameKind::BodyCredit, id, &1_u32.to_le_bytes()).await;
    assert_eq!(waiting.await.unwrap_err().reason, LossReason::Gone);
}

#[tokio::test]
async fn output_can_be_taken_without_the_log_text() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    guest.send(FrameKind::Log, id, b"\0first").await;
    guest.send(FrameKind::Chunk, id, b"").await;
    guest.send(FrameKind::Chunk, id, b"output").await;
    assert_eq!(waiting.next_chunk().await.unwrap(), "output");
    guest.send(FrameKind::Chunk, id, b"rest").await;
    guest.send(FrameKind::Result, id, b"null").await;
    waiting.ended().await;
    assert_eq!(waiting.next_chunk().await.unwrap(), "rest", "what came before the reply is kept");
    assert!(waiting.next_chunk().await.is_none());
    assert_eq!(waiting.await.unwrap().logs.lines()[0].text, "first");
}

#[tokio::test]
async fn a_call_can_be_cancelled_and_waited_for() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    waiting.cancel();
    let cancel = guest.receive().await;
    assert_eq!((cancel.kind, cancel.call), (FrameKind::Cancel, id));
    guest.send(FrameKind::Result, id, b"1").await;
    assert!(waiting.await.is_ok());
}

/// Bytes that wait to be written.
fn queued(connection: &Connection) -> u64 {
    connection.handle.shared.state.lock().queue.waiting()
}

#[tokio::test]
async fn small_pieces_of_output_cost_no_more_than_their_bytes() {
    const PIECES: usize = 1_000_000;
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    let mut pieces = BytesMut::new();
    for _ in 0..PIECES {
        encode(&mut pieces, FrameKind::Chunk, id, &[b"x"]).unwrap();
    }
    encode(&mut pieces, FrameKind::Result, id, &[b"null"]).unwrap();
    // It reads nothing: what it was credited stays in the socket.
    let sending = async {
        guest.stream.write_all(&pieces).await.unwrap();
        guest
    };
    let taking = async {
        let (mut bytes, mut parts) = (0, 0);
        while let Some(chunk) = waiting.next_chunk().await {
            (bytes, parts) = (bytes + chunk.len(), parts + 1);
            assert!(queued(&connection) < 1024, "{} bytes wait", queued(&connection));
        }
        (bytes, parts)
    };
    let (mut guest, (bytes, parts)) = tokio::join!(sending, taking);
    assert_eq!(bytes, PIECES);
    assert!(parts < PIECES / 10, "{parts} parts: they are taken together");
    let mut credited = 0;
    while credited < PIECES - CHUNK_WINDOW {
        let bytes = u32::from_le_bytes(guest.receive().await.payload[..].try_into().unwrap()) as usize;
        assert!(bytes >= CREDIT_STEP, "{bytes}");
        credited += bytes;
    }
}

#[tokio::test]
async fn the_first_piece_of_output_stays_alone() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    for piece in [&b"head"[..], b"a", b"b"] {
        guest.send(FrameKind::Chunk, id, piece).await;
    }
    guest.send(FrameKind::Result, id, b"null").await;
    waiting.ended().await;
    assert_eq!(waiting.next_chunk().await.unwrap(), "head");
    assert_eq!(waiting.next_chunk().await.unwrap(), "ab");
    assert!(waiting.next_chunk().await.is_none());
}

#[tokio::test]
async fn a_guest_that_answers_what_it_has_not_read_is_cut_off() {
    let (connection, mut guest) = pair();
    // The first call of a connection has the first number; more than a socket holds is not all written.
    let waiting = connection.call(call(&vec![b'x'; 6 * 1024 * 1024], &Arc::default())).unwrap();
    guest.send(FrameKind::Result, 1, b"1").await;
    assert_eq!(waiting.await.unwrap_err().reason, LossReason::Gone);
}

#[tokio::test]
async fn a_body_that_is_credited_and_not_read_waits_at_its_source() {
    let (connection, mut guest) = pair();
    let waiting = connection.call(call(b"1", &Arc::default())).unwrap();
    let id = guest.receive().await.call;
    let crediting = async {
        // A credit within what has been sent is believed; one beyond ends the connection.
        let mut out = BytesMut::new();
        let step = u32::try_from(CHUNK_WINDOW / 8).unwrap().to_le_bytes();
        encode(&mut out, FrameKind::BodyCredit, id, &[&step]).unwrap();
        while guest.stream.write_all(&out).await.is_ok() {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert!(
                queued(&connection) <= 2 * CHUNK_WINDOW as u64 + 1024,
                "{} bytes wait",
                queued(&connection)
            );
        }
        drop(guest);
    };
    let (sent, ()) = tokio::join!(waiting.send_body(Bytes::from(vec![b'x'; 32 * CHUNK_WINDOW])), crediting);
    assert_eq!(sent, Err(Ended));
}

#[tokio::test]
async fn a_body_goes_on_when_what_was_queued_has_been_read() {
    let (connection, mut guest) = pair();
    let first = connection.call(call(&vec![b'x'; 6 * 1024 * 1024], &Arc::default())).unwrap();
    let second = connection.call(call(b"2", &Arc::default())).unwrap();
    let piece = Bytes::from(vec![b'y'; 1000]);
    let reading = async {
        let kinds = [guest.receive().await.kind, guest.receive().await.kind, guest.receive().await.kind];
        (kinds, guest)
    };
    let (sent, (kinds, _guest)) = tokio::join!(second.send_body(piece), reading);
    assert_eq!(sent, Ok(()));
    assert_eq!(kinds, [FrameKind::Invoke, FrameKind::Invoke, FrameKind::Body]);
    drop(first);
}
