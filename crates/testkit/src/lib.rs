//! Servers that tests start for themselves, and that end with them. For development dependencies alone.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends by panicking")]

mod certificate;
pub mod postgres;
pub mod redis;
pub mod s3;
mod watched;

pub use certificate::certify;
pub use postgres::{Postgres, PostgresOptions, SomeDatabase};
pub use redis::{Redis, RedisOptions, SomeRedis};
pub use s3::{Link, S3, Weather};
