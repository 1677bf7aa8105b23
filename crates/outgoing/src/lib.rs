//! The one filtered way out for requests that the server makes on a user's behalf.
//!
//! [`client`] makes one request on one connection; [`gate`] decides which addresses it may go to, after the name has been
//! resolved, and the connection is made to exactly the address that was judged. No proxy, no redirect, no shared
//! connection, nothing of the server's environment.

pub mod client;
pub mod gate;
mod tls;

pub use client::OutgoingClient;
pub use gate::{Gate, Refusal};
