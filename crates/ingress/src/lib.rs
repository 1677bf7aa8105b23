//! What every dialect does around its own handlers: who the caller is, bodies within bounds, errors that name the member
//! at fault, what a refusal of the use cases means, and an id for what must be looked up in the server's log. No
//! dialect's shapes are here.

pub mod body;
pub mod caller;
pub mod denial;
pub mod incident;
pub mod path;
pub mod settings;

pub use body::{Body, BodyError, BodyRoom, parse_json};
pub use caller::caller;
pub use denial::{Denial, Situation};
pub use incident::{Incident, chain};
pub use path::path_text;
