//! Stores that are opened to be read or filled as a whole.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use impuls_artifacts::{ArtifactStore, LocalArtifacts};
use impuls_cli::{ArtifactsConfig, ServeArgs, ServeConfig, StoreArgs};
use impuls_store::{Filling, FunctionStore, Hold, Snapshot, Transfer as _};
use impuls_store_file::FileStore;
use impuls_store_postgres::{Config as PostgresConfig, Connection, PostgresStore};
use impuls_store_sqlite::SqliteStore;
use impuls_transfer::Target;

use crate::artifacts::{self, Code};
use crate::serve::lock;
use crate::storage::{self, SQLITE_FILE, TREE};

/// Where a store is.
pub(crate) struct Place {
    kind: Kind,
    code: Code,
}

enum Kind {
    /// In this data folder, and whether functions are shown as files.
    Sqlite(PathBuf, bool),
    Postgres(Box<Database>),
}

struct Database {
    connection: Connection,
    /// Whether tables that are missing or old may be made where the store is filled.
    may_migrate: bool,
}

impl Database {
    async fn open(&self, may_migrate: bool) -> anyhow::Result<PostgresStore> {
        let config = PostgresConfig { migrate: may_migrate, ..PostgresConfig::new(self.connection.clone()) };
        Ok(PostgresStore::open(config).await?)
    }
}

/// What it is called, without a password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Sqlite(folder, false) => write!(f, "sqlite:{}", folder.display()),
            Kind::Sqlite(folder, true) => write!(f, "file:{}", folder.display()),
            Kind::Postgres(database) => write!(f, "PostgreSQL at {}", database.connection.place()),
        }
    }
}

impl Place {
    /// The place of a text: `sqlite:DIR`, `file:DIR` or a PostgreSQL URL. `flag` is how the place of code is given.
    pub(crate) fn parse(text: &str, artifacts: Option<ArtifactsConfig>, flag: &str) -> anyhow::Result<Self> {
        let in_folder = |folder: &str, as_files| {
            if folder.is_empty() {
                bail!("{text:?} names no folder; write sqlite:DIR or file:DIR with a server's data folder");
            }
            let folder = std::path::absolute(folder)?;
            let code = Code::of(artifacts.clone().unwrap_or_default(), &folder);
            Ok(Self { kind: Kind::Sqlite(folder, as_files), code })
        };
        if let Some(folder) = text.strip_prefix("sqlite:") {
            return in_folder(folder, false);
        }
        if let Some(folder) = text.strip_prefix("file:") {
            return in_folder(folder, true);
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            bail!("this is no store; write sqlite:DIR, file:DIR or postgres://user:password@host/database");
        }
        let connection = text.parse().context("the PostgreSQL URL is not valid")?;
        let Some(artifacts) = artifacts else {
            bail!("a PostgreSQL database has no code in it; say with {flag} DIR where the code is");
        };
        let database = Database { connection, may_migrate: true };
        Ok(Self { kind: Kind::Postgres(Box::new(database)), code: Code::of(artifacts, Path::new("")) })
    }

    /// The place that a server with these flags and variables would use.
    pub(crate) fn of_server(args: StoreArgs) -> anyhow::Result<Self> {
        let config = ServeArgs::from(args).load()?;
        storage::check(&config)?;
        let folder = std::path::absolute(config.data_dir.choose()?)?;
        let kind = Self::kind(&config, &folder)?;
        Ok(Self { kind, code: Code::of(config.artifacts, &folder) })
    }

    fn kind(config: &ServeConfig, folder: &Path) -> anyhow::Result<Kind> {
        if config.storage == storage::POSTGRES {
            let connection = storage::connection(&config.database)?;
            let may_migrate = !config.database.no_auto_migrate;
            return Ok(Kind::Postgres(Box::new(Database { connection, may_migrate })));
        }
        let as_files = config.storage == storage::FILE
            || config.storage_is_default && FileStore::is_at(&folder.join(TREE));
        Ok(Kind::Sqlite(folder.to_owned(), as_files))
    }

