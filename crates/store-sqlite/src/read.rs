//! Queries. Each is one statement, so each sees one state of the database.

pub(crate) mod queue;

use impuls_domain::{ArtifactDigest, FunctionId, Invocation, VersionNumber};
use impuls_store::rows::{digest, invocation, listed, noted_build, saturate, snapshot, version_entry};
use impuls_store::{
    FunctionKey, FunctionPage, FunctionSnapshot, InvocationPage, ListedFunctions, NotedBuild, StoreError,
    VersionEntry, function_columns, revision_columns,
};
use sqlx::SqlitePool;

use crate::error::query_failed;
use crate::row::Row;

/// A function, its newest revision, and its aliases as JSON: `[[name, description, updated_at, [[version,
/// weight], …]], …]`.
macro_rules! snapshot {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            function_columns!(),
            ", ",
            revision_columns!(),
            ", (SELECT json_group_array(json_array(a.name, a.description, a.updated_at, \
                 json((SELECT json_group_array(json_array(t.version, t.weight) ORDER BY t.position) \
                 FROM alias_targets t WHERE t.function = a.function AND t.alias = a.name))) ORDER BY a.name) \
             FROM aliases a WHERE a.function = f.id) AS aliases \
             FROM functions f LEFT JOIN revisions r ON r.id = f.latest ",
            $condition
        )
    };
}

macro_rules! version {
    ($condition:literal) => {
        concat!(
            "SELECT v.number AS v_number, v.published_at AS v_published_at, ",
            revision_columns!(),
            " FROM versions v JOIN revisions r ON r.id = v.revision ",
            $condition
        )
    };
}

/// Greater than every id, which has 16 bytes.
const AFTER_ALL_IDS: [u8; 17] = [0xff; 17];

const FUNCTION_BY_ID: &str = snapshot!("WHERE f.id = ?1");
const FUNCTION_BY_NAME: &str = snapshot!("WHERE f.scope = ?1 AND f.name = ?2");
const NEWEST_NAMED: &str = snapshot!("WHERE f.name = ?1 ORDER BY f.id DESC LIMIT 1");
const FUNCTIONS: &str = snapshot!("WHERE f.id < ?1 ORDER BY f.id DESC LIMIT ?2");
const VERSION: &str = version!("WHERE v.function = ?1 AND v.number = ?2");
const VERSIONS: &str = version!("WHERE v.function = ?1 AND v.number < ?2 ORDER BY v.number DESC LIMIT ?3");
const INVOCATIONS: &str = "SELECT * FROM invocations WHERE function = ?1 \
     ORDER BY started_at DESC, id DESC LIMIT ?2 OFFSET ?3";
const INVOCATIONS_OF_STATUS: &str = "SELECT * FROM invocations WHERE function = ?1 AND status = ?4 \
     ORDER BY started_at DESC, id DESC LIMIT ?2 OFFSET ?3";

/// The archive of a build.
pub(crate) async fn find_build(
    pool: &SqlitePool,
    key: &ArtifactDigest,
) -> Result<Option<ArtifactDigest>, StoreError> {
    let found: Option<Vec<u8>> = sqlx::query_scalar("SELECT artifact FROM builds WHERE key = ?")
        .bind(key.as_bytes().to_vec())
        .fetch_optional(pool)
        .await
        .map_err(query_failed("finding a build"))?;
    found.map(|bytes| digest(&bytes, "artifact")).transpose()
}

/// The builds that are known.
pub(crate) async fn list_builds(
    pool: &SqlitePool,
    after: Option<ArtifactDigest>,
    limit: u32,
) -> Result<Vec<NotedBuild>, StoreError> {
    let query = sqlx::query(
        "SELECT b.*, EXISTS (SELECT 1 FROM revisions r WHERE r.built = b.artifact) AS is_deployed FROM builds b \
         WHERE ?1 IS NULL OR b.key > ?1 ORDER BY b.key LIMIT ?2",
    );
    let query = query.bind(after.map(|digest| digest.as_bytes().to_vec())).bind(limit);
    let found = query.fetch_all(pool).await.map_err(query_failed("listing builds"))?;
    found.iter().map(|row| noted_build(&Row(row))).collect()
}

