//! Roles on many machines: controllers take requests, workers have the sandboxes.
//!
//! [`members`] knows which workers there are, from the shared store; [`ring`] decides which of them runs a call;
//! [`remote`] is the worker that dispatch sees in a controller, and sends calls over [`client`]; [`server`] takes them
//! in a worker; [`tls`] and [`token`] keep strangers out. What travels is described in [`protocol`]. Nothing here asks the
//! store on the way of a call.

pub mod about;
pub mod client;
mod convert;
mod deploys;
pub mod members;
pub mod protocol;
pub mod remote;
pub mod ring;
mod row;
pub mod server;
mod serving;
pub mod tls;
pub mod token;
mod trust;

pub use about::About;
pub use deploys::{Loaded, Unreached};
pub use members::{Announcer, JoinError, Members};
pub use remote::{Own, RemoteWorkers};
pub use server::{Host, Server};
pub use serving::Load;
pub use tls::{Tls, TlsFiles};
pub use token::Token;
pub use trust::Trust;
