//! Opens the database file and brings its tables up to date.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migrate as _, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqlSafeStr as _, SqliteConnection};

use crate::error::SqliteError;

const MIGRATIONS_TABLE: &str = "impuls_migrations";
/// How long a connection waits for a lock that another process holds, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Compiled statements that a connection keeps.
const STATEMENTS: usize = 48;
/// Page cache of the writing connection, in KiB.
const WRITER_CACHE_KIB: u32 = 2_048;
/// Page cache of a reading connection, in KiB.
const READER_CACHE_KIB: u32 = 512;
/// Largest write-ahead log that is kept after a checkpoint, in bytes.
const JOURNAL_BYTES: u32 = 16 * 1024 * 1024;
// Result codes: https://sqlite.org/rescode.html
const SQLITE_CORRUPT: &str = "11";
const SQLITE_NOTADB: &str = "26";

fn migrations() -> Migrator {
    let simple = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        simple(
            1,
            "functions versions invocations",
            include_str!("../migrations/0001_functions_versions_invocations.sql"),
        ),
        simple(2, "contracts", include_str!("../migrations/0002_contracts.sql")),
        simple(3, "async invocations", include_str!("../migrations/0003_async_invocations.sql")),
        simple(4, "builds", include_str!("../migrations/0004_builds.sql")),
        simple(5, "state log and exchange", include_str!("../migrations/0005_state_log_and_exchange.sql")),
        simple(
            6,
            "async policies and schedules",
            include_str!("../migrations/0006_async_policies_and_schedules.sql"),
        ),
        simple(7, "measured", include_str!("../migrations/0007_measured.sql")),
        simple(8, "due by function", include_str!("../migrations/0008_due_by_function.sql")),
        simple(10, "filling", include_str!("../migrations/0010_filling.sql")),
        simple(11, "identity", include_str!("../migrations/0011_identity.sql")),
    ]);
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
}

/// The statements that make all tables in an empty file; a server makes them itself.
#[must_use]
pub fn schema_sql() -> String {
    let header = "-- The tables of Impuls in SQLite, which a server makes itself in the file impuls.db of its data folder.\n";
    migrations().iter().fold(header.to_owned(), |text, migration| text + "\n" + migration.sql.as_str())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode only FULL syncs the log at each commit.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
}

fn cache(options: SqliteConnectOptions, kib: u32) -> SqliteConnectOptions {
    // Negative numbers are KiB, positive ones pages.
    options.pragma("cache_size", format!("-{kib}"))
}

/// How readers connect.
pub(crate) fn reader_options(path: &Path) -> SqliteConnectOptions {
    cache(options(path), READER_CACHE_KIB)
        .pragma("query_only", "ON")
        .thread_name(|_| "sqlite-read".to_owned())
}

/// Opens the file for writing, makes it if it is missing, and migrates it.
pub(crate) async fn open_writer(path: &Path) -> Result<SqliteConnection, SqliteError> {
    let owned = path.to_owned();
    let made = tokio::task::spawn_blocking(move || make_private_file(&owned)).await;
    made.unwrap_or_else(|lost| Err(io::Error::other(lost)))
        .map_err(|source| SqliteError::Open { path: path.to_owned(), source: Arc::new(source) })?;
    let options = cache(options(path), WRITER_CACHE_KIB)
        .pragma("journal_size_limit", JOURNAL_BYTES.to_string())
        // Environment variables are secrets: what is deleted is overwritten where that costs no extra writes.
        .pragma("secure_delete", "FAST")
        .thread_name(|_| "sqlite-write".to_owned());
    let mut connection = options.connect().await.map_err(|error| open_failed(path, error))?;
    migrate(path, &mut connection).await?;
    Ok(connection)
}

/// Opens the file for reading beside a server that uses it; its tables must be what this program knows.
pub(crate) async fn open_reader(path: &Path) -> Result<SqliteConnection, SqliteError> {
    let mut connection = reader_options(path).connect().await.map_err(|error| open_failed(path, error))?;
    let known = migrations().iter().map(|migration| migration.version).max().unwrap_or_default();
    let statement = format!("SELECT max(version) FROM {MIGRATIONS_TABLE}");
    let found: Result<Option<i64>, _> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&mut connection).await;
    let found = found.map_err(|error| open_failed(path, error))?.unwrap_or_default();
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(connection),
        std::cmp::Ordering::Greater => Err(SqliteError::Newer { found, known }),
        std::cmp::Ordering::Less => Err(SqliteError::Older { found, known }),
    }
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), SqliteError> {
    let migrator = migrations();
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    let failed = |error| migration_failed(path, error);
    // Looked at first: the migrator would only say that an old migration is missing.
    connection.ensure_migrations_table(MIGRATIONS_TABLE).await.map_err(failed)?;
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await.map_err(failed)?;
    if let Some(found) =
        applied.iter().map(|migration| migration.version).max().filter(|&found| found > known)
    {
        return Err(SqliteError::Newer { found, known });
    }
    migrator.run_direct(None, connection, false).await.map_err(failed)
}

fn migration_failed(path: &Path, error: sqlx::migrate::MigrateError) -> SqliteError {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => open_failed(path, error),
        other => SqliteError::Migrate(Arc::new(other)),
    }
}

fn open_failed(path: &Path, error: sqlx::Error) -> SqliteError {
    let code = error.as_database_error().and_then(|database| database.code());
    let path = path.to_owned();
    match code.as_deref() {
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => SqliteError::NotADatabase { path, source: Arc::new(error) },
        _ => SqliteError::Open { path, source: Arc::new(error) },
    }
}

/// Makes the file before SQLite does, for its owner alone; SQLite gives its log files the same mode.
fn make_private_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    // The file's name must be as durable as what will be in it.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use impuls_domain::{AsyncStatus, InvocationId, RetryPolicy};
    use impuls_store::{AsyncInvocationPage, AsyncInvocationStore as _};
    use sqlx::Connection as _;

    use super::*;
    use crate::SqliteStore;

    #[tokio::test]
    async fn what_was_accepted_by_an_older_server_is_still_there() {
        const ROWS: &str = "\
            INSERT INTO functions (id, scope, name, latest, latest_version, state, created_at, updated_at) \
            VALUES (zeroblob(16), '', 'f', zeroblob(16), 1, 'active', 0, 0); \
            INSERT INTO async_invocations (id, function, qualifier, status, attempt, due, created_at, context, event) \
            VALUES (zeroblob(16), zeroblob(16), '$LATEST', 'queued', 2, 5, 3, x'', x'31');";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("impuls.db");
        let mut connection = options(&path).create_if_missing(true).connect().await.unwrap();
        let first = migrations().iter().take_while(|one| one.version < 6).cloned().collect();
        let mut older = Migrator::with_migrations(first);
        older.dangerous_set_table_name(MIGRATIONS_TABLE);
        older.run_direct(None, &mut connection, false).await.unwrap();
        sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        let page = AsyncInvocationPage { limit: 9, ..AsyncInvocationPage::default() };
        let all = store.list_async_invocations(page).await.unwrap();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(one.id, InvocationId::from_uuid(uuid::Uuid::nil()));
        assert_eq!((one.status, one.attempt, one.policy), (AsyncStatus::Queued, 2, RetryPolicy::FINAL));
        assert_eq!((one.event.as_slice(), one.ready_at), (b"1".as_slice(), one.created_at));
    }
}
