//! Use cases on functions, versions and aliases: what every API calls.
//!
//! Each use case of [`Control`] authorises its caller, checks its input, writes the store, and tells the [`Rollout`]
//! so that calls see the change. How a function is run is not decided here; see `dispatch`. A deploy goes:
//!
//! ```text
//!   settings valid ─> runtime resolved ─> artifact kept ─> code built ─> code checked ─> store written ─> calls switched
//! ```
//!
//! Whoever leaves before the store is written has changed nothing that anybody sees; from then on the rest
//! happens even if nobody waits for it.

mod alias;
pub mod automation;
pub mod control;
mod deploy;
pub mod error;
pub mod input;
mod lock;
mod read;
pub mod retention;
pub mod rollout;

pub use automation::{NewAsyncSettings, NewDestination, NewSchedule};
pub use control::{Control, Stores};
pub use error::ControlError;
pub use input::{
    Code, CodeFile, FunctionChange, FunctionList, FunctionListQuery, FunctionRef, LimitSettings, NewAlias,
    NewFunction, Settings,
};
pub use retention::{Collected, Collector, CollectorParts, RetentionConfig};
pub use rollout::{BuildLog, BuildUnavailable, Checked, Rollout, RuntimeRefusal};

/// What use cases return as the store has it.
pub use impuls_store::{AsyncInvocationPage, FunctionSnapshot, InvocationPage, VersionEntry};

#[cfg(test)]
mod tests;
