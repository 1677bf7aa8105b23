//! Each kind of change as statements within the writer's transaction.

use impuls_store::StoreError;
use impuls_store::rows::{AliasRow, FunctionRow, Key, RevisionRow};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Refusal, Work, append, async_invocations, retention, schedules};
use crate::error::{is_foreign_key_violation, is_unique_violation};
use crate::transfer;

/// Makes one change; says how much there was to change.
pub(super) async fn apply(connection: &mut SqliteConnection, work: &Work) -> Result<u64, Refusal> {
    let done = match work {
        Work::Create(rows) => create(connection, &rows.0, &rows.1).await.map(|()| true),
        Work::Deploy(rows) => deploy(connection, (&rows.0, &rows.1), &rows.2).await.map(|()| true),
        Work::Delete(function) => delete(connection, function).await,
        Work::PutAlias(function, alias) => put_alias(connection, function, alias).await.map(|()| true),
        Work::DeleteAlias(function, name) => delete_alias(connection, function, name).await,
        Work::PutBuild(key, archive, at) => put_build(connection, key, archive, *at).await.map(|()| true),
        Work::Async(work) => return async_invocations::apply(connection, work).await,
        Work::Retention(work) => return retention::apply(connection, work).await,
        Work::Schedule(work) => schedules::apply(connection, work).await,
        Work::Put(filling, table, rows) => {
            if !transfer::is_filled_by(connection, filling).await? {
                return Err(Refusal::Store(StoreError::Conflict));
            }
            transfer::put(connection, *table, rows).await?;
            Ok(true)
        }
        Work::PutFilling(filling) => match transfer::put_filling(connection, filling).await? {
            true => Ok(true),
            false => Err(Refusal::Store(StoreError::Conflict)),
        },
        Work::Append(rows, keep) => append::append(connection, rows, *keep).await.map(|()| true),
    };
    done.map(u64::from)
}

/// A constraint's refusal in the seam's words.
fn unless_unique(known: StoreError) -> impl FnOnce(sqlx::Error) -> Refusal {
    move |error| if is_unique_violation(&error) { Refusal::Store(known) } else { error.into() }
}

fn unless_foreign(known: StoreError) -> impl FnOnce(sqlx::Error) -> Refusal {
    move |error| if is_foreign_key_violation(&error) { Refusal::Store(known) } else { error.into() }
}

