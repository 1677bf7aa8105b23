use super::*;
use proptest::prelude::*;

fn kinds() -> impl Strategy<Value = FrameKind> {
    let known: Vec<FrameKind> = (0..=u8::MAX).filter_map(FrameKind::from_number).collect();
    prop::sample::select(known)
}

fn frames() -> impl Strategy<Value = Vec<(FrameKind, u32, Vec<u8>)>> {
    let frame = (kinds(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..200));
    prop::collection::vec(frame, 0..20)
}

proptest! {
    #[test]
    fn frames_survive_any_division_of_the_stream(frames in frames(), step in 1usize..64) {
        let mut stream = BytesMut::new();
        for (kind, call, payload) in &frames {
            let (head, tail) = payload.split_at(payload.len() / 2);
            encode(&mut stream, *kind, *call, &[head, tail]).unwrap();
        }
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = Decoder::next(&mut buffer).unwrap() {
                seen.push((frame.kind, frame.call, frame.payload.to_vec()));
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(seen, frames);
    }

    #[test]
    fn foreign_bytes_never_panic_and_never_yield_more_than_they_hold(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        let mut taken = 0;
        while let Ok(Some(frame)) = Decoder::next(&mut buffer) {
            taken += PREFIX + HEAD + frame.payload.len();
        }
        prop_assert!(taken + buffer.len() == bytes.len());
    }
}

fn refuses(bytes: &[u8], expected: FrameError) {
    assert_eq!(Decoder::next(&mut BytesMut::from(bytes)), Err(expected));
}

/// Byte sequences that once were, or obviously could be, trouble.
#[test]
fn the_corpus_of_bad_frames_is_refused() {
    refuses(&[0, 0, 0, 0], FrameError::Length(0));
    refuses(&[4, 0, 0, 0, 67, 0, 0, 0], FrameError::Length(4));
    refuses(&[255, 255, 255, 255, 67], FrameError::Length(0xffff_ffff));
    refuses(&[1, 0, 128, 0, 67], FrameError::Length(MAX_FRAME + 1));
    refuses(&[5, 0, 0, 0, 0, 1, 0, 0, 0], FrameError::Kind(0));
    refuses(&[5, 0, 0, 0, 200, 1, 0, 0, 0], FrameError::Kind(200));
}

#[test]
fn a_payload_beyond_the_limit_is_not_encoded() {
    let mut out = BytesMut::new();
    let payload = vec![0; MAX_FRAME - HEAD + 1];
    assert_eq!(encode(&mut out, FrameKind::Invoke, 1, &[&payload]), Err(FrameError::Length(MAX_FRAME + 1)));
    assert!(out.is_empty());
}
