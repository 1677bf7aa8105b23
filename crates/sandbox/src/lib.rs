//! The seam to isolation technologies: what a driver must do, and the connection to a live sandbox.
//!
//! [`driver`] has the traits, [`spec`] what a sandbox is made from, [`connection`] the hot path. A driver lives in
//! a crate of its own (`sandbox-process`, …); this crate isolates nothing itself.

pub mod carried;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod connection;
pub mod driver;
pub mod error;
pub mod etc;
pub mod host_ids;
pub mod instance;
pub mod network;
pub mod output;
pub mod spec;
pub mod syscalls;

pub use connection::{
    Call, Connection, Ended, Gone, Hold, LossReason, Lost, OutputSource, Part, Reply, Waiting,
};
pub use driver::{Exit, InitFailure, InitReport, Refusals, Sandbox, SandboxDriver, SandboxUsage, Traffic};
pub use error::SandboxError;
pub use network::{NetworkLink, SandboxNetwork};
pub use output::Output;
pub use spec::{Assignment, BindMount, RuntimeImage, SandboxLimits, SandboxSpec, StartMethod};

// What the seam's own types are made of; whoever holds a sandbox needs no other part of the protocol.
pub use impuls_guest_protocol::{CallError, CallErrorKind, Init, InitError, InitErrorKind, Streaming};
