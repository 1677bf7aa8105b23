//! The back end.

mod clock;
mod queue;
mod retention;

use std::path::Path;
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
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;
use time::OffsetDateTime;

use crate::error::SqliteError;
use crate::read;
use crate::schema;
use crate::writer::{Work, Writer};

/// Connections that read at once; a reader more waits.
const READERS: u32 = 3;
/// How long a reader waits for a connection.
const READER_WAIT: Duration = Duration::from_secs(10);
/// How long an unused reading connection keeps its thread and its cache.
const READER_IDLE: Duration = Duration::from_secs(60);

/// Functions, versions and invocations in one SQLite file with a write-ahead log. What returned `Ok` survives
/// the end of the process and of the machine. Instants are kept to the microsecond. Cheap to clone; clones share
/// the file.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    path: Arc<Path>,
}

impl SqliteStore {
    /// Opens the database, makes it if it is missing (its folder must exist), and brings its tables up to date.
    /// Must run within a Tokio runtime, which from then on drives the writer. One process at a time.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let opening = |error: SqliteError| error.during("opening the database");
        let writer = schema::open_writer(path).await.map_err(opening)?;
        let readers = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(READERS)
            .acquire_timeout(READER_WAIT)
            .idle_timeout(READER_IDLE)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(schema::reader_options(path));
        Ok(Self { writer: Writer::start(writer), readers, path: path.into() })
    }

    pub(crate) const fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes what was asked for, folds the log into the database file and closes it; later calls fail.
    /// Repeatable.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        self.writer.close().await
    }
}

#[async_trait]
impl FunctionStore for SqliteStore {
    async fn create_function(&self, function: &Function, revision: &Revision) -> Result<(), StoreError> {
        let work =
            Work::Create(Box::new((FunctionRow::from_domain(function), RevisionRow::from_domain(revision)?)));
        self.writer.run(work, "creating a function").await.map(drop)
    }

    async fn deploy_revision(
        &self,
        expected: &Function,
        function: &Function,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        let rows = (
            FunctionRow::from_domain(expected),
            FunctionRow::from_domain(function),
            RevisionRow::from_domain(revision)?,
        );
        self.writer.run(Work::Deploy(Box::new(rows)), "deploying a revision").await.map(drop)
    }

    async fn find_function(&self, key: &FunctionKey) -> Result<Option<FunctionSnapshot>, StoreError> {
        read::find_function(&self.readers, key).await
    }

    async fn list_functions(&self, page: FunctionPage) -> Result<ListedFunctions, StoreError> {
        read::list_functions(&self.readers, page).await
    }

    async fn count_functions(&self) -> Result<u64, StoreError> {
        read::count_functions(&self.readers).await
    }

    async fn delete_function(&self, id: FunctionId) -> Result<bool, StoreError> {
        let work = Work::Delete(*id.as_uuid().as_bytes());
        self.writer.run(work, "deleting a function").await.map(|gone| gone > 0)
    }
}

#[async_trait]
impl BuildStore for SqliteStore {
    async fn find_build(&self, key: &ArtifactDigest) -> Result<Option<ArtifactDigest>, StoreError> {
        read::find_build(&self.readers, key).await
    }

    async fn put_build(
        &self,
        key: &ArtifactDigest,
        archive: &ArtifactDigest,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let work = Work::PutBuild(*key.as_bytes(), *archive.as_bytes(), micros(at));
        self.writer.run(work, "noting a build").await.map(drop)
    }
}

#[async_trait]
impl VersionStore for SqliteStore {
    async fn find_version(
        &self,
        function: FunctionId,
        number: VersionNumber,
    ) -> Result<Option<VersionEntry>, StoreError> {
        read::find_version(&self.readers, function, number).await
    }

    async fn list_versions(
        &self,
        function: FunctionId,
        before: Option<VersionNumber>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, StoreError> {
        read::list_versions(&self.readers, function, before, limit).await
    }

    async fn put_alias(&self, function: FunctionId, alias: &Alias) -> Result<(), StoreError> {
        let work = Work::PutAlias(*function.as_uuid().as_bytes(), AliasRow::from_domain(alias));
        self.writer.run(work, "writing an alias").await.map(drop)
    }

    async fn delete_alias(&self, function: FunctionId, name: &AliasName) -> Result<bool, StoreError> {
        let work = Work::DeleteAlias(*function.as_uuid().as_bytes(), name.as_str().to_owned());
        self.writer.run(work, "deleting an alias").await.map(|gone| gone > 0)
    }
}

#[async_trait]
impl InvocationStore for SqliteStore {
    async fn append_invocations(&self, batch: &[Invocation], keep: u32) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let rows = batch.iter().map(InvocationRow::from_domain).collect();
        self.writer.run(Work::Append(rows, keep), "writing invocation records").await.map(drop)
    }

    async fn list_invocations(
        &self,
        function: FunctionId,
        page: InvocationPage,
    ) -> Result<Vec<Invocation>, StoreError> {
        read::list_invocations(&self.readers, function, page).await
    }
}
