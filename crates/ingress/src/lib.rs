//! What every dialect does with a request before its own handler decides: who the caller is, bodies within bounds, and
//! an id for what must be looked up in the server's log. No dialect's shapes are here.

pub mod body;
pub mod caller;
pub mod incident;

pub use body::{Body, BodyError, BodyRoom};
pub use caller::caller;
pub use incident::{Incident, chain};
