//! Removing what nothing needs any more.

use impuls_store::rows::Key;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::Refusal;

/// Versions in one statement; a list may have many more variables.
const CHUNK: usize = 500;

/// What is to go.
#[derive(Debug)]
pub(crate) enum RetentionWork {
    /// Versions of a function.
    Versions(Key, Vec<i64>),
    /// At most so many builds that were noted before.
    Builds(i64, u32),
}

/// Removes it; says how much there was.
pub(super) async fn apply(connection: &mut SqliteConnection, work: &RetentionWork) -> Result<u64, Refusal> {
    match work {
        RetentionWork::Versions(function, numbers) => {
            let mut gone = 0;
            for numbers in numbers.chunks(CHUNK) {
                gone += delete_versions(connection, function, numbers).await?;
            }
            Ok(gone)
        }
        RetentionWork::Builds(before, limit) => {
            let done = sqlx::query(
                "DELETE FROM builds WHERE key IN (SELECT key FROM builds WHERE created_at < ? LIMIT ?)",
            );
            Ok(done.bind(before).bind(limit).execute(connection).await?.rows_affected())
        }
    }
}

/// A revision takes its version along.
async fn delete_versions(
    connection: &mut SqliteConnection,
    function: &Key,
    numbers: &[i64],
) -> Result<u64, Refusal> {
    let id = function.to_vec();
    let mut query = QueryBuilder::<Sqlite>::new(
        "DELETE FROM revisions WHERE id IN (SELECT v.revision FROM versions v JOIN functions f ON f.id = v.function \
         WHERE v.revision <> f.latest AND v.number <> f.latest_version AND v.function = ",
    );
    query.push_bind(id).push(" AND v.number IN (");
    let mut list = query.separated(", ");
    for number in numbers {
        list.push_bind(*number);
    }
    query.push(
        ") AND NOT EXISTS (SELECT 1 FROM alias_targets t WHERE t.function = v.function AND t.version = v.number) \
         AND NOT EXISTS (SELECT 1 FROM async_invocations i WHERE i.function = v.function \
             AND i.qualifier = CAST(v.number AS TEXT)) \
         AND NOT EXISTS (SELECT 1 FROM schedules s WHERE s.function = v.function \
             AND s.qualifier = CAST(v.number AS TEXT))",
    );
    // As destinations are written: ["<function>","<version>"].
    let told = format!("%\"{}\",\"", Uuid::from_bytes(*function));
    for table in ["async_settings", "async_invocations"] {
        query.push(format!(" AND NOT EXISTS (SELECT 1 FROM {table} d WHERE d.destinations LIKE "));
        query.push_bind(told.clone()).push(" || v.number || '\"%')");
    }
    query.push(")");
    Ok(query.build().execute(connection).await?.rows_affected())
}
