//! Removing what nothing needs any more, and what names code.

use async_trait::async_trait;
use impuls_domain::{ArtifactDigest, FunctionId, VersionNumber};
use impuls_store::rows::{digest, micros, noted_build};
use impuls_store::{NotedBuild, RetentionStore, StoreError};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::PostgresStore;
use crate::row::Row;
use crate::transaction::{Change, Refusal, alone, bounded, transact};

// What an alias is about to name is waited for, and cannot be named from then on.
const LOCK: &str = "SELECT number FROM impuls_versions WHERE function = $1 AND number = ANY($2) FOR UPDATE";
// Destinations are written as ["<function>","<version>"].
const DELETE: &str = "DELETE FROM impuls_revisions WHERE id IN (\
     SELECT v.revision FROM impuls_versions v JOIN impuls_functions f ON f.id = v.function \
     WHERE v.function = $1 AND v.number = ANY($2) AND v.revision <> f.latest AND v.number <> f.latest_version \
     AND NOT EXISTS (SELECT FROM impuls_alias_targets t WHERE t.function = v.function AND t.version = v.number) \
     AND NOT EXISTS (SELECT FROM impuls_async_invocations i WHERE i.function = v.function \
         AND i.qualifier = v.number::text) \
     AND NOT EXISTS (SELECT FROM impuls_schedules s WHERE s.function = v.function \
         AND s.qualifier = v.number::text) \
     AND NOT EXISTS (SELECT FROM impuls_async_settings d \
         WHERE d.destinations LIKE '%\"' || v.function || '\",\"' || v.number || '\"%') \
     AND NOT EXISTS (SELECT FROM impuls_async_invocations d \
         WHERE d.destinations LIKE '%\"' || v.function || '\",\"' || v.number || '\"%'))";
const FORGET: &str = "DELETE FROM impuls_builds WHERE key IN (\
     SELECT key FROM impuls_builds WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
const BUILDS: &str = "SELECT b.*, \
     CASE WHEN EXISTS (SELECT FROM impuls_revisions r WHERE r.built = b.artifact) THEN 1 ELSE 0 END::bigint AS is_deployed \
     FROM impuls_builds b WHERE $1::bytea IS NULL OR b.key > $1 ORDER BY b.key LIMIT $2";
const ARTIFACTS: &str = "SELECT artifact FROM (\
     SELECT artifact FROM impuls_revisions UNION SELECT built FROM impuls_revisions WHERE built IS NOT NULL \
     UNION SELECT artifact FROM impuls_builds) AS named \
     WHERE $1::bytea IS NULL OR artifact > $1 ORDER BY artifact LIMIT $2";

/// Versions that go.
struct DeleteVersions {
    function: Uuid,
    numbers: Vec<i64>,
}

#[async_trait]
impl Change for DeleteVersions {
    type Made = u64;

    async fn make(&self, connection: &mut PgConnection) -> Result<u64, Refusal> {
        sqlx::query(LOCK).bind(self.function).bind(&self.numbers).execute(&mut *connection).await?;
        // Nobody needs to be told: what is in the tables of servers is newest or has an alias.
        let done = sqlx::query(DELETE).bind(self.function).bind(&self.numbers).execute(connection).await?;
        Ok(done.rows_affected())
    }
}

/// Builds that go.
struct DeleteBuilds {
    before: i64,
    limit: i64,
}

#[async_trait]
impl Change for DeleteBuilds {
    type Made = u64;

    async fn make(&self, connection: &mut PgConnection) -> Result<u64, Refusal> {
        let done = sqlx::query(FORGET).bind(self.before).bind(self.limit).execute(connection).await?;
        Ok(done.rows_affected())
    }
}

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn delete_versions(
        &self,
        function: FunctionId,
        numbers: &[VersionNumber],
    ) -> Result<u64, StoreError> {
        let numbers = numbers.iter().filter_map(|number| i64::try_from(number.get()).ok()).collect();
        let delete = DeleteVersions { function: function.as_uuid(), numbers };
        transact(&self.pool, "deleting versions", &delete).await
    }

    async fn delete_builds(&self, noted_before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let delete = DeleteBuilds { before: micros(noted_before), limit: i64::from(limit) };
        alone(&self.pool, "forgetting builds", &delete).await
    }

    async fn list_builds(
        &self,
        after: Option<ArtifactDigest>,
        limit: u32,
    ) -> Result<Vec<NotedBuild>, StoreError> {
        let after = after.map(|digest| digest.as_bytes().to_vec());
        let query = sqlx::query(BUILDS).bind(after).bind(i64::from(limit));
        let found = bounded("listing builds", query.fetch_all(&self.pool)).await?;
        found.iter().map(|row| noted_build(&Row(row))).collect()
    }

    async fn list_artifacts(
        &self,
        after: Option<ArtifactDigest>,
        limit: u32,
    ) -> Result<Vec<ArtifactDigest>, StoreError> {
        let after = after.map(|digest| digest.as_bytes().to_vec());
        let query = sqlx::query_scalar::<_, Vec<u8>>(ARTIFACTS).bind(after).bind(i64::from(limit));
        let found = bounded("listing artifacts", query.fetch_all(&self.pool)).await?;
        found.iter().map(|bytes| digest(bytes, "artifact")).collect()
    }
}
