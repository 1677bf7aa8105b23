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
//!
//! Files are written over only if they look as they did when they were last written here or noticed by a look: what
//! somebody has saved since is newer than the change, stays, and is an edit for the next look.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_artifacts::{ArtifactError, ArtifactStore};
use impuls_domain::{Function, FunctionId, Revision};
use impuls_store::{FunctionKey, FunctionPage, FunctionSnapshot, FunctionStore, ListedFunctions, StoreError};
use tokio::sync::Mutex;

use crate::error::FileError;
use crate::look::Settled;
use crate::scan::Stamps;
use crate::tree::{Over, Shown, Tree, stem_of};

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
    /// What is known of files, by their names.
    pub(crate) settled: HashMap<String, Settled>,
    /// Whose files could not be written.
    pub(crate) behind: Vec<Task>,
    /// Metadata files that stayed although they would have been written anew, because somebody had changed them: what they
    /// showed before that. It tells what was changed in them from what was deployed meanwhile.
    pub(crate) shown: HashMap<String, FunctionSnapshot>,
}

/// A function whose files are to become what the other store says.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: FunctionId,
    /// What its files are called; empty if nobody knows.
    pub(crate) stem: String,
    /// Whether no edit survives.
    store_wins: bool,
    /// What the files show until then.
    shown: Option<Box<FunctionSnapshot>>,
}

impl Task {
    /// Edits that nobody knows of stay.
    pub(crate) const fn careful(id: FunctionId, stem: String) -> Self {
        Self { id, stem, store_wins: false, shown: None }
    }

    /// The store wins.
    const fn forceful(id: FunctionId, stem: String) -> Self {
        Self { id, stem, store_wins: true, shown: None }
    }
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
        for task in turn.tasks() {
            self.0.write(&mut turn, &task).await?;
        }
        Ok(())
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
            // What cannot be read shows nothing, and can be deleted all the same.
            let shown = shared.other.find_function(&FunctionKey::Id(id)).await.ok().flatten().map(Box::new);
            let noted = before.clone().unwrap_or(stem);
            shared.begin(id, noted).await.map_err(|error| error.during("noting a change"))?;
            let changed = change.await;
            let task = Task { shown, ..Task::careful(id, before.unwrap_or_default()) };
            let done = match &changed {
                // What the files say is wanted by somebody, or was so before.
                Err(_) if shared.still_shows(&task).await => shared.end(id).await,
                _ => shared.write(&mut turn, &task).await,
            };
            if done.is_err() {
                turn.is_behind(task);
            }
            changed
        });
        match done.await {
            Ok(result) => result,
            Err(lost) => Err(StoreError::Backend { action: "writing the tree", source: Box::new(lost) }),
        }
    }
}

impl Turn {
    fn stems(&self) -> Vec<String> {
        self.functions.iter().flatten().map(|(stem, _)| stem.clone()).collect()
    }

    fn name_of(&self, id: FunctionId) -> Option<String> {
        let functions = self.functions.iter().flatten();
        functions.filter(|(_, other)| **other == id).map(|(stem, _)| stem.clone()).next()
    }

    /// Every function, to be written anew.
    fn tasks(&self) -> Vec<Task> {
        self.functions.iter().flatten().map(|(stem, id)| Task::forceful(*id, stem.clone())).collect()
    }

    /// Notes whose files could not be written; what was noted first knows what the files still show.
    pub(crate) fn is_behind(&mut self, task: Task) {
        if self.behind.iter().all(|other| other.id != task.id) {
            self.behind.push(task);
        }
    }

    /// What a function's files looked like when they were last noticed or written; nobody loses anything if those are
    /// written over.
    pub(crate) fn known(&self, stem: &str) -> Stamps {
        match self.settled.get(stem) {
            Some(Settled::Seen(stamps) | Settled::Known(stamps)) => *stamps,
            Some(Settled::Missing | Settled::Lost) | None => Stamps::default(),
        }
    }

    fn note(&mut self, stem: &str, now: &Shown, task: &Task) {
        if !matches!(self.settled.get(stem), Some(Settled::Seen(seen)) if *seen == now.stamps) {
            self.settled.insert(stem.to_owned(), Settled::Known(now.stamps));
        }
        if !now.card_stayed {
            self.shown.remove(stem);
        } else if let Some(shown) = &task.shown {
            self.shown.entry(stem.to_owned()).or_insert_with(|| (**shown).clone());
        }
    }

    fn forget(&mut self, stem: &str, id: FunctionId) {
        self.settled.remove(stem);
        self.shown.remove(stem);
        if let Some(functions) = self.functions.as_mut().filter(|all| all.get(stem) == Some(&id)) {
            functions.remove(stem);
        }
    }
}

