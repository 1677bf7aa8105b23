//! Functions, their versions and aliases.

use async_trait::async_trait;
use impuls_domain::{Alias, AliasName, Function, FunctionId, FunctionName, Revision, Scope, VersionNumber};
use time::OffsetDateTime;

use crate::error::StoreError;

/// How a function is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FunctionKey {
    /// By its id.
    Id(FunctionId),
    /// By its name within a scope.
    Name(Scope, FunctionName),
    /// The newest of those that have this name, whatever their scopes.
    NewestNamed(FunctionName),
}

/// A function with what nearly every use of it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSnapshot {
    /// The function.
    pub function: Function,
    /// Its newest revision, the one that `function.latest` names.
    pub latest: Revision,
    /// Its aliases, by name.
    pub aliases: Vec<Alias>,
}

/// Which functions to list: newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionPage {
    /// Only functions created before this one; `None` starts at the newest.
    pub before: Option<FunctionId>,
    /// At most so many.
    pub limit: u32,
}

/// A page of functions. One that this release cannot read hides no other: a newer release may have written it.
#[derive(Debug, Default)]
pub struct ListedFunctions {
    /// Those that can be read.
    pub functions: Vec<FunctionSnapshot>,
    /// Those that cannot, and why: [`StoreError::Damaged`].
    pub unreadable: Vec<(FunctionId, StoreError)>,
    /// The last of both, where the next page begins; `None` if the page is empty.
    pub last: Option<FunctionId>,
}

impl ListedFunctions {
    /// How many there are of both.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.functions.len() + self.unreadable.len()
    }

    /// The functions, where none may be missing: the error of the first that cannot be read.
    pub fn all(self) -> Result<Vec<FunctionSnapshot>, StoreError> {
        match self.unreadable.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.functions),
        }
    }
}

/// A published version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// Its number.
    pub number: VersionNumber,
    /// The revision it stands for.
    pub revision: Revision,
    /// When it was published.
    pub published_at: OffsetDateTime,
}

/// Where functions are kept. What returned `Ok` is durable. Every call is atomic and may be dropped half-way: it
/// then either happened or did not. Instants are kept to the microsecond and compared so; what is below is cut off.
#[async_trait]
pub trait FunctionStore: Send + Sync + 'static {
    /// Adds a function with its first revision, published as `function.latest_version` at
    /// `revision.created_at`. Not repeatable: [`StoreError::NameTaken`] the second time.
    async fn create_function(&self, function: &Function, revision: &Revision) -> Result<(), StoreError>;

    /// Replaces the function's row and adds a revision, published as `function.latest_version`, if the stored
    /// function's `updated_at`, `latest` and `latest_version` still are those of `expected`; else
    /// [`StoreError::Conflict`], as when the new version or revision exists already. [`StoreError::NotFound`] if
    /// the function is gone, [`StoreError::NameTaken`] if its new name belongs to another. Aliases stay. Where
    /// `function.latest` is that of `expected` nothing is published, and `revision` does not matter. Not repeatable: [`StoreError::Conflict`] the second time.
    async fn deploy_revision(
        &self,
        expected: &Function,
        function: &Function,
        revision: &Revision,
    ) -> Result<(), StoreError>;

    /// One function; `None` if there is none.
    async fn find_function(&self, key: &FunctionKey) -> Result<Option<FunctionSnapshot>, StoreError>;

    /// A page of functions of every scope, newest first.
    async fn list_functions(&self, page: FunctionPage) -> Result<ListedFunctions, StoreError>;

    /// How many functions there are.
    async fn count_functions(&self) -> Result<u64, StoreError>;

    /// Removes a function with its revisions, versions, aliases and invocation records; false if there was
    /// none. Repeatable.
    async fn delete_function(&self, id: FunctionId) -> Result<bool, StoreError>;
}

/// Where versions and aliases are kept; the same guarantees as [`FunctionStore`].
#[async_trait]
pub trait VersionStore: Send + Sync + 'static {
    /// One version; `None` if there is none.
    async fn find_version(
        &self,
        function: FunctionId,
        number: VersionNumber,
    ) -> Result<Option<VersionEntry>, StoreError>;

    /// Versions, newest first, with numbers below `before`, at most `limit`.
    async fn list_versions(
        &self,
        function: FunctionId,
        before: Option<VersionNumber>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, StoreError>;

    /// Adds or replaces an alias. [`StoreError::NotFound`] if the function or one of the versions does not
    /// exist. Repeatable.
    async fn put_alias(&self, function: FunctionId, alias: &Alias) -> Result<(), StoreError>;

    /// Removes an alias; false if there was none. Repeatable.
    async fn delete_alias(&self, function: FunctionId, name: &AliasName) -> Result<bool, StoreError>;
}
