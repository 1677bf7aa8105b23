//! The JSON of the native API, as far as this client reads and writes it.
//!
//! Replies tolerate members that are absent (`fields` may leave them out) and ignore members they do not know;
//! [`Reply::body`](crate::Reply) has those too.

mod function;
mod invocation;
mod network;
mod queued;
mod rollout;
mod server;

pub use function::{Deleted, Function, FunctionFields, FunctionList, LoadError};
pub use invocation::{Envelope, InvocationError, InvocationRecord, LogList};
pub use network::Network;
pub use queued::{QueuedInvocation, QueuedList, Redriven, Schedule, ScheduleFields, ScheduleList};
pub use rollout::{Alias, AliasFields, AliasList, AliasTarget, VersionList};
pub use server::{Health, Runtime, RuntimeList};