async fn create(
    connection: &mut SqliteConnection,
    function: &FunctionRow,
    revision: &RevisionRow,
) -> Result<(), Refusal> {
    let failure = function.failure.as_ref();
    sqlx::query(
        "INSERT INTO functions (id, scope, name, latest, latest_version, state, failure_class, failure_message, \
         failure_file, failure_line, created_at, updated_at, state_log) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(function.id.to_vec())
    .bind(&function.scope)
    .bind(&function.name)
    .bind(function.latest.to_vec())
    .bind(function.latest_version)
    .bind(function.state)
    .bind(failure.map(|failure| &failure.class))
    .bind(failure.map(|failure| &failure.message))
    .bind(failure.and_then(|failure| failure.file.as_ref()))
    .bind(failure.and_then(|failure| failure.line))
    .bind(function.created_at)
    .bind(function.updated_at)
    .bind(&function.state_log)
    .execute(&mut *connection)
    .await
    .map_err(unless_unique(StoreError::NameTaken))?;
    publish(connection, function, revision).await
}

async fn deploy(
    connection: &mut SqliteConnection,
    (expected, function): (&FunctionRow, &FunctionRow),
    revision: &RevisionRow,
) -> Result<(), Refusal> {
    let stored = sqlx::query("SELECT updated_at, latest, latest_version FROM functions WHERE id = ?")
        .bind(function.id.to_vec())
        .fetch_optional(&mut *connection)
        .await?;
    let stored = stored.ok_or(Refusal::Store(StoreError::NotFound))?;
    if expected.id != function.id || !is_as_expected(&stored, expected)? {
        return Err(Refusal::Store(StoreError::Conflict));
    }
    let failure = function.failure.as_ref();
    sqlx::query(
        "UPDATE functions SET scope = ?, name = ?, latest = ?, latest_version = ?, state = ?, failure_class = ?, \
         failure_message = ?, failure_file = ?, failure_line = ?, created_at = ?, updated_at = ?, \
         state_log = ? WHERE id = ?",
    )
    .bind(&function.scope)
    .bind(&function.name)
    .bind(function.latest.to_vec())
    .bind(function.latest_version)
    .bind(function.state)
    .bind(failure.map(|failure| &failure.class))
    .bind(failure.map(|failure| &failure.message))
    .bind(failure.and_then(|failure| failure.file.as_ref()))
    .bind(failure.and_then(|failure| failure.line))
    .bind(function.created_at)
    .bind(function.updated_at)
    .bind(&function.state_log)
    .bind(function.id.to_vec())
    .execute(&mut *connection)
    .await
    .map_err(unless_unique(StoreError::NameTaken))?;
    if function.latest == expected.latest {
        return Ok(());
    }
    publish(connection, function, revision).await
}

fn is_as_expected(stored: &SqliteRow, expected: &FunctionRow) -> Result<bool, sqlx::Error> {
    Ok(stored.try_get::<i64, _>("updated_at")? == expected.updated_at
        && stored.try_get::<&[u8], _>("latest")? == expected.latest
        && stored.try_get::<i64, _>("latest_version")? == expected.latest_version)
}

/// Adds the revision and the version that stands for it. A number or a revision that exists was given out twice:
/// somebody decided from what is no longer so.
async fn publish(
    connection: &mut SqliteConnection,
    function: &FunctionRow,
    revision: &RevisionRow,
) -> Result<(), Refusal> {
    let limits = &revision.limits;
    sqlx::query(
        "INSERT INTO revisions (id, function, artifact, layout, code_size, runtime, contract, handler, command, \
         description, metadata, environment, memory_mib, timeout_ms, milli_vcpu, concurrency, max_concurrency, \
         idle_timeout_sec, min_warm, driver, network, built, build_failure, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(revision.id.to_vec())
    .bind(revision.function.to_vec())
    .bind(revision.artifact.to_vec())
    .bind(revision.layout)
    .bind(revision.code_size)
    .bind(&revision.runtime)
    .bind(revision.contract)
    .bind(&revision.handler)
    .bind(&revision.command)
    .bind(&revision.description)
    .bind(&revision.metadata)
    .bind(&revision.environment)
    .bind(limits.memory_mib())
    .bind(limits.timeout().as_millis() as i64)
    .bind(limits.milli_vcpu())
    .bind(limits.concurrency())
    .bind(limits.max_concurrency().map(|max| max.get()))
    .bind(limits.idle_timeout().as_secs() as i64)
    .bind(limits.min_warm())
    .bind(revision.driver)
    .bind(&revision.network)
    .bind(revision.built.map(|built| built.to_vec()))
    .bind(&revision.build_failure)
    .bind(revision.created_at)
    .execute(&mut *connection)
    .await
    .map_err(unless_unique(StoreError::Conflict))?;
    sqlx::query("INSERT INTO versions (function, number, revision, published_at) VALUES (?, ?, ?, ?)")
        .bind(function.id.to_vec())
        .bind(function.latest_version)
        .bind(revision.id.to_vec())
        .bind(revision.created_at)
        .execute(connection)
        .await
        .map_err(unless_unique(StoreError::Conflict))?;
    Ok(())
}

async fn put_build(
    connection: &mut SqliteConnection,
    key: &[u8; 32],
    archive: &[u8; 32],
    at: i64,
) -> Result<(), Refusal> {
    sqlx::query("INSERT OR REPLACE INTO builds (key, artifact, created_at) VALUES (?, ?, ?)")
        .bind(key.to_vec())
        .bind(archive.to_vec())
        .bind(at)
        .execute(connection)
        .await?;
    Ok(())
}

async fn delete(connection: &mut SqliteConnection, function: &Key) -> Result<bool, Refusal> {
    // Foreign keys take everything else along.
    let done =
        sqlx::query("DELETE FROM functions WHERE id = ?").bind(function.to_vec()).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

async fn put_alias(
    connection: &mut SqliteConnection,
    function: &Key,
    alias: &AliasRow,
) -> Result<(), Refusal> {
    delete_alias(connection, function, &alias.name).await?;
    sqlx::query("INSERT INTO aliases (function, name, description, updated_at) VALUES (?, ?, ?, ?)")
        .bind(function.to_vec())
        .bind(&alias.name)
        .bind(&alias.description)
        .bind(alias.updated_at)
        .execute(&mut *connection)
        .await
        .map_err(unless_foreign(StoreError::NotFound))?;
    for ((version, weight), position) in alias.targets.iter().zip(0i64..) {
        sqlx::query(
            "INSERT INTO alias_targets (function, alias, position, version, weight) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(function.to_vec())
        .bind(&alias.name)
        .bind(position)
        .bind(version)
        .bind(weight)
        .execute(&mut *connection)
        .await
        .map_err(unless_foreign(StoreError::NotFound))?;
    }
    Ok(())
}

async fn delete_alias(
    connection: &mut SqliteConnection,
    function: &Key,
    name: &str,
) -> Result<bool, Refusal> {
    let done = sqlx::query("DELETE FROM aliases WHERE function = ? AND name = ?")
        .bind(function.to_vec())
        .bind(name)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}
