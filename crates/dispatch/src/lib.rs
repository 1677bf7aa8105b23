//! From a request to an outcome: which revision a call means, whether it may run now, and who runs it.
//!
//! [`Dispatch::invoke`] is the one way to run a function. [`table`] holds every function that can be called, in
//! memory; [`admission`] bounds how many run and wait; [`worker`] is the trait of whoever has the sandboxes;
//! [`recorder`] keeps what happened. No store is asked on the way of a call.
//!
//! Where calls come from several servers, [`home`] has a function's one bound.
//!
//! Calls that nobody waits for enter through [`submit`], leave through [`delivery`], and come from [`scheduler`] at
//! certain times; all of them by the clock of the store (`clock`).

pub mod admission;
mod clock;
mod coming;
pub mod delivery;
pub mod duplex;
pub mod error;
pub mod execute;
pub mod home;
pub mod hook;
pub mod image;
pub mod invoke;
pub mod recorder;
pub mod sandboxes;
pub mod scheduler;
mod shared;
pub mod submit;
pub mod table;
mod waiting;
pub mod worker;

pub use admission::AdmissionConfig;
pub use coming::Announcement;
pub use delivery::{Delivery, DeliveryConfig};
pub use duplex::{Duplex, Input, InputBroken};
pub use error::DispatchError;
pub use execute::{CommandPool, ExecuteRequest, Executed, ExecutionConfig, OnOutput, OutputStream};
pub use home::{Home, HomePermit};
pub use hook::{HookClient, HookError, HookReply, HookRequest};
pub use invoke::{Callee, Config, Dispatch, FunctionRef, InvokeOptions, InvokeRequest, Invoked};
pub use recorder::{Recorder, RecorderConfig};
pub use sandboxes::{FunctionSandboxes, LiveSandbox, Refusals, SandboxUsage, Traffic};
pub use scheduler::Scheduler;
pub use submit::{DeliveryOptions, Retry, SubmitRequest};
pub use worker::{RunError, RunRequest, Target, Worker};
