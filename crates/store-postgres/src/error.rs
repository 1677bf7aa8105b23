//! What PostgreSQL says, sorted into the situations that the seam knows.

use std::sync::Arc;

use impuls_store::StoreError;

/// Why the database cannot be used; found as the source of [`StoreError::Backend`]. No text has a password in it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nobody answers there.
    #[error("cannot reach PostgreSQL at {at}; check that it runs, and host and port of the connection")]
    Unreachable {
        /// Host and port, or the socket.
        at: String,
        /// What the system said.
        source: sqlx::Error,
    },
    /// Nobody answered in time.
    #[error("PostgreSQL at {at} did not answer within {seconds} s; check host, port and firewall")]
    Silent {
        /// Host and port, or the socket.
        at: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No TLS, although it is wanted, or none that can be trusted.
    #[error(
        "no TLS with PostgreSQL at {at}; check sslmode and sslrootcert of the connection, and the server's certificate"
    )]
    Tls {
        /// Host and port, or the socket.
        at: String,
        /// What is wrong.
        source: sqlx::Error,
    },
    /// The server does not let this user in, or not into this database.
    #[error("PostgreSQL at {at} refused the connection; check user, password and database name")]
    Refused {
        /// Host and port, or the socket.
        at: String,
        /// What the server said.
        source: sqlx::Error,
    },
    /// The server is too old.
    #[error("PostgreSQL {found} is too old; 12 or later is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The database cannot hold every text.
    #[error("the database has the encoding {found}; create one with ENCODING 'UTF8'")]
    Encoding {
        /// Its encoding.
        found: String,
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
    /// The tables are missing or old, and must not be changed by the server.
    #[error(
        "the database has schema {found} and schema {known} is needed; run `impuls store schema --storage postgres \
         | psql DATABASE` as a user who may create tables, or start without --no-auto-migrate"
    )]
    Outdated {
        /// The schema of the database; 0 is none.
        found: i64,
        /// The schema that this program needs.
        known: i64,
    },
    /// The tables are missing or old, and this user may not change them.
    #[error(
        "this user may not bring the database to schema {known}; run `impuls store schema --storage postgres \
         | psql DATABASE` as one who may, and give this user SELECT, INSERT, UPDATE and DELETE on all tables impuls_*"
    )]
    NoRights {
        /// The schema that this program needs.
        known: i64,
        /// What the server said.
        source: sqlx::migrate::MigrateError,
    },
    /// The tables could not be brought up to date.
    #[error("the database cannot be migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Somebody has the database for themselves.
    #[error(
        "`impuls migrate` or `impuls restore` has the database for itself; wait until that has ended, then start again"
    )]
    Taken,
    /// A request failed in PostgreSQL or on the way to it.
    #[error("PostgreSQL failed")]
    Query(#[source] Arc<sqlx::Error>),
}

impl From<sqlx::Error> for PostgresError {
    fn from(error: sqlx::Error) -> Self {
        Self::Query(Arc::new(error))
    }
}

impl PostgresError {
    /// The seam's form of the error.
    pub(crate) fn during(self, action: &'static str) -> StoreError {
        StoreError::Backend { action, source: Box::new(self) }
    }
}

/// A failed query in the seam's form. A column that does not have the type it must have is damage.
pub(crate) fn query_failed(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Damaged(error.to_string()),
        other => PostgresError::from(other).during(action),
    }
}

/// The five letters of the server's refusal: https://www.postgresql.org/docs/current/errcodes-appendix.html
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether another transaction was in the way, so that the same one may succeed now.
pub(crate) fn is_collision(error: &sqlx::Error) -> bool {
    const SERIALIZATION_FAILURE: &str = "40001";
    const DEADLOCK_DETECTED: &str = "40P01";
    code(error).is_some_and(|code| [SERIALIZATION_FAILURE, DEADLOCK_DETECTED].contains(&code.as_str()))
}

/// Whether a unique index refused a row.
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_unique_violation())
}

/// Whether a row refers to another that does not exist.
pub(crate) fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_foreign_key_violation())
}
