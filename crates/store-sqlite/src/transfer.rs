//! Everything as rows.

use std::path::Path;

use async_trait::async_trait;
use impuls_store::rows::{damaged, instant_of, micros};
use impuls_store::transfer::{PAGE_BYTES, Statements};
use impuls_store::{Cell, Filling, Hold, Kind, Row, Snapshot, StoreError, Table, Transfer};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection, SqliteExecutor};
use uuid::Uuid;

use crate::error::query_failed;
use crate::schema;
use crate::store::SqliteStore;
use crate::writer::Work;

const STATEMENTS: Statements = Statements { prefix: "", mark: '?', collation: "" };
const READING: &str = "reading everything";

impl SqliteStore {
    /// Everything that a database file has, also while a server uses it.
    pub async fn snapshot_of(path: &Path) -> Result<Box<dyn Snapshot>, StoreError> {
        let opening = "opening the database";
        let mut connection = schema::open_reader(path).await.map_err(|error| error.during(opening))?;
        // The state is that of the first read.
        for statement in ["BEGIN", "SELECT count(*) FROM functions"] {
            sqlx::query(statement).execute(&mut connection).await.map_err(query_failed(READING))?;
        }
        Ok(Box::new(State(connection)))
    }
}

/// A read transaction, on a connection of its own.
struct State(SqliteConnection);

#[async_trait]
impl Snapshot for State {
    async fn find_filling(&mut self) -> Result<Option<Filling>, StoreError> {
        find_filling(&mut self.0).await
    }

    async fn identity(&mut self) -> Result<Uuid, StoreError> {
        identity(&mut self.0).await
    }

    async fn count_rows(&mut self, table: Table) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(STATEMENTS.count(table)));
        let count = query.fetch_one(&mut self.0).await.map_err(query_failed(READING))?;
        Ok(count.unsigned_abs())
    }

    async fn rows(&mut self, table: Table, after: Option<&Row>, limit: u32) -> Result<Vec<Row>, StoreError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        // One at a time: each may be large.
        while rows.len() < limit as usize && bytes < PAGE_BYTES {
            let last = rows.last().or(after);
            let many = if bytes > PAGE_BYTES / 64 { 1 } else { limit.min(16) };
            let mut query = sqlx::query(AssertSqlSafe(STATEMENTS.read(table, last.is_some())));
            for cell in last.iter().flat_map(|row| row.0.iter().take(table.key_columns())) {
                query = bind(query, cell);
            }
            let found = query.bind(i64::from(many)).fetch_all(&mut self.0).await;
            let found = found.map_err(query_failed(READING))?;
            if found.is_empty() {
                break;
            }
            for row in &found {
                let row = read(table, row)?;
                bytes += row.size();
                rows.push(row);
            }
        }
        rows.truncate(limit as usize);
        Ok(rows)
    }
}

fn read(table: Table, row: &SqliteRow) -> Result<Row, StoreError> {
    let cell = |column: &impuls_store::Column| {
        let name = column.name;
        let cell = match column.kind {
            Kind::Id | Kind::Bytes => {
                row.try_get::<Option<Vec<u8>>, _>(name).map(|cell| cell.map(Cell::Bytes))
            }
            Kind::Text => row.try_get::<Option<String>, _>(name).map(|cell| cell.map(Cell::Text)),
            Kind::Integer => row.try_get::<Option<i64>, _>(name).map(|cell| cell.map(Cell::Integer)),
        };
        cell.map(|cell| cell.unwrap_or(Cell::Null)).map_err(|error| damaged(name, error))
    };
    table.columns().iter().map(cell).collect::<Result<_, _>>().map(Row)
}

fn bind<'q>(query: Query<'q, Sqlite, SqliteArguments>, cell: &Cell) -> Query<'q, Sqlite, SqliteArguments> {
    match cell {
        Cell::Null => query.bind(None::<i64>),
        Cell::Integer(number) => query.bind(*number),
        Cell::Text(text) => query.bind(text.clone()),
        Cell::Bytes(bytes) => query.bind(bytes.clone()),
    }
}

