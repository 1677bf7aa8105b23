//! Changes of functions, versions, aliases and builds.

use async_trait::async_trait;
use impuls_store::StoreError;
use impuls_store::rows::{AliasRow, FunctionRow, RevisionRow};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::changes::tell;
use crate::error::{is_foreign_key_violation, is_unique_violation};
use crate::row::{keep, uuid};
use crate::transaction::{Change, Refusal};

/// A new function with its first revision.
pub(crate) struct Create {
    pub(crate) function: FunctionRow,
    pub(crate) revision: RevisionRow,
}

/// What replaces a function that must still be as expected.
pub(crate) struct Deploy {
    pub(crate) expected: FunctionRow,
    pub(crate) function: FunctionRow,
    pub(crate) revision: RevisionRow,
}

/// A function that goes with all that belongs to it.
pub(crate) struct Delete(pub(crate) Uuid);

/// An alias that is added or replaced.
pub(crate) struct PutAlias {
    pub(crate) function: Uuid,
    pub(crate) alias: AliasRow,
}

/// An alias that goes.
pub(crate) struct DeleteAlias<'n> {
    pub(crate) function: Uuid,
    pub(crate) name: &'n str,
}

/// What a build made.
pub(crate) struct PutBuild {
    pub(crate) key: [u8; 32],
    pub(crate) archive: [u8; 32],
    pub(crate) at: i64,
}

/// A constraint's refusal in the seam's words.
fn unless_unique(known: StoreError) -> impl FnOnce(sqlx::Error) -> Refusal {
    move |error| if is_unique_violation(&error) { Refusal::Store(known) } else { error.into() }
}

/// The refusal of a reference to what does not exist, in the seam's words.
pub(crate) fn unless_foreign(known: StoreError) -> impl FnOnce(sqlx::Error) -> Refusal {
    move |error| if is_foreign_key_violation(&error) { Refusal::Store(known) } else { error.into() }
}

const INSERT_FUNCTION: &str = "INSERT INTO impuls_functions (scope, name, latest, latest_version, state, \
     failure_class, failure_message, failure_file, failure_line, created_at, updated_at, state_log, id) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const UPDATE_FUNCTION: &str = "UPDATE impuls_functions SET scope = $1, name = $2, latest = $3, latest_version = $4, \
     state = $5, failure_class = $6, failure_message = $7, failure_file = $8, failure_line = $9, created_at = $10, \
     updated_at = $11, state_log = $12 WHERE id = $13";

/// Writes the function's row by one of the two statements.
async fn write_function(
    connection: &mut PgConnection,
    statement: &'static str,
    function: &FunctionRow,
) -> Result<(), Refusal> {
    let failure = function.failure.as_ref();
    sqlx::query(statement)
        .bind(keep(&function.scope))
        .bind(&function.name)
        .bind(uuid(&function.latest))
        .bind(function.latest_version)
        .bind(function.state)
        .bind(failure.map(|failure| keep(&failure.class)))
        .bind(failure.map(|failure| keep(&failure.message)))
        .bind(failure.and_then(|failure| failure.file.as_deref().map(keep)))
        .bind(failure.and_then(|failure| failure.line.map(i64::from)))
        .bind(function.created_at)
        .bind(function.updated_at)
        .bind(keep(&function.state_log))
        .bind(uuid(&function.id))
        .execute(connection)
        .await
        .map_err(unless_unique(StoreError::NameTaken))?;
    Ok(())
}

#[async_trait]
impl Change for Create {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        write_function(connection, INSERT_FUNCTION, &self.function).await?;
        publish(connection, &self.function, &self.revision).await?;
        Ok(tell(connection, uuid(&self.function.id)).await?)
    }
}

#[async_trait]
impl Change for Deploy {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let Self { expected, function, revision } = self;
        // Whoever deploys the same function waits here; who only refers to it, as accepted invocations do, does not.
        let stored = sqlx::query(
            "SELECT updated_at, latest, latest_version FROM impuls_functions WHERE id = $1 FOR NO KEY UPDATE",
        )
        .bind(uuid(&function.id))
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(StoreError::NotFound)?;
        let is_as_expected = stored.try_get::<i64, _>("updated_at")? == expected.updated_at
            && stored.try_get::<Uuid, _>("latest")? == uuid(&expected.latest)
            && stored.try_get::<i64, _>("latest_version")? == expected.latest_version;
        if expected.id != function.id || !is_as_expected {
            return Err(Refusal::Store(StoreError::Conflict));
        }
        write_function(connection, UPDATE_FUNCTION, function).await?;
        if function.latest != expected.latest {
            publish(connection, function, revision).await?;
        }
        Ok(tell(connection, uuid(&function.id)).await?)
    }
}

