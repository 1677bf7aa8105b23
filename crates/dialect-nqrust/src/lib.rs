//! The HTTP API of NQRust's serverless functions, below `/v1`.
//!
//! A thin translation: [`wire`] has the shapes, [`functions`], [`invoke`] and [`vms`] each make one call inward, and [`errors`]
//! renders every refusal as `{"error": text}`. Names need not be unique here, so every function has a scope of its own.
//! A call whose function fails is answered with 200 and `status: "error"`, as that system's clients expect.

pub mod errors;
pub mod functions;
pub mod invoke;
pub mod router;
pub mod vms;
pub mod wire;

pub use router::{State, router};
