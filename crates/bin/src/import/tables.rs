//! The tables of the first Impuls and of GoFaas in PostgreSQL. Both call theirs `functions`; the columns tell which it is.

use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions as _, PgConnection, Row as _};

use super::{Dialect, Found, Left, read_code};

/// Functions are read one by one; no more than so many.
const FUNCTIONS: i64 = 100_000;

const IMPULS: &str = "SELECT name, description, runtime, handler, code, memory_mb::bigint AS memory_mb, \
     timeout_sec::bigint AS timeout_sec, environment::text AS environment FROM functions ORDER BY name LIMIT $1";
const GOFAAS: &str = "SELECT id::text AS id, name, version, runtime, handler, code_source, code_source_type, \
     timeout_seconds::bigint AS timeout_seconds, memory_mb::bigint AS memory_mb, \
     max_concurrency::bigint AS max_concurrency, environment::text AS environment, metadata::text AS metadata \
     FROM functions ORDER BY name, version LIMIT $1";

/// What is in a database. `code` is where GoFaas kept its code.
pub(super) async fn read(url: &str, code: Option<&Path>) -> anyhow::Result<Left> {
    // Checked by the same rules as a server's own database, which say what is wrong without the password.
    let _valid: impuls_store_postgres::Connection = url.parse().context("the PostgreSQL URL is not valid")?;
    let options: PgConnectOptions =
        url.parse().map_err(|_| anyhow::anyhow!("the PostgreSQL URL is not valid"))?;
    let connecting = options.disable_statement_logging().connect().await;
    let mut connection = connecting.context("cannot reach the database; check its server, user and name")?;
    sqlx::query("SET default_transaction_read_only = on").execute(&mut connection).await?;
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = 'functions'",
    )
    .fetch_all(&mut connection)
    .await?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    if has("code") && has("timeout_sec") {
        return impuls(&mut connection).await;
    }
    if has("code_source") && has("timeout_seconds") {
        let Some(code) = code else {
            bail!(
                "these are GoFaas' tables, and its code is in files: say with --code DIR where (its STORAGE_BASE_DIR)"
            );
        };
        return gofaas(&mut connection, code).await;
    }
    bail!(
        "the database has no table `functions` of the first Impuls or of GoFaas; `impuls migrate` moves what this Impuls has stored"
    );
}

async fn impuls(connection: &mut PgConnection) -> anyhow::Result<Left> {
    let rows = sqlx::query(IMPULS).bind(FUNCTIONS).fetch_all(connection).await?;
    let functions = rows.iter().map(|row| found(row, impuls_request(row))).collect::<anyhow::Result<_>>()?;
    Ok(Left { dialect: Dialect::Impuls, functions, not_taken: Vec::new() })
}

fn found(row: &PgRow, request: Result<Value, String>) -> anyhow::Result<Found> {
    Ok(Found { name: row.try_get("name")?, request, remark: None })
}

fn text(row: &PgRow, column: &str) -> Result<Option<String>, String> {
    row.try_get(column).map_err(|error| format!("column {column}: {error}"))
}

fn number(row: &PgRow, column: &str) -> Result<Option<i64>, String> {
    row.try_get(column).map_err(|error| format!("column {column}: {error}"))
}

/// A column with JSON; NULL is an empty object.
fn object(row: &PgRow, column: &str) -> Result<Value, String> {
    let value = text(row, column)?.map(|text| serde_json::from_str::<Value>(&text)).transpose();
    // Without the cause: it may quote a value, and values are secrets.
    let value = value.map_err(|_| format!("column {column} has no JSON"))?;
    Ok(value.filter(|value| !value.is_null()).unwrap_or_else(|| json!({})))
}

fn impuls_request(row: &PgRow) -> Result<Value, String> {
    Ok(json!({
        "name": text(row, "name")?, "description": text(row, "description")?, "runtime": text(row, "runtime")?,
        "handler": text(row, "handler")?, "code": text(row, "code")?, "memory_mb": number(row, "memory_mb")?,
        "timeout_sec": number(row, "timeout_sec")?, "environment": object(row, "environment")?,
    }))
}

async fn gofaas(connection: &mut PgConnection, code: &Path) -> anyhow::Result<Left> {
    let rows = sqlx::query(GOFAAS).bind(FUNCTIONS).fetch_all(&mut *connection).await?;
    let mut functions = Vec::new();
    for row in &rows {
        let mut one = found(row, gofaas_request(row, code))?;
        let said = |column| text(row, column).ok().flatten().unwrap_or_default();
        one.name = format!("{} {}", one.name, said("version"));
        one.remark = Some(format!("it was {}", said("id")));
        functions.push(one);
    }
    let mut not_taken = Vec::new();
    for (table, what) in
        [("invocations", "past calls"), ("users", "users"), ("function_permissions", "permissions")]
    {
        let rows = count(connection, table).await?;
        if rows > 0 {
            not_taken.push(format!("{rows} {what} (table {table})"));
        }
    }
    Ok(Left { dialect: Dialect::GoFaas, functions, not_taken })
}

/// The rows of a table that may not be there.
async fn count(connection: &mut PgConnection, table: &'static str) -> anyhow::Result<i64> {
    let there: Option<String> =
        sqlx::query_scalar("SELECT to_regclass($1)::text").bind(table).fetch_one(&mut *connection).await?;
    if there.is_none() {
        return Ok(0);
    }
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    Ok(sqlx::query_scalar(statement).fetch_one(connection).await?)
}

fn gofaas_request(row: &PgRow, folder: &Path) -> Result<Value, String> {
    let source = text(row, "code_source")?.unwrap_or_default();
    let code = match text(row, "code_source_type")?.as_deref() {
        Some("inline") if !source.is_empty() => source,
        // The id is a UUID, so it leads nowhere else.
        _ => read_code(&folder.join(text(row, "id")?.unwrap_or_default()).join("code"))?,
    };
    let timeout = number(row, "timeout_seconds")?.map(|seconds| format!("{seconds}s"));
    Ok(json!({
        "name": text(row, "name")?, "version": text(row, "version")?, "runtime": text(row, "runtime")?,
        "handler": text(row, "handler")?, "code": STANDARD.encode(code), "timeout": timeout,
        "memory_mb": number(row, "memory_mb")?, "max_concurrency": number(row, "max_concurrency")?,
        "environment": object(row, "environment")?, "metadata": object(row, "metadata")?,
    }))
}