/// Adds the revision and the version that stands for it. A number or a revision that exists was given out twice:
/// somebody decided from what is no longer so.
async fn publish(
    connection: &mut PgConnection,
    function: &FunctionRow,
    revision: &RevisionRow,
) -> Result<(), Refusal> {
    insert_revision(connection, revision).await?;
    sqlx::query(
        "INSERT INTO impuls_versions (function, number, revision, published_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(uuid(&function.id))
    .bind(function.latest_version)
    .bind(uuid(&revision.id))
    .bind(revision.created_at)
    .execute(connection)
    .await
    .map_err(unless_unique(StoreError::Conflict))?;
    Ok(())
}

async fn insert_revision(connection: &mut PgConnection, revision: &RevisionRow) -> Result<(), Refusal> {
    let limits = &revision.limits;
    sqlx::query(
        "INSERT INTO impuls_revisions (id, function, artifact, layout, code_size, runtime, contract, handler, command, \
         description, metadata, environment, memory_mib, timeout_ms, milli_vcpu, concurrency, max_concurrency, \
         idle_timeout_sec, min_warm, driver, network, built, build_failure, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
         $22, $23, $24)",
    )
    .bind(uuid(&revision.id))
    .bind(uuid(&revision.function))
    .bind(revision.artifact.as_slice())
    .bind(revision.layout)
    .bind(revision.code_size)
    .bind(&revision.runtime)
    .bind(revision.contract)
    .bind(keep(&revision.handler))
    .bind(keep(&revision.command))
    .bind(keep(&revision.description))
    .bind(keep(&revision.metadata))
    .bind(keep(&revision.environment))
    .bind(i64::from(limits.memory_mib()))
    .bind(limits.timeout().as_millis() as i64)
    .bind(i64::from(limits.milli_vcpu()))
    .bind(i64::from(limits.concurrency()))
    .bind(limits.max_concurrency().map(|max| i64::from(max.get())))
    .bind(limits.idle_timeout().as_secs() as i64)
    .bind(i64::from(limits.min_warm()))
    .bind(revision.driver)
    .bind(keep(&revision.network))
    .bind(revision.built.as_ref().map(<[u8; 32]>::as_slice))
    .bind(revision.build_failure.as_deref().map(keep))
    .bind(revision.created_at)
    .execute(connection)
    .await
    .map_err(unless_unique(StoreError::Conflict))?;
    Ok(())
}

#[async_trait]
impl Change for Delete {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        // Foreign keys take everything else along.
        let done = sqlx::query("DELETE FROM impuls_functions WHERE id = $1")
            .bind(self.0)
            .execute(&mut *connection)
            .await?;
        tell(connection, self.0).await?;
        Ok(done.rows_affected() > 0)
    }
}

#[async_trait]
impl Change for PutAlias {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let Self { function, alias } = self;
        sqlx::query(
            "INSERT INTO impuls_aliases (function, name, description, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (function, name) DO UPDATE SET description = excluded.description, \
             updated_at = excluded.updated_at",
        )
        .bind(function)
        .bind(&alias.name)
        .bind(keep(&alias.description))
        .bind(alias.updated_at)
        .execute(&mut *connection)
        .await
        .map_err(unless_foreign(StoreError::NotFound))?;
        sqlx::query("DELETE FROM impuls_alias_targets WHERE function = $1 AND alias = $2")
            .bind(function)
            .bind(&alias.name)
            .execute(&mut *connection)
            .await?;
        let (versions, weights): (Vec<i64>, Vec<i64>) = alias.targets.iter().copied().unzip();
        sqlx::query(
            "INSERT INTO impuls_alias_targets (function, alias, position, version, weight) \
             SELECT $1, $2, t.position, t.version, t.weight \
             FROM unnest($3::bigint[], $4::bigint[]) WITH ORDINALITY AS t (version, weight, position)",
        )
        .bind(function)
        .bind(&alias.name)
        .bind(versions)
        .bind(weights)
        .execute(&mut *connection)
        .await
        .map_err(unless_foreign(StoreError::NotFound))?;
        Ok(tell(connection, *function).await?)
    }
}

#[async_trait]
impl Change for DeleteAlias<'_> {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let done = sqlx::query("DELETE FROM impuls_aliases WHERE function = $1 AND name = $2")
            .bind(self.function)
            .bind(self.name)
            .execute(&mut *connection)
            .await?;
        tell(connection, self.function).await?;
        Ok(done.rows_affected() > 0)
    }
}

#[async_trait]
impl Change for PutBuild {
    type Made = ();

    async fn make(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        sqlx::query(
            "INSERT INTO impuls_builds (key, artifact, created_at) VALUES ($1, $2, $3) ON CONFLICT (key) \
             DO UPDATE SET artifact = excluded.artifact, created_at = excluded.created_at",
        )
        .bind(self.key.as_slice())
        .bind(self.archive.as_slice())
        .bind(self.at)
        .execute(connection)
        .await?;
        Ok(())
    }
}