impl Shared {
    /// Reads which functions there are, unless that is known, and repairs what a crash has left.
    pub(crate) async fn read(&self, turn: &mut Turn) -> Result<(), FileError> {
        if turn.functions.is_some() {
            return Ok(());
        }
        let mut read = Turn { functions: Some(self.list().await?), ..Turn::default() };
        let tree = self.tree.clone();
        let pending = blocking(move || tree.pending()).await?;
        read.behind = pending.into_iter().map(|(id, stem)| Task::forceful(id, stem)).collect();
        let is_stale = self.tree.is_stale();
        if is_stale {
            for task in read.tasks() {
                if self.write(&mut read, &task).await.is_err() {
                    // What is not stale any more must not be forgotten by a crash either.
                    self.begin(task.id, task.stem.clone()).await?;
                    read.is_behind(task);
                }
            }
        }
        // Whatever was edited until now is older than every change from now on.
        for (stem, stamps) in self.stamps(read.stems()).await? {
            if stamps.card.is_some() {
                read.settled.entry(stem).or_insert(Settled::Known(stamps));
            }
        }
        if is_stale {
            self.tree.no_longer_stale()?;
        }
        // Only now: what fails until here is done again.
        *turn = read;
        Ok(())
    }

    async fn list(&self) -> Result<HashMap<String, FunctionId>, FileError> {
        let mut functions = HashMap::new();
        let mut before = None;
        loop {
            let page = self.other.list_functions(FunctionPage { before, limit: PAGE }).await?.all()?;
            let Some(last) = page.last() else { return Ok(functions) };
            before = Some(last.function.id);
            functions.extend(page.iter().map(|one| (stem_of(&one.function), one.function.id)));
        }
    }

    /// What files look like that are called so, those apart that cannot be read in this moment.
    pub(crate) async fn stamps(&self, stems: Vec<String>) -> Result<Vec<(String, Stamps)>, FileError> {
        let tree = self.tree.clone();
        let stamped = |tree: &Tree, stem: String| {
            let stamps = Stamps::of(&tree.card(&stem), &tree.code(&stem)).ok()?;
            Some((stem, stamps))
        };
        blocking(move || Ok(stems.into_iter().filter_map(|stem| stamped(&tree, stem)).collect())).await
    }

    async fn begin(&self, id: FunctionId, stem: String) -> Result<(), FileError> {
        let tree = self.tree.clone();
        blocking(move || tree.begin(id, &stem)).await
    }

    async fn end(&self, id: FunctionId) -> Result<(), FileError> {
        let tree = self.tree.clone();
        blocking(move || tree.end(id)).await
    }

    /// Whether the other store says what it said before a change.
    async fn still_shows(&self, task: &Task) -> bool {
        let said = |snapshot: &FunctionSnapshot| (snapshot.latest.id, stem_of(&snapshot.function));
        let now = self.other.find_function(&FunctionKey::Id(task.id)).await;
        now.is_ok_and(|now| now.as_ref().map(said) == task.shown.as_deref().map(said))
    }

    /// Makes a function's files what the other store says, or nothing if it has no such function.
    pub(crate) async fn write(&self, turn: &mut Turn, task: &Task) -> Result<(), FileError> {
        let snapshot = self.other.find_function(&FunctionKey::Id(task.id)).await?;
        let stem = snapshot.as_ref().map(|snapshot| stem_of(&snapshot.function));
        if !task.stem.is_empty() && stem.as_ref() != Some(&task.stem) {
            // Another function may have the name by now.
            if turn.functions.iter().flatten().all(|(other, of)| *other != task.stem || *of == task.id) {
                let (tree, gone) = (self.tree.clone(), task.stem.clone());
                blocking(move || tree.remove(&gone)).await?;
            }
            turn.forget(&task.stem, task.id);
        }
        if let (Some(snapshot), Some(stem)) = (snapshot, stem) {
            if let Some(code) = self.code(&snapshot).await? {
                let shown = self.show(turn, task, &stem, (snapshot, code)).await?;
                turn.note(&stem, &shown, task);
            }
            if let Some(functions) = &mut turn.functions {
                functions.insert(stem, task.id);
            }
        }
        self.end(task.id).await
    }

    async fn show(
        &self,
        turn: &Turn,
        task: &Task,
        stem: &str,
        (snapshot, code): (FunctionSnapshot, Bytes),
    ) -> Result<Shown, FileError> {
        let known = turn.known(stem);
        let show = |over: Over<Stamps>| {
            let (tree, name, snapshot, code) =
                (self.tree.clone(), stem.to_owned(), snapshot.clone(), code.clone());
            blocking(move || tree.show(&name, &snapshot, &code, over))
        };
        if task.store_wins {
            return show(Over::Anything).await;
        }
        let now = show(Over::Known(known)).await?;
        let Some(before) = task.shown.clone().filter(|_| now.card_stayed || now.code_stayed) else {
            return Ok(now);
        };
        // Files that were touched and still show what was stored before are nobody's edit: as one they would undo this change.
        let Some(old) = self.code(&before).await? else { return Ok(now) };
        let (tree, name) = (self.tree.clone(), stem.to_owned());
        let unchanged = blocking(move || tree.unchanged(&name, &before, &old)).await?;
        let known =
            Stamps { card: unchanged.card.or(now.stamps.card), code: unchanged.code.or(now.stamps.code) };
        show(Over::Known(known)).await
    }

    /// The code of a function's newest revision; `None` where it is lost, which is no fault of the tree's.
    pub(crate) async fn code(&self, snapshot: &FunctionSnapshot) -> Result<Option<Bytes>, FileError> {
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
