//! The seam to queues of asynchronous invocations.
//!
//! The rows of the store are the truth about what was accepted and what became of it; a queue only tells servers at once
//! which rows to look at. Whatever a queue loses, a look at the rows finds. See `impuls-dispatch` for who looks when.

#[cfg(feature = "conformance")]
pub mod conformance;
mod embedded;
mod queue;

pub use embedded::EmbeddedQueue;
pub use queue::{InvocationQueue, Offer, Receipt, Taken};
