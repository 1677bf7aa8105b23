//! The HTTP API of Tangle's FaaS platform: commands at `/api/v1/execute`, packages at `/api/blueprint/functions`.
//!
//! A thin translation: [`wire`] reads what its clients send, [`execute`] and [`blueprint`] each make one call inward,
//! and [`errors`] renders every refusal as `{"error", "code"}`. A command runs in the process sandbox with the
//! machine's own programs; [`image`] says which image names that stands for. What needs container images, snapshots
//! or long-lived instances is answered with 501 and what is missing ([`absent`]).

pub mod absent;
pub mod blueprint;
pub mod body;
pub mod cache;
pub mod errors;
pub mod execute;
pub mod image;
pub mod metrics;
pub mod pools;
pub mod router;
pub mod running;
pub mod state;
pub mod stream;
pub mod wire;

pub use router::router;
pub use state::State;
