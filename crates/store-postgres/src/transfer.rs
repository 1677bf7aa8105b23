//! Everything as rows.

use std::time::Duration;

use async_trait::async_trait;
use impuls_store::rows::{damaged, instant_of, micros};
use impuls_store::transfer::{PAGE_BYTES, Statements};
use impuls_store::{Cell, Column, Filling, Hold, Kind, Row, Snapshot, StoreError, Table, Transfer};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Postgres, Row as _};
use uuid::Uuid;

use crate::changes::USED;
use crate::error::query_failed;
use crate::row::{keep, restored};
use crate::store::PostgresStore;
use crate::transaction::{Change, Refusal, alone, bounded, transact};

const STATEMENTS: Statements = Statements { prefix: "impuls_", mark: '$', collation: " COLLATE \"C\"" };
const READING: &str = "reading everything";
const IDENTITY: &str = "SELECT id FROM impuls_identity";
const FILLING: &str = "SELECT source, started_at, ended_at FROM impuls_filling";
/// How long one page may take, and how long may pass between two.
const PATIENCE: Duration = Duration::from_secs(600);
/// Rows that are asked for at once: each may be large.
const AT_ONCE: u32 = 16;

/// How often a database is asked for that somebody else has for themselves, and what is waited in between.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);
/// The most parameters of a statement.
const PARAMETERS: usize = 65_535;

/// A transaction that sees one state, on a connection of its own.
struct State(PgConnection);

#[async_trait]
impl Snapshot for State {
    async fn find_filling(&mut self) -> Result<Option<Filling>, StoreError> {
        let found = sqlx::query_as(FILLING).fetch_optional(&mut self.0).await;
        found.map_err(query_failed(READING))?.map(filling).transpose()
    }

    async fn identity(&mut self) -> Result<Uuid, StoreError> {
        sqlx::query_scalar(IDENTITY).fetch_one(&mut self.0).await.map_err(query_failed(READING))
    }

    async fn count_rows(&mut self, table: Table) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(STATEMENTS.count(table)));
        let count = query.fetch_one(&mut self.0).await.map_err(query_failed(READING))?;
        Ok(count.unsigned_abs())
    }

    async fn rows(&mut self, table: Table, after: Option<&Row>, limit: u32) -> Result<Vec<Row>, StoreError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        while rows.len() < limit as usize && bytes < PAGE_BYTES {
            let last = rows.last().or(after);
            let many = if bytes > PAGE_BYTES / 64 { 1 } else { limit.min(AT_ONCE) };
            let mut query = sqlx::query(AssertSqlSafe(STATEMENTS.read(table, last.is_some())));
            let key = table.columns().iter().take(table.key_columns());
            for (column, cell) in key.zip(last.iter().flat_map(|row| &row.0)) {
                query = bind(query, column, cell)?;
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

fn filling((source, started_at, ended_at): (String, i64, Option<i64>)) -> Result<Filling, StoreError> {
    let ended_at = ended_at.map(|at| instant_of(at, "ended_at")).transpose()?;
    let (source, started_at) = (restored(&source), instant_of(started_at, "started_at")?);
    Ok(Filling { source, started_at, ended_at })
}

fn read(table: Table, row: &PgRow) -> Result<Row, StoreError> {
    let cell = |column: &Column| {
        let name = column.name;
        let cell = match column.kind {
            Kind::Id => row
                .try_get::<Option<Uuid>, _>(name)
                .map(|cell| cell.map(|id| Cell::Bytes(id.as_bytes().to_vec()))),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(name).map(|cell| cell.map(Cell::Bytes)),
            Kind::Text => row
                .try_get::<Option<String>, _>(name)
                .map(|cell| cell.map(|text| Cell::Text(restored(&text)))),
            Kind::Integer => row.try_get::<Option<i64>, _>(name).map(|cell| cell.map(Cell::Integer)),
        };
        cell.map(|cell| cell.unwrap_or(Cell::Null)).map_err(|error| damaged(name, error))
    };
    table.columns().iter().map(cell).collect::<Result<_, _>>().map(Row)
}

fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    column: &Column,
    cell: &Cell,
) -> Result<Query<'q, Postgres, PgArguments>, StoreError> {
    let wrong = || damaged(column.name, "a value of another kind than the column's");
    Ok(match (column.kind, cell) {
        (Kind::Id, Cell::Null) => query.bind(None::<Uuid>),
        (Kind::Id, Cell::Bytes(bytes)) => query.bind(Uuid::from_slice(bytes).map_err(|_| wrong())?),
        (Kind::Bytes, Cell::Null) => query.bind(None::<Vec<u8>>),
        (Kind::Bytes, Cell::Bytes(bytes)) => query.bind(bytes.clone()),
        (Kind::Text, Cell::Null) => query.bind(None::<String>),
        (Kind::Text, Cell::Text(text)) => query.bind(keep(text).into_owned()),
        (Kind::Integer, Cell::Null) => query.bind(None::<i64>),
        (Kind::Integer, Cell::Integer(number)) => query.bind(*number),
        _ => return Err(wrong()),
    })
}

