//! The trait and its types.

use async_trait::async_trait;
use impuls_domain::{FunctionId, InvocationId};

/// An invocation that is stored and may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// Which.
    pub invocation: InvocationId,
    /// Whose.
    pub function: FunctionId,
}

/// By what a queue knows again what it handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt(pub Vec<String>);

/// What a taker got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Oldest first; each was handed to nobody else, unless somebody took it and did not settle it.
    pub offers: Vec<Offer>,
    /// For [`InvocationQueue::settle`].
    pub receipt: Receipt,
    /// Whether offers were lost since the last time: the rows have to be looked at.
    pub lost: bool,
}

/// Tells servers which rows to look at. Bounded; it may lose whatever it holds, and then says so to somebody if it can. It never
/// fails: a queue that cannot be reached loses everything until it can be again, and repairs itself.
#[async_trait]
pub trait InvocationQueue: Send + Sync + 'static {
    /// Offers an invocation whose row is committed. Never waits. Offering again is harmless.
    fn push(&self, offer: Offer);

    /// Waits until there are offers, and takes at most `limit`; or until offers were lost. Safe to drop half-way: what was not
    /// handed over is handed to the next taker.
    async fn take(&self, limit: usize) -> Taken;

    /// Says that the taker has looked at the rows of what it took; what is not settled for long may be handed to another. Never
    /// waits. Repeatable.
    fn settle(&self, receipt: Receipt);
}