    /// Whether both are the same database or the same folder.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Sqlite(one, _), Kind::Sqlite(two, _)) => {
                let real = |folder: &PathBuf| folder.canonicalize().unwrap_or_else(|_| folder.clone());
                real(one) == real(two)
            }
            (Kind::Postgres(one), Kind::Postgres(two)) => one.connection.place() == two.connection.place(),
            (Kind::Sqlite(..), Kind::Postgres(_)) | (Kind::Postgres(_), Kind::Sqlite(..)) => false,
        }
    }

    /// Everything as it is now. The store's server may run, unless `alone`: then what it would still change is no
    /// part of it. The lock lives as long as nobody else may use the folder.
    pub(crate) async fn read(&self, alone: bool) -> anyhow::Result<Reading> {
        let artifacts = self.open_artifacts(false).await?;
        let (mut state, lock, hold) = match &self.kind {
            Kind::Sqlite(folder, _) => {
                let path = folder.join(SQLITE_FILE);
                if !path.is_file() {
                    bail!("{} is no store: there is no {SQLITE_FILE} in it", folder.display());
                }
                let lock = if alone {
                    let lock = lock(folder).context("stop the server first")?;
                    // Tables of an older server are brought up to date, which changes nothing of what they have.
                    SqliteStore::open(&path).await?.close().await?;
                    Some(lock)
                } else {
                    // Beside a server nothing is opened that writes, or waits for whoever reads.
                    None
                };
                (SqliteStore::snapshot_of(&path).await?, lock, None)
            }
            Kind::Postgres(database) => {
                // Whoever only reads changes no tables, which older servers may be using.
                let store = database.open(false).await?;
                let hold = if alone { Some(self.hold(&store).await?) } else { None };
                (store.snapshot().await?, None, hold)
            }
        };
        refuse_half(state.find_filling().await?)?;
        // Two machines have stores at the same place.
        let name = format!("{self} (store {})", state.identity().await?);
        Ok(Reading { name, state, artifacts, _lock: lock, _hold: hold })
    }

    /// Keeps servers, and others like this, away from a database.
    async fn hold(&self, store: &PostgresStore) -> anyhow::Result<Box<dyn Send>> {
        match store.hold().await? {
            Hold::Held(hold) => Ok(hold),
            Hold::Servers(users) => {
                bail!("{users} servers use {self}; stop them first, or what they still change would be lost")
            }
            Hold::Taken => {
                bail!("another `impuls migrate` or `impuls restore` uses {self}; wait until that has ended")
            }
        }
    }

    /// The store to be filled; what is missing of it is made.
    pub(crate) async fn write(&self) -> anyhow::Result<Writing> {
        match &self.kind {
            Kind::Sqlite(folder, as_files) => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
                made.with_context(|| format!("cannot make {}", folder.display()))?;
                let lock = lock(folder)?;
                let artifacts = self.open_artifacts(true).await?;
                let store = SqliteStore::open(&folder.join(SQLITE_FILE)).await?;
                let functions: Arc<dyn FunctionStore> = Arc::new(store.clone());
                let tree = folder.join(TREE);
                // The next server would take them for edits, whatever kind of store it is told to have.
                let files = FileStore::is_at(&tree).then(|| tree.clone());
                let target = Target { rows: Arc::new(store.clone()), functions, artifacts, files };
                let tree = as_files.then_some(tree);
                Ok(Writing { target, tree, sqlite: Some(store), _lock: Some(lock) })
            }
            Kind::Postgres(database) => {
                let artifacts = self.open_artifacts(true).await?;
                let store = Arc::new(database.open(database.may_migrate).await?);
                let target = Target { rows: store.clone(), functions: store, artifacts, files: None };
                Ok(Writing { target, tree: None, sqlite: None, _lock: None })
            }
        }
    }

    async fn open_artifacts(&self, make: bool) -> anyhow::Result<Arc<dyn ArtifactStore>> {
        let folder = match &self.code {
            Code::Folder(folder) => folder,
            Code::Bucket(bucket) => return artifacts::open_bucket(bucket).await,
        };
        if make {
            let parent = folder.parent().unwrap_or(folder);
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            // Servers of other databases may be writing there.
            return Ok(Arc::new(LocalArtifacts::open_shared(folder)?));
        }
        if !folder.is_dir() {
            bail!("{} is no folder of code", folder.display());
        }
        Ok(Arc::new(LocalArtifacts::beside(folder)))
    }
}

/// Refuses a store that is being filled: half of everything looks like everything.
pub(crate) fn refuse_half(filling: Option<Filling>) -> anyhow::Result<()> {
    match filling {
        Some(filling) if filling.ended_at.is_none() => bail!(
            "this store is being filled from {}, and not everything is there; run the same `impuls migrate` or `impuls restore` again to finish that",
            filling.source
        ),
        _ => Ok(()),
    }
}

/// A store that is read.
pub(crate) struct Reading {
    /// What no other store is called.
    pub(crate) name: String,
    pub(crate) state: Box<dyn Snapshot>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    _lock: Option<File>,
    _hold: Option<Box<dyn Send>>,
}

/// A store that is filled.
pub(crate) struct Writing {
    pub(crate) target: Target,
    /// Where its functions are to be shown as files.
    tree: Option<PathBuf>,
    sqlite: Option<SqliteStore>,
    _lock: Option<File>,
}

impl Writing {
    /// Shows the functions as files, if that is wanted.
    pub(crate) async fn write_files(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.tree else { return Ok(()) };
        let tree = FileStore::open(self.target.functions.clone(), self.target.artifacts.clone(), folder)?;
        Ok(tree.write_all().await?)
    }

    /// Finishes what was asked for.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self.sqlite {
            Some(store) => Ok(store.close().await?),
            None => Ok(()),
        }
    }
}