/// The artifacts that something names.
pub(crate) async fn list_artifacts(
    pool: &SqlitePool,
    after: Option<ArtifactDigest>,
    limit: u32,
) -> Result<Vec<ArtifactDigest>, StoreError> {
    let query = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT artifact FROM (SELECT artifact FROM revisions UNION SELECT built FROM revisions WHERE built IS NOT NULL \
         UNION SELECT artifact FROM builds) WHERE ?1 IS NULL OR artifact > ?1 ORDER BY artifact LIMIT ?2",
    );
    let query = query.bind(after.map(|digest| digest.as_bytes().to_vec())).bind(limit);
    let found = query.fetch_all(pool).await.map_err(query_failed("listing artifacts"))?;
    found.iter().map(|bytes| digest(bytes, "artifact")).collect()
}

pub(crate) async fn find_function(
    readers: &SqlitePool,
    key: &FunctionKey,
) -> Result<Option<FunctionSnapshot>, StoreError> {
    let query = match key {
        FunctionKey::Id(id) => sqlx::query(FUNCTION_BY_ID).bind(id.as_uuid().as_bytes().to_vec()),
        FunctionKey::Name(scope, name) => {
            sqlx::query(FUNCTION_BY_NAME).bind(scope.as_str()).bind(name.as_str())
        }
        FunctionKey::NewestNamed(name) => sqlx::query(NEWEST_NAMED).bind(name.as_str()),
    };
    let row = query.fetch_optional(readers).await.map_err(query_failed("looking up a function"))?;
    row.as_ref().map(|row| snapshot(&Row(row))).transpose()
}

pub(crate) async fn list_functions(
    readers: &SqlitePool,
    page: FunctionPage,
) -> Result<ListedFunctions, StoreError> {
    let query = sqlx::query(FUNCTIONS)
        .bind(page.before.map_or(AFTER_ALL_IDS.to_vec(), |id| id.as_uuid().as_bytes().to_vec()))
        .bind(i64::from(page.limit));
    let rows = query.fetch_all(readers).await.map_err(query_failed("listing functions"))?;
    listed(rows.iter().map(Row))
}

pub(crate) async fn count_functions(readers: &SqlitePool) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM functions");
    let count = query.fetch_one(readers).await.map_err(query_failed("counting functions"))?;
    Ok(count.unsigned_abs())
}

pub(crate) async fn find_version(
    readers: &SqlitePool,
    function: FunctionId,
    number: VersionNumber,
) -> Result<Option<VersionEntry>, StoreError> {
    let query =
        sqlx::query(VERSION).bind(function.as_uuid().as_bytes().to_vec()).bind(saturate(number.get()));
    let row = query.fetch_optional(readers).await.map_err(query_failed("looking up a version"))?;
    row.as_ref().map(|row| version_entry(&Row(row))).transpose()
}

pub(crate) async fn list_versions(
    readers: &SqlitePool,
    function: FunctionId,
    before: Option<VersionNumber>,
    limit: u32,
) -> Result<Vec<VersionEntry>, StoreError> {
    let query = sqlx::query(VERSIONS)
        .bind(function.as_uuid().as_bytes().to_vec())
        .bind(before.map_or(i64::MAX, |number| saturate(number.get())))
        .bind(i64::from(limit));
    let rows = query.fetch_all(readers).await.map_err(query_failed("listing versions"))?;
    rows.iter().map(|row| version_entry(&Row(row))).collect()
}

pub(crate) async fn list_invocations(
    readers: &SqlitePool,
    function: FunctionId,
    page: InvocationPage,
) -> Result<Vec<Invocation>, StoreError> {
    let statement = if page.status.is_some() { INVOCATIONS_OF_STATUS } else { INVOCATIONS };
    let mut query = sqlx::query(statement)
        .bind(function.as_uuid().as_bytes().to_vec())
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset));
    if let Some(status) = page.status {
        query = query.bind(status.as_str());
    }
    let rows = query.fetch_all(readers).await.map_err(query_failed("listing invocation records"))?;
    rows.iter().map(|row| invocation(&Row(row))).collect()
}
