//! The HTTP API of the Go FaaS platform: `/functions`, `/invoke`, `/invocations`.
//!
//! A thin translation: [`wire`] has the shapes, [`functions`] and [`invocations`] each make one call inward, and
//! [`errors`] renders every refusal as `{"success": false, "error": {code, message, details}}`. A function here is a
//! whole program, unique by name and version: its scope is `gofaas/<version>`. Calls are asynchronous.

pub mod duration;
pub mod errors;
pub mod functions;
pub mod invocations;
pub mod router;
pub mod wire;

pub use router::{State, router};
