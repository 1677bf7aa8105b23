//! The seam to metadata storage: functions with their revisions, versions and aliases, and the records of
//! invocations. Back ends live in crates of their own (`store-sqlite`, …) and prove themselves with the suites in
//! `conformance` (feature `conformance`). What those that keep rows have in common is in `rows` (feature `rows`).

pub mod async_invocation;
pub mod build;
pub mod clock;
pub mod error;
pub mod function;
pub mod invocation;
pub mod node;
pub mod retention;
pub mod schedule;
pub mod transfer;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "rows")]
pub mod rows;

pub use async_invocation::{
    AsyncInvocationPage, AsyncInvocationStore, Claim, DeadLetters, DeliveryStore, Pruning, PutBack,
};
pub use build::BuildStore;
pub use clock::ClockStore;
pub use error::StoreError;
pub use function::{
    FunctionKey, FunctionPage, FunctionSnapshot, FunctionStore, ListedFunctions, VersionEntry, VersionStore,
};
pub use invocation::{InvocationPage, InvocationStore};
pub use node::{NodeRecord, NodeStore};
pub use retention::{NotedBuild, RetentionStore};
pub use schedule::{ScheduleStore, Tick};
pub use transfer::{Cell, Column, Filling, Hold, Kind, Row, Snapshot, Table, Transfer};
