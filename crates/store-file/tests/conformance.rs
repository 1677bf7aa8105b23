//! Functions that are shown as files keep every promise of the seam.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use impuls_artifacts::LocalArtifacts;
use impuls_domain::{Alias, AliasName, Function, FunctionId, Revision, VersionNumber};
use impuls_store::{
    FunctionKey, FunctionPage, FunctionSnapshot, FunctionStore, ListedFunctions, StoreError, VersionEntry,
    VersionStore,
};
use impuls_store_file::FileStore;
use impuls_store_sqlite::SqliteStore;
use tempfile::TempDir;

/// The functions of a tree and the versions of the store beside it, as a server has them.
struct Both {
    functions: FileStore,
    versions: SqliteStore,
    _folder: TempDir,
}

impl AsRef<Self> for Both {
    fn as_ref(&self) -> &Self {
        self
    }
}

async fn open() -> Both {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("impuls.db")).await.unwrap();
    let artifacts = LocalArtifacts::open(&folder.path().join("artifacts")).unwrap();
    let tree = folder.path().join("functions");
    let functions = FileStore::open(Arc::new(store.clone()), Arc::new(artifacts), &tree).unwrap();
    Both { functions, versions: store, _folder: folder }
}

#[async_trait]
impl FunctionStore for Both {
    async fn create_function(&self, function: &Function, revision: &Revision) -> Result<(), StoreError> {
        self.functions.create_function(function, revision).await
    }

    async fn deploy_revision(
        &self,
        expected: &Function,
        function: &Function,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        self.functions.deploy_revision(expected, function, revision).await
    }

    async fn find_function(&self, key: &FunctionKey) -> Result<Option<FunctionSnapshot>, StoreError> {
        self.functions.find_function(key).await
    }

    async fn list_functions(&self, page: FunctionPage) -> Result<ListedFunctions, StoreError> {
        self.functions.list_functions(page).await
    }

    async fn count_functions(&self) -> Result<u64, StoreError> {
        self.functions.count_functions().await
    }

    async fn delete_function(&self, id: FunctionId) -> Result<bool, StoreError> {
        self.functions.delete_function(id).await
    }
}

#[async_trait]
impl VersionStore for Both {
    async fn find_version(
        &self,
        function: FunctionId,
        number: VersionNumber,
    ) -> Result<Option<VersionEntry>, StoreError> {
        self.versions.find_version(function, number).await
    }

    async fn list_versions(
        &self,
        function: FunctionId,
        before: Option<VersionNumber>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, StoreError> {
        self.versions.list_versions(function, before, limit).await
    }

    async fn put_alias(&self, function: FunctionId, alias: &Alias) -> Result<(), StoreError> {
        self.versions.put_alias(function, alias).await
    }

    async fn delete_alias(&self, function: FunctionId, name: &AliasName) -> Result<bool, StoreError> {
        self.versions.delete_alias(function, name).await
    }
}

mod function {
    impuls_store::function_store_conformance!(super::open);
}

mod version {
    impuls_store::version_store_conformance!(super::open);
}
