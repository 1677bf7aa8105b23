//! The native HTTP API: routes, wire types, problem+json. The rules are in `control` and `dispatch`; here requests
//! are parsed and replies rendered.
//!
//! [`app`] says which handler answers which path; [`wire`] has the JSON; [`problem`] turns every error into a
//! reply; [`mod@openapi`] generates the committed document.

#![expect(unused_qualifications, reason = "utoipa's macros write out paths as if we had")]

pub mod app;
mod extract;
mod fields;
pub mod front;
pub mod invoke;
pub mod openapi;
pub mod problem;
pub mod readiness;
mod routes;
mod span;
mod streamed;
pub mod upload;
pub mod wire;

pub use app::{App, router};
pub use front::{Authenticate, Front, FrontConfig};
pub use openapi::{openapi, openapi_json};
pub use problem::{Problem, ProblemKind};
pub use readiness::{Readiness, Ready};
pub use wire::invocation::log_text;
pub use wire::server::RuntimeInfo;
