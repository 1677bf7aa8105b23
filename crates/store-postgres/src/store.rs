//! The back end.

mod clock;
mod nodes;
mod queue;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use impuls_domain::{
    Alias, AliasName, ArtifactDigest, Function, FunctionId, Invocation, Revision, VersionNumber,
};
use impuls_store::rows::{AliasRow, FunctionRow, InvocationRow, RevisionRow, micros};
use impuls_store::{
    BuildStore, FunctionKey, FunctionPage, FunctionSnapshot, FunctionStore, InvocationPage, InvocationStore,
    ListedFunctions, StoreError, VersionEntry, VersionStore,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use time::OffsetDateTime;

use crate::append::Append;
use crate::changes::Changes;
use crate::connection::Connection;
use crate::error::{PostgresError, code};
use crate::queue::Accept;
use crate::queue::delivery::End;
use crate::together::Groups;
use crate::transaction::{STATEMENT_TIMEOUT, alone, transact};
use crate::write::{Create, Delete, DeleteAlias, Deploy, PutAlias, PutBuild};
use crate::{read, schema};

/// The oldest server, as it numbers itself: 12.
const OLDEST_SERVER: i32 = 120_000;
/// How long one migration may take, another server's that is waited for included.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// The connections of nodes that say that they live and read which others do, beside all others.
const HEARTBEATS: u32 = 2;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(300);
/// How long any connection is kept, so that a server that was moved is found again.
const LIFETIME: Duration = Duration::from_secs(1_800);
/// How long an unused connection may take to say that it is alive.
const ALIVE: Duration = Duration::from_secs(1);
/// How long one may take that was used: it may have to undo a transaction, or to end a query that nobody waits for any more.
const IN_ORDER: Duration = Duration::from_secs(3);
/// How long the server lets a transaction wait for us, should this process hang.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);

/// How the store uses its database.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which database.
    pub connection: Connection,
    /// The most connections at once; a request more waits as long as making a connection may take. Default 10.
    pub pool_size: u32,
    /// Whether missing or old tables are made. Default true.
    pub migrate: bool,
}

impl Config {
    /// The defaults for this database.
    #[must_use]
    pub const fn new(connection: Connection) -> Self {
        Self { connection, pool_size: 10, migrate: true }
    }
}

/// Functions, versions, invocations and schedules in a PostgreSQL database, which several servers may share. What returned `Ok`
/// is committed. Instants are kept to the microsecond. While the database cannot be reached, every call fails after the
/// connection's timeout (accepting an asynchronous invocation and storing its end after at most twice that), and calls
/// succeed again once it can. Where the connection breaks during a commit, a call fails although it may have happened.
/// Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    /// For what must not wait behind anything: that a node lives, and which nodes do. Without nodes it is never used.
    heartbeats: PgPool,
    /// What is asked for at the same time is made together.
    accepts: Arc<Groups<Accept>>,
    ends: Arc<Groups<End>>,
}

impl PostgresStore {
    /// Connects, looks whether this is a database that can be used, and brings its tables up to date, under a lock that
    /// holds off other servers which start at the same time. Must run within a Tokio runtime, which from then on makes
    /// groups of invocations.
    pub async fn open(config: Config) -> Result<Self, StoreError> {
        let opening = |error: PostgresError| error.during("opening the database");
        let (options, mut connection) = connect(&config.connection).await.map_err(opening)?;
        check_server(&mut connection).await.map_err(opening)?;
        prepare(&mut connection, MIGRATION_TIMEOUT).await.map_err(|error| opening(error.into()))?;
        schema::ensure(&mut connection, config.migrate).await.map_err(opening)?;
        // It has done its work; an unclean end harms nobody.
        drop(connection.close().await);
        let patience = config.connection.timeout();
        let open = |size| pool(size, patience).connect_lazy_with(options.clone());
        let (pool, heartbeats) = (open(config.pool_size.max(1)), open(HEARTBEATS));
        let accepts = Arc::new(Groups::start(pool.clone(), patience));
        let ends = Arc::new(Groups::start(pool.clone(), patience));
        Ok(Self { pool, heartbeats, accepts, ends })
    }

    /// What happens to functions from now on, through whichever server; on a connection of its own beside the pool's.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new((*self.pool.connect_options()).clone())
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Waits for what was asked for and closes all connections; later calls fail. Repeatable.
    pub async fn close(&self) {
        tokio::join!(self.pool.close(), self.heartbeats.close());
    }
}

/// How so many connections are made and kept.
fn pool(size: u32, timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .min_connections(0)
        .max_connections(size)
        .acquire_timeout(timeout)
        .idle_timeout(IDLE)
        .max_lifetime(LIFETIME)
        .after_connect(|connection, _| Box::pin(prepare(connection, STATEMENT_TIMEOUT)))
        // Instead of the pool's own question, which waits for ever.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(answers(connection, ALIVE)))
        .after_release(|connection, _| Box::pin(answers(connection, IN_ORDER)))
}

/// True if the server at the other end answers in time. Where it has vanished without a word, it would otherwise be waited for,
/// and the connection's place in the pool be taken, until TCP gives the connection up: a quarter of an hour.
async fn answers(connection: &mut PgConnection, within: Duration) -> Result<bool, sqlx::Error> {
    let answered = tokio::time::timeout(within, connection.ping()).await;
    answered.map_err(|late| std::io::Error::new(std::io::ErrorKind::TimedOut, late))??;
    Ok(true)
}

