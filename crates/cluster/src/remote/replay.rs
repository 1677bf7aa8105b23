//! The body of a call that its worker may refuse after having taken some of it.
//!
//! A worker takes the body of a streaming call before it knows whether it has room. What it took is kept here, so that the
//! next worker gets the body from its beginning.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_dispatch::{Input, InputBroken};

/// Bytes that are kept. A call of whose body a worker took more goes nowhere else.
const KEPT: usize = 64 * 1024;

/// A body that can be given once more while only its beginning was taken.
pub(super) struct Replay {
    /// What is given before the source goes on.
    first: VecDeque<Bytes>,
    /// `None` once it has ended.
    source: Option<Box<dyn Input>>,
    /// What was given; `None` if that is more than is kept, or has broken off.
    given: Option<VecDeque<Bytes>>,
    bytes: usize,
}

impl Replay {
    pub(super) fn new(source: Box<dyn Input>) -> Self {
        Self { first: VecDeque::new(), source: Some(source), given: Some(VecDeque::new()), bytes: 0 }
    }

    /// The body from its beginning; `None` if not all of it is there any more.
    pub(super) fn again(self) -> Option<Box<dyn Input>> {
        let Self { first, source, given, .. } = self;
        let mut all = given?;
        all.extend(first);
        Some(Box::new(Self { first: all, source, given: Some(VecDeque::new()), bytes: 0 }))
    }

    fn keep(&mut self, piece: &Bytes) {
        self.bytes = self.bytes.saturating_add(piece.len());
        match &mut self.given {
            Some(given) if self.bytes <= KEPT => given.push_back(piece.clone()),
            given => *given = None,
        }
    }
}

#[async_trait]
impl Input for Replay {
    async fn next(&mut self) -> Option<Result<Bytes, InputBroken>> {
        let next = match self.first.pop_front() {
            Some(piece) => Some(Ok(piece)),
            None => self.source.as_mut()?.next().await,
        };
        match &next {
            Some(Ok(piece)) => self.keep(piece),
            Some(Err(InputBroken)) => (self.source, self.given) = (None, None),
            None => self.source = None,
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces, and then the end or none.
    struct Pieces(VecDeque<Result<Bytes, InputBroken>>);

    #[async_trait]
    impl Input for Pieces {
        async fn next(&mut self) -> Option<Result<Bytes, InputBroken>> {
            self.0.pop_front()
        }
    }

    fn body(pieces: impl IntoIterator<Item = Result<Bytes, InputBroken>>) -> Replay {
        Replay::new(Box::new(Pieces(pieces.into_iter().collect())))
    }

    async fn rest(input: &mut dyn Input) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = input.next().await {
            all.extend(piece.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_body_begins_again_wherever_it_was_left() {
        for taken in 0..4 {
            let mut replay = body(["a", "b", "c"].map(|piece| Ok(Bytes::from_static(piece.as_bytes()))));
            for _ in 0..taken {
                drop(replay.next().await);
            }
            assert_eq!(rest(&mut *replay.again().unwrap()).await, b"abc", "after {taken} pieces");
        }
    }

    #[tokio::test]
    async fn what_was_not_kept_does_not_begin_again() {
        let mut long = body([Ok(Bytes::from(vec![1; KEPT])), Ok(Bytes::from_static(b"2"))]);
        drop(long.next().await);
        drop(long.next().await);
        assert!(long.again().is_none());
        let mut broken = body([Ok(Bytes::from_static(b"a")), Err(InputBroken)]);
        assert_eq!(broken.next().await, Some(Ok(Bytes::from_static(b"a"))));
        assert_eq!(broken.next().await, Some(Err(InputBroken)));
        assert!(broken.again().is_none());
    }
}
