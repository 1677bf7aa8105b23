//! Records of invocations, many at a time: the background writer of a busy server hands over thousands.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use impuls_store::rows::{InvocationRow, Key};
use sqlx::SqliteConnection;

use super::Refusal;

type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

const COLUMNS: &str = "id, function, revision, version, status, error_type, error_class, error_message, \
     error_stack, duration_ns, init_duration_ns, memory_mib, started_at, log_dropped, logs, exchange";
const COLUMN_COUNT: usize = 16;

/// How many rows one statement takes; the rest of a batch goes in smaller ones. Each statement is a hand-over to
/// SQLite's thread, which costs as much as several rows. Few sizes, so that every statement stays compiled.
const ROWS_PER_STATEMENT: [usize; 3] = [128, 16, 1];

static INSERTS: LazyLock<[String; 3]> = LazyLock::new(|| ROWS_PER_STATEMENT.map(insert));
static KNOWN: LazyLock<[String; 3]> = LazyLock::new(|| ROWS_PER_STATEMENT.map(known));
static TRIMS: LazyLock<[String; 3]> = LazyLock::new(|| ROWS_PER_STATEMENT.map(trim));

fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

fn insert(rows: usize) -> String {
    format!(
        "INSERT INTO invocations ({COLUMNS}) VALUES {} ON CONFLICT (id) DO NOTHING",
        values(rows, COLUMN_COUNT)
    )
}

fn known(functions: usize) -> String {
    format!("SELECT id FROM functions WHERE id IN {}", values(1, functions))
}

/// Removes all but each function's newest so many. Each inner query walks one function's part of the index and no
/// row; what it skips are the records that stay.
fn trim(functions: usize) -> String {
    let older = "SELECT rowid FROM (SELECT rowid FROM invocations WHERE function = ? \
                 ORDER BY started_at DESC, id DESC LIMIT -1 OFFSET ?)";
    format!("DELETE FROM invocations WHERE rowid IN ({})", vec![older; functions].join(" UNION ALL "))
}

/// Adds the records of functions that exist, except those that are there already, and trims their functions.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    rows: &[InvocationRow],
    keep: u32,
) -> Result<(), Refusal> {
    let named: BTreeSet<Key> = rows.iter().map(|row| row.function).collect();
    let named: Vec<Key> = named.into_iter().collect();
    let existing = existing_functions(connection, &named).await?;
    let rows: Vec<&InvocationRow> = rows.iter().filter(|row| existing.contains(&row.function)).collect();
    for (statement, part) in parts(&INSERTS, &rows) {
        let mut query = sqlx::query(statement);
        for row in part {
            let failure = row.failure.as_ref();
            query = query
                .bind(row.id.to_vec())
                .bind(row.function.to_vec())
                .bind(row.revision.to_vec())
                .bind(row.version)
                .bind(row.status)
                .bind(failure.map(|failure| failure.error_type.as_str()))
                .bind(failure.map(|failure| &failure.class))
                .bind(failure.map(|failure| &failure.message))
                .bind(failure.and_then(|failure| failure.stack.as_ref()))
                .bind(row.duration_ns)
                .bind(row.init_duration_ns)
                .bind(row.memory_mib)
                .bind(row.started_at)
                .bind(row.log_dropped)
                .bind(row.logs.as_ref())
                .bind(row.exchange.as_ref());
        }
        query.execute(&mut *connection).await?;
    }
    for (statement, part) in parts(&TRIMS, &named) {
        let bind = |query: Query, function: &Key| query.bind(function.to_vec()).bind(i64::from(keep));
        part.iter().fold(sqlx::query(statement), bind).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn existing_functions(
    connection: &mut SqliteConnection,
    named: &[Key],
) -> Result<HashSet<Key>, sqlx::Error> {
    let mut existing = HashSet::new();
    for (statement, part) in parts(&KNOWN, named) {
        let query =
            part.iter().fold(sqlx::query_scalar(statement), |query, function| query.bind(function.to_vec()));
        let found: Vec<Vec<u8>> = query.fetch_all(&mut *connection).await?;
        existing.extend(found.into_iter().filter_map(|id| Key::try_from(id).ok()));
    }
    Ok(existing)
}

/// Divides items among statements, largest first.
fn parts<'i, T>(
    statements: &'static [String; 3],
    items: &'i [T],
) -> impl Iterator<Item = (&'static str, &'i [T])> {
    let mut left = items;
    std::iter::from_fn(move || {
        let fits = |&(_, &rows): &(&String, &usize)| rows <= left.len();
        let (statement, &rows) = statements.iter().zip(&ROWS_PER_STATEMENT).find(fits)?;
        let (part, rest) = left.split_at_checked(rows)?;
        left = rest;
        Some((statement.as_str(), part))
    })
}
