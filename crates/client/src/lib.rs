//! Typed client of the native HTTP API.
//!
//! [`Client`] has one method per route. [`wire`] holds the JSON of requests and replies: types of this crate's own,
//! so that the client compiles without any part of the server. Errors are [`ClientError`].
//!
//! It speaks plain `http` only, follows no redirects, uses no proxy and reads nothing from the environment.
//! It never repeats a request by itself.

mod aliases;
mod client;
mod error;
mod functions;
mod invoke;
mod observe;
mod queued;
pub mod wire;

pub use client::{Client, Reply};
pub use error::{ClientError, Problem};
pub use functions::ListQuery;
pub use invoke::RawReply;
pub use observe::LogsQuery;
pub use queued::{QueuedQuery, SubmitOptions};
