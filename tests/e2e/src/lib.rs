//! The harness of the end-to-end tests: starts the real program on a free port with a data folder of its own, talks
//! HTTP to it, looks at its processes from outside and stops it. What is true of the program stands in `tests/`.
//!
//! Nothing here knows a crate of the workspace. The program is the one in the environment variable
//! `IMPULS_E2E_PROGRAM`, or else the one that cargo built beside the tests.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends by panicking, and all of this serves tests"
)]

pub mod archive;
pub mod cli;
pub mod clock;
pub mod container;
pub mod data;
pub mod fabric;
pub mod functions;
pub mod host;
pub mod http;
pub mod launch;
pub mod machine;
pub mod network;
pub mod probe;
pub mod raw;
pub mod seed;
pub mod server;
pub mod wait;

pub use archive::zip_of;
pub use data::Data;
pub use fabric::{Fabric, Node};
pub use functions::unique;
pub use http::Reply;
pub use launch::{Launch, Refused};
pub use machine::Machine;
pub use network::{Network, OUTSIDE, Outside, commands};
pub use raw::Raw;
pub use seed::Seed;
pub use serde_json::{Value, json};
pub use server::Server;
pub use wait::{eventually, within};
