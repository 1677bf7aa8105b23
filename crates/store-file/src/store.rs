//! The other store with its functions shown as a tree.
//!
//! A change is made in this order:
//!
//! ```text
//!   pending/<id> written ─> other store commits ─> files written ─> pending/<id> removed
//! ```
//!
//! So whatever a crash cuts off, the next start finds under `pending` which functions' files may not be what the other
//! store says, and writes them anew: there the store wins. Everywhere else a difference is somebody's edit, and the edit wins.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use impuls_artifacts::{ArtifactError, ArtifactStore};
use impuls_domain::{Function, FunctionId, Revision};
use impuls_store::{FunctionKey, FunctionPage, FunctionSnapshot, FunctionStore, ListedFunctions, StoreError};
use tokio::sync::Mutex;

use crate::error::FileError;
use crate::look::Settled;
use crate::tree::{Tree, stem_of};

/// Functions that are read at once.
const PAGE: u32 = 200;

/// Functions in another store and as a tree of files. What returned `Ok` is durable in the other store; files that could
/// not be written then are written when somebody [looks](FileStore::look). Cheap to clone; clones share the tree. One
/// process at a time.
#[derive(Clone)]
pub struct FileStore(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) other: Arc<dyn FunctionStore>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) tree: Arc<Tree>,
    /// Held while the tree and the other store may differ: one change at a time.
    pub(crate) turn: Mutex<Turn>,
}

/// What whoever holds the turn knows.
#[derive(Default)]
pub(crate) struct Turn {
    /// The functions by the names of their files; `None` until the other store was read.
    pub(crate) functions: Option<HashMap<String, FunctionId>>,
    /// What was looked at, as it was then.
    pub(crate) settled: HashMap<String, Settled>,
    /// Whose files could not be written: their ids, and what their files are called.
    pub(crate) behind: Vec<(FunctionId, String)>,
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("tree", &self.0.tree).finish_non_exhaustive()
    }
}

impl FileStore {
    /// The functions of `other`, whose code is in `artifacts`, with a tree in this folder, which is made if it is missing
    /// (its parent must exist). Blocks.
    pub fn open(
        other: Arc<dyn FunctionStore>,
        artifacts: Arc<dyn ArtifactStore>,
        folder: &Path,
    ) -> Result<Self, FileError> {
        let tree = Arc::new(Tree::open(folder)?);
        Ok(Self(Arc::new(Shared { other, artifacts, tree, turn: Mutex::default() })))
    }

    /// Whether this folder has a tree with at least one function. Blocks.
    #[must_use]
    pub fn is_at(folder: &Path) -> bool {
        Tree::is_at(folder)
    }

    /// Has the next [`open`](Self::open) write the tree of every function anew: for whoever changes the other
    /// store without the tree. Blocks.
    pub fn mark_stale(folder: &Path) -> Result<(), FileError> {
        Tree::mark_stale(folder)
    }

    /// Writes every function's files where they are not what the other store says; no edit survives that.
    pub async fn write_all(&self) -> Result<(), FileError> {
        let mut turn = self.0.turn.lock().await;
        self.0.read(&mut turn).await?;
        self.0.write_all(&mut turn).await
    }

    /// Makes a change of one function with the tree following. Runs to its end even if nobody waits for it any more.
    async fn change<T: Send + 'static>(
        &self,
        (id, stem): (FunctionId, String),
        change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.0.clone();
        let done = tokio::spawn(async move {
            let mut turn = shared.turn.lock().await;
            shared.read(&mut turn).await.map_err(|error| error.during("reading the functions"))?;
            let before = turn.name_of(id);
            let (tree, noted) = (shared.tree.clone(), before.clone().unwrap_or(stem));
            blocking(move || tree.begin(id, &noted))
                .await
                .map_err(|error| error.during("noting a change"))?;
            let changed = change.await;
            shared.follow(&mut turn, id, before).await;
            changed
        });
        match done.await {
            Ok(result) => result,
            Err(lost) => Err(StoreError::Backend { action: "writing the tree", source: Box::new(lost) }),
        }
    }
}

impl Turn {
    fn name_of(&self, id: FunctionId) -> Option<String> {
        let functions = self.functions.iter().flatten();
        functions.filter(|(_, other)| **other == id).map(|(stem, _)| stem.clone()).next()
    }
}

impl Shared {
    /// Reads which functions there are, unless that is known, and repairs what a crash has left.
    pub(crate) async fn read(&self, turn: &mut Turn) -> Result<(), FileError> {
        if turn.functions.is_some() {
            return Ok(());
        }
        let mut functions = HashMap::new();
        let mut before = None;
        loop {
            let page = self.other.list_functions(FunctionPage { before, limit: PAGE }).await?.all()?;
            let Some(last) = page.last() else { break };
            before = Some(last.function.id);
            functions.extend(page.iter().map(|one| (stem_of(&one.function), one.function.id)));
        }
        turn.functions = Some(functions);
        let tree = self.tree.clone();
        turn.behind = blocking(move || tree.pending()).await?;
        if self.tree.is_stale() {
            self.write_all(turn).await?;
            self.tree.no_longer_stale()?;
        }
        Ok(())
    }

