//! Code artifacts in a bucket of S3 or of what speaks its protocol.
//!
//! [`location`] is which bucket, and how to reach it; [`store`] keeps artifacts there; `transport` is the HTTP below, where
//! every single request has a bound and nothing that S3 says in an error is passed on but its code.

pub mod error;
pub mod location;
pub mod store;
mod transport;

pub use error::S3Error;
pub use location::{Location, LocationError};
pub use store::S3Artifacts;
