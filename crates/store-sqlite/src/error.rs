//! What SQLite says, sorted into the situations that the seam knows.

use std::path::PathBuf;
use std::sync::Arc;

use impuls_store::StoreError;

/// Why the database cannot be used; found as the source of [`StoreError::Backend`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum SqliteError {
    /// The file cannot be made or opened.
    #[error("cannot open the database {path}; check that its folder exists and belongs to this user")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The file is no SQLite database, or damaged.
    #[error(
        "{path} is damaged or no SQLite database; restore it from a backup, or move it away to start anew"
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Arc<sqlx::Error>,
    },
    /// A newer Impuls has changed the tables.
    #[error(
        "the database has schema {found}, and this Impuls knows schemas up to {known}; start the newer Impuls"
    )]
    Newer {
        /// The schema of the database.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// An older Impuls has made the tables, and somebody wants to read alone.
    #[error(
        "the database has schema {found}, and this Impuls reads schema {known}; start this Impuls on it once, or use the older one"
    )]
    Older {
        /// The schema of the database.
        found: i64,
        /// The schema that this program knows.
        known: i64,
    },
    /// The tables could not be brought up to date.
    #[error("the database cannot be migrated")]
    Migrate(#[source] Arc<sqlx::migrate::MigrateError>),
    /// A request failed in SQLite.
    #[error("SQLite failed")]
    Query(#[source] Arc<sqlx::Error>),
    /// The store was closed before the request was done.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for SqliteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Query(Arc::new(error))
    }
}

impl SqliteError {
    /// The seam's form of the error.
    pub(crate) fn during(self, action: &'static str) -> StoreError {
        StoreError::Backend { action, source: Box::new(self) }
    }
}

/// A failed query in the seam's form. A column that does not have the type it must have is damage.
pub(crate) fn query_failed(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Damaged(error.to_string()),
        other => SqliteError::from(other).during(action),
    }
}

/// Whether a UNIQUE constraint refused a row.
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_unique_violation())
}

/// Whether a row refers to another that does not exist.
pub(crate) fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_foreign_key_violation())
}