    async fn write_all(&self, turn: &mut Turn) -> Result<(), FileError> {
        let all: Vec<_> = turn.functions.iter().flatten().map(|(stem, id)| (*id, stem.clone())).collect();
        for (id, stem) in all {
            self.write(turn, id, Some(stem)).await?;
        }
        Ok(())
    }

    /// Has the tree follow a change, now or when somebody looks.
    async fn follow(&self, turn: &mut Turn, id: FunctionId, before: Option<String>) {
        if self.write(turn, id, before.clone()).await.is_err() {
            turn.behind.push((id, before.unwrap_or_default()));
        }
    }

    /// Writes what the other store says of a function, whose files were called `before`.
    pub(crate) async fn write(
        &self,
        turn: &mut Turn,
        id: FunctionId,
        before: Option<String>,
    ) -> Result<(), FileError> {
        let snapshot = self.other.find_function(&FunctionKey::Id(id)).await?;
        let stem = snapshot.as_ref().map(|snapshot| stem_of(&snapshot.function));
        if let Some(gone) = before.filter(|before| !before.is_empty() && stem.as_ref() != Some(before)) {
            // Another function may have the name by now.
            if turn.functions.iter().flatten().all(|(other, of)| *other != gone || *of == id) {
                let (tree, gone) = (self.tree.clone(), gone.clone());
                blocking(move || tree.remove(&gone)).await?;
            }
            turn.settled.remove(&gone);
            if let Some(functions) = turn.functions.as_mut().filter(|all| all.get(&gone) == Some(&id)) {
                functions.remove(&gone);
            }
        }
        if let (Some(snapshot), Some(stem)) = (snapshot, stem) {
            let code = self.code(&snapshot).await?;
            let (tree, name) = (self.tree.clone(), stem.clone());
            if let Some(code) = code {
                blocking(move || tree.show(&name, &snapshot, &code)).await?;
                let known = turn.settled.entry(stem.clone()).or_insert(Settled::Written);
                if !matches!(known, Settled::Seen(_)) {
                    *known = Settled::Written;
                }
            }
            if let Some(functions) = &mut turn.functions {
                functions.insert(stem, id);
            }
        }
        let tree = self.tree.clone();
        blocking(move || tree.end(id)).await
    }

    /// The code of a function's newest revision; `None` where it is lost, which is no fault of the tree's.
    pub(crate) async fn code(&self, snapshot: &FunctionSnapshot) -> Result<Option<bytes::Bytes>, FileError> {
        match self.artifacts.get(&snapshot.latest.artifact).await {
            Ok(code) => Ok(Some(code)),
            Err(ArtifactError::NotFound(_) | ArtifactError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs file work off the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(lost) => Err(FileError::io(Path::new("the tree"))(std::io::Error::other(lost))),
    }
}

#[async_trait]
impl FunctionStore for FileStore {
    async fn create_function(&self, function: &Function, revision: &Revision) -> Result<(), StoreError> {
        let (other, function, revision) = (self.0.other.clone(), function.clone(), revision.clone());
        let names = (function.id, stem_of(&function));
        self.change(names, async move { other.create_function(&function, &revision).await }).await
    }

    async fn deploy_revision(
        &self,
        expected: &Function,
        function: &Function,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        // What was deployed cannot be called, and what is shown is what is called: whoever edited the files keeps them.
        if expected.latest == function.latest && expected.name == function.name {
            return self.0.other.deploy_revision(expected, function, revision).await;
        }
        let (other, expected, function, revision) =
            (self.0.other.clone(), expected.clone(), function.clone(), revision.clone());
        let names = (function.id, stem_of(&function));
        self.change(names, async move { other.deploy_revision(&expected, &function, &revision).await }).await
    }

    async fn find_function(&self, key: &FunctionKey) -> Result<Option<FunctionSnapshot>, StoreError> {
        self.0.other.find_function(key).await
    }

    async fn list_functions(&self, page: FunctionPage) -> Result<ListedFunctions, StoreError> {
        self.0.other.list_functions(page).await
    }

    async fn count_functions(&self) -> Result<u64, StoreError> {
        self.0.other.count_functions().await
    }

    async fn delete_function(&self, id: FunctionId) -> Result<bool, StoreError> {
        let other = self.0.other.clone();
        self.change((id, String::new()), async move { other.delete_function(id).await }).await
    }
}
