//! Records of invocations, many at a time: the background writer of a busy server hands over thousands.

use std::collections::BTreeSet;

use async_trait::async_trait;
use impuls_store::rows::InvocationRow;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::row::{column, kept, uuid};
use crate::transaction::{Change, Refusal};

/// Rows that one statement takes, so that no message to the server is larger than it must be.
const ROWS: usize = 500;

/// Those that exist, held so that none of them goes before the records are there. In one order, so that two servers
/// do not wait for each other.
const EXISTING: &str = "SELECT id FROM impuls_functions WHERE id = ANY($1) ORDER BY id FOR KEY SHARE";

const INSERT: &str = "INSERT INTO impuls_invocations (id, function, revision, version, status, error_type, \
     error_class, error_message, error_stack, duration_ns, init_duration_ns, memory_mib, started_at, log_dropped, \
     logs, exchange) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], \
     $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], \
     $15::bytea[], $16::bytea[]) ON CONFLICT (id) DO NOTHING";

/// Removes all but each function's newest so many. The inner query walks one function's part of the index; what it
/// skips are the records that stay.
const TRIM: &str = "DELETE FROM impuls_invocations WHERE id IN (SELECT old.id FROM unnest($1::uuid[]) AS f (id) \
     CROSS JOIN LATERAL (SELECT i.id FROM impuls_invocations i WHERE i.function = f.id \
     ORDER BY i.started_at DESC, i.id DESC OFFSET $2) AS old)";

/// Adds the records of functions that exist, except those that are there already, and trims their functions.
pub(crate) struct Append {
    pub(crate) rows: Vec<InvocationRow>,
    /// How many each function keeps.
    pub(crate) keep: u32,
}

#[async_trait]
impl Change for Append {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let named: BTreeSet<Uuid> = self.rows.iter().map(|row| uuid(&row.function)).collect();
        let named: Vec<Uuid> = named.into_iter().collect();
        let existing: Vec<Uuid> =
            sqlx::query_scalar(EXISTING).bind(&named).fetch_all(&mut *connection).await?;
        let is_known = |row: &&InvocationRow| existing.binary_search(&uuid(&row.function)).is_ok();
        let rows: Vec<&InvocationRow> = self.rows.iter().filter(is_known).collect();
        for part in rows.chunks(ROWS) {
            insert(connection, part).await?;
        }
        sqlx::query(TRIM).bind(&existing).bind(i64::from(self.keep)).execute(connection).await?;
        Ok(())
    }
}

async fn insert(connection: &mut PgConnection, rows: &[&InvocationRow]) -> Result<(), Refusal> {
    sqlx::query(INSERT)
        .bind(column(rows, |row| uuid(&row.id)))
        .bind(column(rows, |row| uuid(&row.function)))
        .bind(column(rows, |row| uuid(&row.revision)))
        .bind(column(rows, |row| row.version))
        .bind(column(rows, |row| row.status))
        .bind(column(rows, |row| row.failure.as_ref().map(|failure| failure.error_type.as_str())))
        .bind(column(rows, |row| row.failure.as_ref().map(|failure| kept(&failure.class))))
        .bind(column(rows, |row| row.failure.as_ref().map(|failure| kept(&failure.message))))
        .bind(column(rows, |row| row.failure.as_ref().and_then(|failure| failure.stack.as_deref().map(kept))))
        .bind(column(rows, |row| row.duration_ns))
        .bind(column(rows, |row| row.init_duration_ns))
        .bind(column(rows, |row| row.memory_mib))
        .bind(column(rows, |row| row.started_at))
        .bind(column(rows, |row| row.log_dropped))
        .bind(column(rows, |row| row.logs.as_deref()))
        .bind(column(rows, |row| row.exchange.as_deref()))
        .execute(connection)
        .await?;
    Ok(())
}
