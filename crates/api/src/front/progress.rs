//! Who is to act on a connection, and for how long nothing has happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

/// How long a connection may stay without progress while the client is to act: between requests, or in the middle
/// of a head or an event. Looked at this often, so it takes up to twice as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Whose turn it is on a connection, and how often that has changed.
#[derive(Default)]
pub(super) struct Progress {
    /// Counts every step forward.
    steps: AtomicUsize,
    /// Whether the server is to act; a client that waits is not stalled.
    ours: AtomicBool,
}

/// The server's turn; the client's again by drop.
pub(super) struct OurTurn<'a>(&'a Progress);

impl Drop for OurTurn<'_> {
    fn drop(&mut self) {
        self.0.turn(false);
    }
}

/// The client's turn; the server's again by drop.
pub(super) struct TheirTurn<'a>(&'a Progress);

impl TheirTurn<'_> {
    /// The client has sent something.
    pub(super) fn note(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for TheirTurn<'_> {
    fn drop(&mut self) {
        self.0.turn(true);
    }
}

impl Progress {
    fn turn(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begin(&self) -> OurTurn<'_> {
        self.turn(true);
        OurTurn(self)
    }

    /// Whose turn it is within a reply that is still being made: the server's until there is more to send.
    pub(super) fn sending(&self, ours: bool) {
        self.turn(ours);
    }

    /// The client is to send an event.
    pub(super) fn await_client(&self) -> TheirTurn<'_> {
        self.turn(false);
        TheirTurn(self)
    }

    /// Resolves when the client has not done its part for too long.
    async fn stalled(&self) {
        let mut seen = usize::MAX;
        loop {
            let steps = self.steps.load(Ordering::Relaxed);
            if steps == seen && !self.ours.load(Ordering::Relaxed) {
                return;
            }
            seen = steps;
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

/// What is to become of a connection.
pub(super) enum Advice {
    /// The server closes its connections: finish the request in progress.
    Finish,
    /// The client does not do its part.
    Drop,
}

/// Watches over one connection.
pub(super) async fn mind(
    progress: Arc<Progress>,
    mut closing: watch::Receiver<bool>,
    advise: oneshot::Sender<Advice>,
) {
    let advice = tokio::select! {
        // Without its sender the server is gone, which closes connections as well.
        _ = closing.wait_for(|closing| *closing) => Advice::Finish,
        () = progress.stalled() => Advice::Drop,
    };
    // A connection that has ended meanwhile takes no advice.
    drop(advise.send(advice));
}
