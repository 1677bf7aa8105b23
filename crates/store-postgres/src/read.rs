//! Queries. Each is one statement, so each sees one state of the database.

pub(crate) mod queue;

use impuls_domain::{ArtifactDigest, FunctionId, Invocation, VersionNumber};
use impuls_store::rows::{digest, invocation, listed, saturate, snapshot, version_entry};
use impuls_store::{
    FunctionKey, FunctionPage, FunctionSnapshot, InvocationPage, ListedFunctions, StoreError, VersionEntry,
    function_columns, revision_columns,
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::row::Row;
use crate::transaction::bounded;

/// A function, its newest revision, and its aliases as JSON: `[[name, description, updated_at, [[version,
/// weight], …]], …]`.
macro_rules! snapshot {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            function_columns!(),
            ", ",
            revision_columns!(),
            ", (SELECT coalesce(json_agg(json_build_array(a.name, a.description, a.updated_at, \
                 (SELECT coalesce(json_agg(json_build_array(t.version, t.weight) ORDER BY t.position), '[]') \
                 FROM impuls_alias_targets t WHERE t.function = a.function AND t.alias = a.name)) \
                 ORDER BY a.name COLLATE \"C\"), '[]')::text \
             FROM impuls_aliases a WHERE a.function = f.id) AS aliases \
             FROM impuls_functions f LEFT JOIN impuls_revisions r ON r.id = f.latest ",
            $condition
        )
    };
}

macro_rules! version {
    ($condition:literal) => {
        concat!(
            "SELECT v.number AS v_number, v.published_at AS v_published_at, ",
            revision_columns!(),
            " FROM impuls_versions v JOIN impuls_revisions r ON r.id = v.revision ",
            $condition
        )
    };
}

const FUNCTION_BY_ID: &str = snapshot!("WHERE f.id = $1");
const FUNCTION_BY_NAME: &str = snapshot!("WHERE f.scope = $1 AND f.name = $2");
const NEWEST_NAMED: &str = snapshot!("WHERE f.name = $1 ORDER BY f.id DESC LIMIT 1");
const FUNCTIONS: &str = snapshot!("WHERE $1::uuid IS NULL OR f.id < $1 ORDER BY f.id DESC LIMIT $2");
const VERSION: &str = version!("WHERE v.function = $1 AND v.number = $2");
const VERSIONS: &str = version!("WHERE v.function = $1 AND v.number < $2 ORDER BY v.number DESC LIMIT $3");
const INVOCATIONS: &str = "SELECT * FROM impuls_invocations \
     WHERE function = $1 AND ($2::text IS NULL OR status = $2) \
     ORDER BY started_at DESC, id DESC LIMIT $3 OFFSET $4";

/// The archive of a build.
pub(crate) async fn find_build(
    pool: &PgPool,
    key: &ArtifactDigest,
) -> Result<Option<ArtifactDigest>, StoreError> {
    let query = sqlx::query_scalar("SELECT artifact FROM impuls_builds WHERE key = $1");
    let found = query.bind(key.as_bytes().as_slice()).fetch_optional(pool);
    let found: Option<Vec<u8>> = bounded("finding a build", found).await?;
    found.map(|bytes| digest(&bytes, "artifact")).transpose()
}

pub(crate) async fn find_function(
    pool: &PgPool,
    key: &FunctionKey,
) -> Result<Option<FunctionSnapshot>, StoreError> {
    let query = match key {
        FunctionKey::Id(id) => sqlx::query(FUNCTION_BY_ID).bind(id.as_uuid()),
        FunctionKey::Name(scope, name) => {
            sqlx::query(FUNCTION_BY_NAME).bind(scope.as_str()).bind(name.as_str())
        }
        FunctionKey::NewestNamed(name) => sqlx::query(NEWEST_NAMED).bind(name.as_str()),
    };
    let row = bounded("looking up a function", query.fetch_optional(pool)).await?;
    row.map(|row| snapshot(&Row(&row))).transpose()
}

pub(crate) async fn list_functions(pool: &PgPool, page: FunctionPage) -> Result<ListedFunctions, StoreError> {
    let before: Option<Uuid> = page.before.map(|id| id.as_uuid());
    let query = sqlx::query(FUNCTIONS).bind(before).bind(i64::from(page.limit));
    let rows = bounded("listing functions", query.fetch_all(pool)).await?;
    listed(rows.iter().map(Row))
}

pub(crate) async fn count_functions(pool: &PgPool) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM impuls_functions");
    Ok(bounded("counting functions", query.fetch_one(pool)).await?.unsigned_abs())
}

pub(crate) async fn find_version(
    pool: &PgPool,
    function: FunctionId,
    number: VersionNumber,
) -> Result<Option<VersionEntry>, StoreError> {
    let query = sqlx::query(VERSION).bind(function.as_uuid()).bind(saturate(number.get()));
    let row = bounded("looking up a version", query.fetch_optional(pool)).await?;
    row.map(|row| version_entry(&Row(&row))).transpose()
}

pub(crate) async fn list_versions(
    pool: &PgPool,
    function: FunctionId,
    before: Option<VersionNumber>,
    limit: u32,
) -> Result<Vec<VersionEntry>, StoreError> {
    let query = sqlx::query(VERSIONS)
        .bind(function.as_uuid())
        .bind(before.map_or(i64::MAX, |number| saturate(number.get())))
        .bind(i64::from(limit));
    let rows = bounded("listing versions", query.fetch_all(pool)).await?;
    rows.iter().map(|row| version_entry(&Row(row))).collect()
}

pub(crate) async fn list_invocations(
    pool: &PgPool,
    function: FunctionId,
    page: InvocationPage,
) -> Result<Vec<Invocation>, StoreError> {
    let query = sqlx::query(INVOCATIONS)
        .bind(function.as_uuid())
        .bind(page.status.map(impuls_domain::InvocationStatus::as_str))
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset));
    let rows = bounded("listing invocation records", query.fetch_all(pool)).await?;
    rows.iter().map(|row| invocation(&Row(row))).collect()
}
