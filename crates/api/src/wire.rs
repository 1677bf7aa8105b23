//! The JSON of the native API, converted from and to the domain by hand.
//!
//! Member names are those of the first Impuls where it had them (`memory_mb`, `timeout_sec`, `status_code`); a new
//! number ends in its unit. Request members that nobody knows are ignored, so that what a list returned can be
//! posted again.

pub mod alias;
pub mod automation;
pub mod function;
pub mod invocation;
pub mod network;
pub mod queued;
pub mod request;
pub mod sandbox;
pub mod server;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time as RFC 3339 text in UTC.
#[must_use]
pub fn timestamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
