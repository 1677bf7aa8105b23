//! The SQLite back end keeps every promise of the seam.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use impuls_store_sqlite::SqliteStore;
use tempfile::TempDir;

struct Scratch {
    store: SqliteStore,
    _folder: TempDir,
}

impl AsRef<SqliteStore> for Scratch {
    fn as_ref(&self) -> &SqliteStore {
        &self.store
    }
}

async fn open() -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("impuls.db")).await.unwrap();
    Scratch { store, _folder: folder }
}

mod function {
    impuls_store::function_store_conformance!(super::open);
}

mod version {
    impuls_store::version_store_conformance!(super::open);
}

mod builds {
    impuls_store::build_store_conformance!(super::open);
}

mod invocation {
    impuls_store::invocation_store_conformance!(super::open);
}

mod async_invocation {
    impuls_store::async_invocation_store_conformance!(super::open);
}

mod schedule {
    impuls_store::schedule_store_conformance!(super::open);
}

mod transfer {
    impuls_store::transfer_conformance!(super::open);
}