struct Put(Filling, Table, Vec<Row>);

#[async_trait]
impl Change for Put {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let Self(filling, table, rows) = self;
        // Until this commit nobody says that something else fills the database, or that this has ended.
        let statement = "SELECT started_at FROM impuls_filling WHERE source = $1 AND started_at = $2 \
                         AND ended_at IS NULL FOR SHARE";
        let own = sqlx::query_scalar::<_, i64>(statement)
            .bind(keep(&filling.source).into_owned())
            .bind(micros(filling.started_at))
            .fetch_optional(&mut *connection)
            .await?;
        if own.is_none() {
            return Err(StoreError::Conflict.into());
        }
        let columns = table.columns();
        // One answer for a whole page: a database may be far away.
        for rows in rows.chunks((PARAMETERS / columns.len()).max(1)) {
            // Pages differ in how many rows they have, so nobody needs the statement again.
            let mut query = sqlx::query(AssertSqlSafe(STATEMENTS.put(*table, rows.len()))).persistent(false);
            for row in rows {
                for (column, cell) in columns.iter().zip(&row.0) {
                    query = bind(query, column, cell)?;
                }
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

struct PutFilling(Filling);

#[async_trait]
impl Change for PutFilling {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let statement = match self.0.ended_at {
            None => {
                "INSERT INTO impuls_filling (only_row, source, started_at, ended_at) VALUES (1, $1, $2, $3) \
                 ON CONFLICT (only_row) DO UPDATE SET source = excluded.source, \
                 started_at = excluded.started_at, ended_at = excluded.ended_at"
            }
            Some(_) => {
                "UPDATE impuls_filling SET ended_at = $3 WHERE source = $1 AND started_at = $2 \
                 AND (ended_at IS NULL OR ended_at = $3)"
            }
        };
        let made = sqlx::query(statement)
            .bind(keep(&self.0.source).into_owned())
            .bind(micros(self.0.started_at))
            .bind(self.0.ended_at.map(micros))
            .execute(connection)
            .await?;
        if made.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict.into()) }
    }
}

#[async_trait]
impl Transfer for PostgresStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let failed = query_failed("opening the database");
        let mut connection = self.pool().connect_options().connect().await.map_err(&failed)?;
        let patience = PATIENCE.as_millis();
        // The state is that of the first read.
        let statements = format!(
            "SET statement_timeout = {patience}; SET idle_in_transaction_session_timeout = {patience}; \
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM impuls_filling"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.map_err(failed)?;
        Ok(Box::new(State(connection)))
    }

    async fn put_rows(&self, filling: &Filling, table: Table, rows: Vec<Row>) -> Result<(), StoreError> {
        if rows.iter().any(|row| row.0.len() != table.columns().len()) {
            return Err(damaged(table.name(), "a row has not the columns of its table"));
        }
        transact(self.pool(), "putting rows", &Put(filling.clone(), table, rows)).await
    }

    async fn find_filling(&self) -> Result<Option<Filling>, StoreError> {
        let query = sqlx::query_as(FILLING).fetch_optional(self.pool());
        bounded("looking what fills the database", query).await?.map(filling).transpose()
    }

    async fn put_filling(&self, filling: &Filling) -> Result<(), StoreError> {
        alone(self.pool(), "noting what fills the database", &PutFilling(filling.clone())).await
    }

    async fn identity(&self) -> Result<Uuid, StoreError> {
        let query = sqlx::query_scalar(IDENTITY).fetch_one(self.pool());
        bounded("looking which store it is", query).await
    }

    async fn hold(&self) -> Result<Hold, StoreError> {
        let failed = query_failed("taking the database for oneself");
        let mut connection = self.pool().connect_options().connect().await.map_err(&failed)?;
        for _ in 0..TRIES {
            let query = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)").bind(USED);
            if query.fetch_one(&mut connection).await.map_err(&failed)? {
                // It is the connection that holds the lock.
                return Ok(Hold::Held(Box::new(connection)));
            }
            let servers = self.count_servers().await?;
            if servers > 0 {
                return Ok(Hold::Servers(servers));
            }
            // The database may not have noticed yet that whoever had it was killed.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Hold::Taken)
    }
}

impl PostgresStore {
    async fn count_servers(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND (classid::bigint << 32) | objid::bigint = $1",
        )
        .bind(USED);
        let count = bounded("looking who uses the database", query.fetch_one(self.pool())).await?;
        Ok(count.unsigned_abs())
    }
}
