//! The agent: what runs inside a sandbox where no language's own shim does. It speaks the guest protocol and runs code
//! as programs:
//!
//! ```text
//!   host ── frames ── serve ─┬─ program:   a process for each call (contracts `program` and `command`)
//!                            ├─ build:     commands that make code out of source
//!                            ├─ native:    one process that takes the socket over
//!                            ├─ bootstrap: one process that asks the AWS Lambda Runtime API for events
//!                            └─ web:       one process that listens on $PORT
//! ```
//!
//! It is the same executable as the server, started with the one argument `agent`, on one thread. It trusts nothing
//! that programs write and keeps only bounded parts of it; it does not enforce deadlines or memory, which the host does
//! from outside.
//!
//! Build sandboxes also run it as a tool: `agent strip-types FROM TO` makes JavaScript of TypeScript.

mod bootstrap;
mod build;
mod call;
mod code;
mod command;
mod event;
mod native;
mod process;
mod program;
mod runtime_api;
mod serve;
mod strip;
pub mod tool;
mod web;

pub use tool::main;
