//! Metadata in one SQLite file: the embedded default.
//!
//! [`store`] is the back end, `writer` the one task that changes the file and commits in groups, `read` the
//! queries, `row` how a row is read, `schema` opening and migrating, `transfer` everything as rows.

pub mod error;
pub mod store;

mod read;
mod row;
mod schema;
mod transfer;
mod writer;

pub use error::SqliteError;
pub use schema::schema_sql;
pub use store::SqliteStore;