/// Makes the first connection, and says how the others are made.
async fn connect(connection: &Connection) -> Result<(PgConnectOptions, PgConnection), PostgresError> {
    let at = connection.place();
    let mut attempts = connection.attempts().into_iter().peekable();
    while let Some(options) = attempts.next() {
        let made = tokio::time::timeout(connection.timeout(), options.connect()).await;
        match made {
            Ok(Ok(made)) => return Ok((options, made)),
            Ok(Err(sqlx::Error::Database(_))) if attempts.peek().is_some() => {}
            Ok(Err(error)) => return Err(connect_failed(at, error)),
            Err(_) => break,
        }
    }
    Err(PostgresError::Silent { at, seconds: connection.timeout().as_secs() })
}

fn connect_failed(at: String, source: sqlx::Error) -> PostgresError {
    match source {
        sqlx::Error::Tls(_) => PostgresError::Tls { at, source },
        sqlx::Error::Io(ref error) if is_tls(error) => PostgresError::Tls { at, source },
        sqlx::Error::Io(_) => PostgresError::Unreachable { at, source },
        // While it starts or stops: https://www.postgresql.org/docs/current/errcodes-appendix.html
        sqlx::Error::Database(_) if code(&source).is_some_and(|code| code.starts_with("57P")) => {
            PostgresError::Unreachable { at, source }
        }
        sqlx::Error::Database(_) => PostgresError::Refused { at, source },
        other => other.into(),
    }
}

/// A failed handshake comes as an input or output error that holds invalid data.
fn is_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

async fn check_server(connection: &mut PgConnection) -> Result<(), PostgresError> {
    let (number, found, encoding): (i32, String, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
         current_setting('server_encoding')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if number < OLDEST_SERVER {
        return Err(PostgresError::TooOld { found });
    }
    if encoding != "UTF8" {
        return Err(PostgresError::Encoding { found: encoding });
    }
    Ok(())
}

/// What holds in every connection, whatever the database's defaults are.
async fn prepare(connection: &mut PgConnection, statement: Duration) -> Result<(), sqlx::Error> {
    let statements = format!(
        "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        statement.as_millis(),
        IDLE_IN_TRANSACTION.as_millis(),
    );
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
}

#[async_trait]
impl FunctionStore for PostgresStore {
    async fn create_function(&self, function: &Function, revision: &Revision) -> Result<(), StoreError> {
        let (function, revision) = (FunctionRow::from_domain(function), RevisionRow::from_domain(revision)?);
        transact(&self.pool, "creating a function", &Create { function, revision }).await
    }

    async fn deploy_revision(
        &self,
        expected: &Function,
        function: &Function,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        let deploy = Deploy {
            expected: FunctionRow::from_domain(expected),
            function: FunctionRow::from_domain(function),
            revision: RevisionRow::from_domain(revision)?,
        };
        transact(&self.pool, "deploying a revision", &deploy).await
    }

    async fn find_function(&self, key: &FunctionKey) -> Result<Option<FunctionSnapshot>, StoreError> {
        read::find_function(&self.pool, key).await
    }

    async fn list_functions(&self, page: FunctionPage) -> Result<ListedFunctions, StoreError> {
        read::list_functions(&self.pool, page).await
    }

    async fn count_functions(&self) -> Result<u64, StoreError> {
        read::count_functions(&self.pool).await
    }

    async fn delete_function(&self, id: FunctionId) -> Result<bool, StoreError> {
        transact(&self.pool, "deleting a function", &Delete(id.as_uuid())).await
    }
}

#[async_trait]
impl VersionStore for PostgresStore {
    async fn find_version(
        &self,
        function: FunctionId,
        number: VersionNumber,
    ) -> Result<Option<VersionEntry>, StoreError> {
        read::find_version(&self.pool, function, number).await
    }

    async fn list_versions(
        &self,
        function: FunctionId,
        before: Option<VersionNumber>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, StoreError> {
        read::list_versions(&self.pool, function, before, limit).await
    }

    async fn put_alias(&self, function: FunctionId, alias: &Alias) -> Result<(), StoreError> {
        let put = PutAlias { function: function.as_uuid(), alias: AliasRow::from_domain(alias) };
        transact(&self.pool, "writing an alias", &put).await
    }

    async fn delete_alias(&self, function: FunctionId, name: &AliasName) -> Result<bool, StoreError> {
        let delete = DeleteAlias { function: function.as_uuid(), name: name.as_str() };
        transact(&self.pool, "deleting an alias", &delete).await
    }
}

#[async_trait]
impl BuildStore for PostgresStore {
    async fn find_build(&self, key: &ArtifactDigest) -> Result<Option<ArtifactDigest>, StoreError> {
        read::find_build(&self.pool, key).await
    }

    async fn put_build(
        &self,
        key: &ArtifactDigest,
        archive: &ArtifactDigest,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let put = PutBuild { key: *key.as_bytes(), archive: *archive.as_bytes(), at: micros(at) };
        alone(&self.pool, "noting a build", &put).await
    }
}

#[async_trait]
impl InvocationStore for PostgresStore {
    async fn append_invocations(&self, batch: &[Invocation], keep: u32) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let rows = batch.iter().map(InvocationRow::from_domain).collect();
        transact(&self.pool, "writing invocation records", &Append { rows, keep }).await
    }

    async fn list_invocations(
        &self,
        function: FunctionId,
        page: InvocationPage,
    ) -> Result<Vec<Invocation>, StoreError> {
        read::list_invocations(&self.pool, function, page).await
    }
}
