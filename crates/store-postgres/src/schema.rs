//! Brings the tables of a database up to date, once, however many servers start at the same time.

use std::fmt::Write as _;

use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr as _};

use crate::error::{PostgresError, code};

const MIGRATIONS_TABLE: &str = "impuls_migrations";
/// Held while tables are made by hand; the servers' own lock is the migrator's.
const SCRIPT_LOCK: i64 = 0x696d_7075_6c73;

fn migrations() -> Migrator {
    let simple = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        simple(
            1,
            "functions versions invocations",
            include_str!("../migrations/0001_functions_versions_invocations.sql"),
        ),
        simple(
            2,
            "async invocations and schedules",
            include_str!("../migrations/0002_async_invocations_and_schedules.sql"),
        ),
        simple(3, "nodes", include_str!("../migrations/0003_nodes.sql")),
        simple(4, "due by function", include_str!("../migrations/0004_due_by_function.sql")),
        simple(6, "filling", include_str!("../migrations/0006_filling.sql")),
        simple(7, "identity", include_str!("../migrations/0007_identity.sql")),
    ]);
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
}

/// The statements that make all tables in an empty database, or those that an older one lacks; for `psql`, as often as
/// one likes. A server finds afterwards that there is nothing left to do.
#[must_use]
pub fn schema_sql() -> String {
    let mut script = format!(
        "-- The tables of Impuls in PostgreSQL 12 and later. Can be run again: what is there is left as it is.\n\
         BEGIN;\n\
         SELECT pg_advisory_xact_lock({SCRIPT_LOCK});\n\
         CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (\n    \
             version BIGINT PRIMARY KEY,\n    \
             description TEXT NOT NULL,\n    \
             installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),\n    \
             success BOOLEAN NOT NULL,\n    \
             checksum BYTEA NOT NULL,\n    \
             execution_time BIGINT NOT NULL\n\
         );\n"
    );
    for migration in migrations().iter() {
        let Migration { version, description, checksum, .. } = migration;
        let sum = checksum.iter().fold(String::new(), |sum, byte| sum + &format!("{byte:02x}"));
        // Writing to a string cannot fail.
        let _ = write!(
            script,
            "\nDO $impuls$ BEGIN\n\
             IF NOT EXISTS (SELECT FROM {MIGRATIONS_TABLE} WHERE version = {version}) THEN\n\n\
             {sql}\n\
             INSERT INTO {MIGRATIONS_TABLE} (version, description, success, checksum, execution_time)\n    \
                 VALUES ({version}, '{description}', TRUE, '\\x{sum}', 0);\n\
             END IF;\n\
             END $impuls$;\n",
            sql = migration.sql.as_str(),
        );
    }
    script + "\nCOMMIT;\n"
}

/// Makes the tables what this program needs, or says why they are not.
pub(crate) async fn ensure(connection: &mut PgConnection, may_migrate: bool) -> Result<(), PostgresError> {
    let migrator = migrations();
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    let applied = applied(connection).await?;
    let found = applied.iter().copied().max().unwrap_or_default();
    if found > known {
        return Err(PostgresError::Newer { found, known });
    }
    // A user who may not make tables can use those that are there.
    if migrator.iter().all(|migration| applied.contains(&migration.version)) {
        return Ok(());
    }
    if !may_migrate {
        return Err(PostgresError::Outdated { found, known });
    }
    migrator.run_direct(None, connection, false).await.map_err(|source| match &source {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if is_denied(error) => {
            PostgresError::NoRights { known, source }
        }
        _ => PostgresError::Migrate(source),
    })
}

/// The migrations that the database has had.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, PostgresError> {
    let table: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text")
        .bind(MIGRATIONS_TABLE)
        .fetch_one(&mut *connection)
        .await?;
    if table.is_none() {
        return Ok(Vec::new());
    }
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await;
    Ok(applied.map_err(PostgresError::Migrate)?.iter().map(|migration| migration.version).collect())
}

fn is_denied(error: &sqlx::Error) -> bool {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    code(error).is_some_and(|code| code == INSUFFICIENT_PRIVILEGE)
}
