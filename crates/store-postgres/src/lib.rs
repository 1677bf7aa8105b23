//! Metadata in a PostgreSQL database, version 12 or later, which several servers may share.
//!
//! [`store`] is the back end, [`connection`] how the database is named and reached, `schema` bringing its tables up to
//! date, [`changes`] what other servers change, `write`, `append`, `queue` and `read` the statements, `transaction` what makes changes whole, `together` what makes many at once, `row` how rows are read, `transfer` everything as rows.

pub mod changes;
pub mod connection;
pub mod error;
pub mod store;

mod append;
mod queue;
mod read;
mod row;
mod schema;
mod together;
mod transaction;
mod transfer;
mod write;

pub use changes::{Change, Changes};
pub use connection::{Connection, ConnectionError};
pub use error::PostgresError;
pub use schema::schema_sql;
pub use store::{Config, PostgresStore};