/// Puts rows within the writer's transaction.
pub(crate) async fn put(
    connection: &mut SqliteConnection,
    table: Table,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    for row in rows {
        let statement = AssertSqlSafe(STATEMENTS.put(table, 1));
        let query = row.0.iter().fold(sqlx::query(statement), bind);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn find_filling(reader: impl SqliteExecutor<'_>) -> Result<Option<Filling>, StoreError> {
    let query = sqlx::query_as("SELECT source, started_at, ended_at FROM filling");
    let found = query.fetch_optional(reader).await;
    let found: Option<(String, i64, Option<i64>)> =
        found.map_err(query_failed("looking what fills the database"))?;
    let Some((source, started_at, ended_at)) = found else { return Ok(None) };
    let ended_at = ended_at.map(|at| instant_of(at, "ended_at")).transpose()?;
    Ok(Some(Filling { source, started_at: instant_of(started_at, "started_at")?, ended_at }))
}

async fn identity(reader: impl SqliteExecutor<'_>) -> Result<Uuid, StoreError> {
    let found = sqlx::query_scalar::<_, Vec<u8>>("SELECT id FROM identity").fetch_one(reader).await;
    let id = found.map_err(query_failed("looking which store it is"))?;
    Uuid::from_slice(&id).map_err(|error| damaged("id", error))
}

/// Whether this is what fills the database.
pub(crate) async fn is_filled_by(
    connection: &mut SqliteConnection,
    filling: &Filling,
) -> Result<bool, sqlx::Error> {
    let statement = "SELECT count(*) FROM filling WHERE source = ? AND started_at = ? AND ended_at IS NULL";
    let query =
        sqlx::query_scalar::<_, i64>(statement).bind(&filling.source).bind(micros(filling.started_at));
    Ok(query.fetch_one(connection).await? == 1)
}

/// Says what fills the database; false if that has an end and is not what was said last.
pub(crate) async fn put_filling(
    connection: &mut SqliteConnection,
    filling: &Filling,
) -> Result<bool, sqlx::Error> {
    let statement = match filling.ended_at {
        None => {
            "INSERT OR REPLACE INTO filling (only_row, source, started_at, ended_at) VALUES (1, ?1, ?2, ?3)"
        }
        Some(_) => {
            "UPDATE filling SET ended_at = ?3 WHERE source = ?1 AND started_at = ?2 \
             AND (ended_at IS NULL OR ended_at = ?3)"
        }
    };
    let query = sqlx::query(statement).bind(&filling.source).bind(micros(filling.started_at));
    let made = query.bind(filling.ended_at.map(micros)).execute(connection).await?;
    Ok(made.rows_affected() == 1)
}

#[async_trait]
impl Transfer for SqliteStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Self::snapshot_of(self.path()).await
    }

    async fn put_rows(&self, filling: &Filling, table: Table, rows: Vec<Row>) -> Result<(), StoreError> {
        if rows.iter().any(|row| row.0.len() != table.columns().len()) {
            return Err(damaged(table.name(), "a row has not the columns of its table"));
        }
        let work = Work::Put(Box::new(filling.clone()), table, rows);
        self.writer().run(work, "putting rows").await.map(drop)
    }

    async fn find_filling(&self) -> Result<Option<Filling>, StoreError> {
        find_filling(self.readers()).await
    }

    async fn put_filling(&self, filling: &Filling) -> Result<(), StoreError> {
        let work = Work::PutFilling(Box::new(filling.clone()));
        self.writer().run(work, "noting what fills the database").await.map(drop)
    }

    async fn identity(&self) -> Result<Uuid, StoreError> {
        identity(self.readers()).await
    }

    /// Whoever has locked the data folder has the file.
    async fn hold(&self) -> Result<Hold, StoreError> {
        Ok(Hold::Held(Box::new(())))
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    /// Columns that mean something in this store alone.
    const OWN: [(&str, &str); 1] = [("async_invocations", "claim")];

    #[tokio::test]
    async fn whoever_reads_beside_a_server_waits_for_nobody_who_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("impuls.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let started_at = OffsetDateTime::UNIX_EPOCH;
        let filling = Filling { source: "elsewhere".to_owned(), started_at, ended_at: None };
        store.put_filling(&filling).await.unwrap();
        let mut writing = schema::open_writer(&path).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut writing).await.unwrap();
        let mut state = SqliteStore::snapshot_of(&path).await.unwrap();
        assert_eq!(state.find_filling().await.unwrap(), Some(filling));
        drop(state);
        sqlx::query("COMMIT").execute(&mut writing).await.unwrap();
    }

    #[tokio::test]
    async fn every_column_of_every_table_is_transferred() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("impuls.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let query = "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' \
             AND m.name NOT LIKE 'sqlite_%' AND m.name NOT IN ('impuls_migrations', 'filling', 'identity')";
        let there: Vec<(String, String)> = sqlx::query_as(query).fetch_all(store.readers()).await.unwrap();
        let mut there: Vec<_> =
            there.iter().map(|(table, column)| (table.as_str(), column.as_str())).collect();
        there.retain(|column| !OWN.contains(column));
        let mut known: Vec<_> = Table::ALL
            .into_iter()
            .flat_map(|table| table.columns().iter().map(move |column| (table.name(), column.name)))
            .collect();
        there.sort_unstable();
        known.sort_unstable();
        assert_eq!(there, known);
    }
}
