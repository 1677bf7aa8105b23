//! Servers that tests start for themselves, and that end with them. For development dependencies alone.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends by panicking")]

pub mod postgres;
pub mod s3;

pub use postgres::{Postgres, PostgresOptions};
pub use s3::{Link, S3, Weather};
