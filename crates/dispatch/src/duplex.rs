//! Calls whose bytes travel while they run: a body that the function reads as it comes, output that is passed on as it
//! is made.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// The body of a request that is still arriving.
#[async_trait]
pub trait Input: Send + 'static {
    /// The next bytes; `None` at the end. Safe to drop; not to be called again after the end or an error.
    async fn next(&mut self) -> Option<Result<Bytes, InputBroken>>;
}

/// The body of the request ended before its end: the client has hung up or does not speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body broke off")]
pub struct InputBroken;

/// What a call exchanges while it runs. Whoever makes it must poll the call and take the output at the same time.
pub struct Duplex {
    /// The body, if the function is to read it as it comes; the event has none then.
    pub input: Option<Box<dyn Input>>,
    /// Takes the output of a function that streams: first its head as a JSON object (`statusCode`, `headers`, `cookies`),
    /// then pieces of the body. What has not been taken when the call ends is the outcome's result; it is bounded. Of
    /// a function that does not stream nothing comes here.
    pub output: mpsc::Sender<Bytes>,
}

impl Duplex {
    /// A duplex, and the end of it that takes the output: one piece waits at most, so that the function is no faster
    /// than whoever takes it.
    #[must_use]
    pub fn new(input: Option<Box<dyn Input>>) -> (Self, mpsc::Receiver<Bytes>) {
        let (output, taken) = mpsc::channel(1);
        (Self { input, output }, taken)
    }
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duplex").field("has_input", &self.input.is_some()).finish_non_exhaustive()
    }
}
