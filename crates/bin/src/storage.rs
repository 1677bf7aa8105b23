//! The metadata store that the settings choose. Everybody else knows the seams alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use impuls_artifacts::ArtifactStore;
use impuls_cli::{DatabaseConfig, ServeConfig};
use impuls_queue::InvocationQueue;
use impuls_store::{
    AsyncInvocationStore, BuildStore, ClockStore, DeliveryStore, FunctionStore, InvocationStore, NodeStore,
    RetentionStore, ScheduleStore, Transfer as _, VersionStore,
};
use impuls_store_file::FileStore;
use impuls_store_postgres::{Changes, Config as PostgresConfig, Connection, PostgresStore};
use impuls_store_sqlite::SqliteStore;
use parking_lot::Mutex;

use crate::offers;
use crate::place::refuse_half;

/// The name of the file in the data folder.
pub(crate) const SQLITE_FILE: &str = "impuls.db";
/// The name of the tree's folder in the data folder.
pub(crate) const TREE: &str = "functions";
pub(crate) const SQLITE: &str = "sqlite";
pub(crate) const FILE: &str = "file";
pub(crate) const POSTGRES: &str = "postgres";

/// One back end by each of its seams.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) functions: Arc<dyn FunctionStore>,
    pub(crate) versions: Arc<dyn VersionStore>,
    pub(crate) invocations: Arc<dyn InvocationStore>,
    pub(crate) builds: Arc<dyn BuildStore>,
    pub(crate) queue: Arc<dyn AsyncInvocationStore>,
    pub(crate) deliveries: Arc<dyn DeliveryStore>,
    pub(crate) schedules: Arc<dyn ScheduleStore>,
    pub(crate) retention: Arc<dyn RetentionStore>,
    pub(crate) clock: Arc<dyn ClockStore>,
    /// What tells servers of asynchronous calls; `None` is this server's memory.
    pub(crate) offers: Option<Arc<dyn InvocationQueue>>,
    back_end: BackEnd,
    /// Where the functions are shown as files as well.
    tree: Option<PathBuf>,
}

#[derive(Clone)]
enum BackEnd {
    Sqlite(SqliteStore),
    /// With what says to others that the database is used, until somebody takes it.
    Postgres(PostgresStore, Arc<Mutex<Option<Changes>>>),
}

impl Storage {
    /// Opens the store that is configured; what it cannot be opened for says what to do.
    pub(crate) async fn open(config: &ServeConfig, data: &Path) -> anyhow::Result<Self> {
        let back_end = match config.storage.as_str() {
            POSTGRES => use_postgres(&config.database).await?,
            _ => {
                let store = SqliteStore::open(&data.join(SQLITE_FILE)).await;
                BackEnd::Sqlite(store.context("cannot open the metadata store")?)
            }
        };
        if let BackEnd::Sqlite(store) = &back_end {
            refuse_half(store.find_filling().await?)?;
        }
        let storage = match &back_end {
            BackEnd::Sqlite(store) => Self::of(Arc::new(store.clone()), back_end),
            BackEnd::Postgres(store, _) => Self::of(Arc::new(store.clone()), back_end),
        };
        Ok(Self { offers: offers::open(&config.redis)?, tree: tree(config, data)?, ..storage })
    }

    /// The same, with the functions shown as files if that is wanted; what is shown of their code is in `artifacts`.
    pub(crate) fn with_tree(
        self,
        artifacts: Arc<dyn ArtifactStore>,
    ) -> anyhow::Result<(Self, Option<FileStore>)> {
        let Some(folder) = &self.tree else { return Ok((self, None)) };
        let tree = FileStore::open(self.functions.clone(), artifacts, folder);
        let tree = tree.context("cannot open the folder of functions")?;
        Ok((Self { functions: Arc::new(tree.clone()), ..self }, Some(tree)))
    }

    fn of<S>(store: Arc<S>, back_end: BackEnd) -> Self
    where
        S: FunctionStore + VersionStore + InvocationStore + BuildStore,
        S: AsyncInvocationStore + DeliveryStore + ScheduleStore + RetentionStore + ClockStore,
    {
        Self {
            functions: store.clone(),
            versions: store.clone(),
            invocations: store.clone(),
            builds: store.clone(),
            queue: store.clone(),
            deliveries: store.clone(),
            schedules: store.clone(),
            retention: store.clone(),
            clock: store,
            offers: None,
            back_end,
            tree: None,
        }
    }

