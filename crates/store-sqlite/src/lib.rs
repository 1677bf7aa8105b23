//! Metadata in one SQLite file: the embedded default.
//!
//! [`store`] is the back end, `writer` the one task that changes the file and commits in groups, `read` the
//! queries, `rows` what a row looks like and how it becomes a value of the model, `schema` opening and migrating.

pub mod error;
pub mod store;

mod read;
mod rows;
mod schema;
mod writer;

pub use error::SqliteError;
pub use store::SqliteStore;
