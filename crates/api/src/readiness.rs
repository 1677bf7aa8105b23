//! Whether a balancer should send requests here.

use async_trait::async_trait;

/// Whether new requests should come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They should.
    Ready,
    /// The server is about to stop. What comes all the same is still answered for a while.
    Draining,
    /// Functions are called, but nothing can be deployed, listed or called asynchronously.
    StoreUnavailable,
}

/// Who knows. Asked for every probe and for no call, so it may look things up, within a bound.
#[async_trait]
pub trait Ready: Send + Sync + 'static {
    /// Whether new requests should come here.
    async fn readiness(&self) -> Readiness;
}

/// The answer of a server that nobody else is asked about.
pub(crate) struct Always;

#[async_trait]
impl Ready for Always {
    async fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}