    /// Which store it is: a number that no other has.
    pub(crate) async fn identity(&self) -> anyhow::Result<String> {
        let id = match &self.back_end {
            BackEnd::Sqlite(store) => store.identity().await?,
            BackEnd::Postgres(store, _) => store.identity().await?,
        };
        Ok(id.to_string())
    }

    /// Whether other servers may use the store at the same time, so that what runs may be theirs.
    pub(crate) const fn is_shared(&self) -> bool {
        match self.back_end {
            BackEnd::Sqlite(_) => false,
            BackEnd::Postgres(..) => true,
        }
    }

    /// Where nodes say that they are there, if several can use the store.
    pub(crate) fn nodes(&self) -> Option<Arc<dyn NodeStore>> {
        match &self.back_end {
            BackEnd::Sqlite(_) => None,
            BackEnd::Postgres(store, _) => Some(Arc::new(store.clone())),
        }
    }

    /// What other servers change, if they can.
    pub(crate) fn changes(&self) -> Option<Changes> {
        match &self.back_end {
            BackEnd::Sqlite(_) => None,
            BackEnd::Postgres(store, begun) => Some(begun.lock().take().unwrap_or_else(|| store.changes())),
        }
    }

    /// Finishes what was asked for and closes the store.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        match &self.back_end {
            BackEnd::Sqlite(store) => store.close().await.context("cannot close the metadata store"),
            BackEnd::Postgres(store, _) => {
                store.close().await;
                Ok(())
            }
        }
    }
}

/// Refuses a storage that there is not, or that cannot be reached with what was said; before anything is started.
pub(crate) fn check(config: &ServeConfig) -> anyhow::Result<()> {
    offers::check(&config.redis)?;
    match config.storage.as_str() {
        SQLITE | FILE => Ok(()),
        POSTGRES => connection(&config.database).map(drop),
        other => unknown(other),
    }
}

/// `impuls store schema`: the text to print.
pub(crate) fn schema(storage: &str) -> anyhow::Result<String> {
    match storage {
        // Its other names, as for the server.
        SQLITE | FILE | "local" => Ok(impuls_store_sqlite::schema_sql()),
        POSTGRES | "postgresql" => Ok(impuls_store_postgres::schema_sql()),
        other => unknown(other),
    }
}

/// Where functions are shown as files, if they are: because somebody says so, or because they are there and nobody says
/// otherwise.
fn tree(config: &ServeConfig, data: &Path) -> anyhow::Result<Option<PathBuf>> {
    let folder = data.join(TREE);
    if config.storage == FILE {
        return Ok(Some(folder));
    }
    if config.storage != SQLITE || !FileStore::is_at(&folder) {
        return Ok(None);
    }
    if config.storage_is_default {
        tracing::info!(folder = %folder.display(), "there are functions as files, so this server has storage file");
        return Ok(Some(folder));
    }
    FileStore::mark_stale(&folder).context("cannot write to the folder of functions")?;
    tracing::warn!(
        folder = %folder.display(),
        "storage sqlite: the functions that are there as files are not kept up to date; a server with storage file writes them anew"
    );
    Ok(None)
}

fn unknown<T>(storage: &str) -> anyhow::Result<T> {
    bail!("storage {storage:?} is not supported; those that are: {SQLITE}, {FILE}, {POSTGRES}")
}

pub(crate) fn connection(database: &DatabaseConfig) -> anyhow::Result<Connection> {
    let text = database.connection.as_ref().context(
        "storage postgres needs a database: give --db-conn postgres://user:password@host/database, or IMPULS_DB_CONN",
    )?;
    text.parse().context("--db-conn, or the variable that stands for it, is not valid")
}

/// A database that nobody fills from now on.
async fn use_postgres(database: &DatabaseConfig) -> anyhow::Result<BackEnd> {
    let store = open_postgres(database).await?;
    let mut changes = store.changes();
    let begun = changes.begin().await;
    // What fills it, or did so until it was cut off, is the better reason.
    refuse_half(store.find_filling().await?)?;
    begun.context("cannot use the metadata store")?;
    Ok(BackEnd::Postgres(store, Arc::new(Mutex::new(Some(changes)))))
}

async fn open_postgres(database: &DatabaseConfig) -> anyhow::Result<PostgresStore> {
    let defaults = PostgresConfig::new(connection(database)?);
    let config = PostgresConfig {
        pool_size: database.pool.unwrap_or(defaults.pool_size),
        migrate: !database.no_auto_migrate,
        ..defaults
    };
    PostgresStore::open(config).await.context("cannot open the metadata store")
}
