use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;

use super::*;
use crate::extract::tests::archive::{Member, zip};
use crate::{Kept, LocalArtifacts};

/// Artifacts that count how often they are read.
struct Counting {
    inner: LocalArtifacts,
    reads: AtomicUsize,
}

#[async_trait]
impl ArtifactStore for Counting {
    async fn put(&self, bytes: Bytes) -> Result<ArtifactDigest, ArtifactError> {
        self.inner.put(bytes).await
    }
    async fn get(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.get(digest).await
    }
    async fn delete(&self, digest: &ArtifactDigest) -> Result<bool, ArtifactError> {
        self.inner.delete(digest).await
    }
    async fn list(&self, after: Option<ArtifactDigest>, limit: usize) -> Result<Vec<Kept>, ArtifactError> {
        self.inner.list(after, limit).await
    }
    async fn discard(&self, digest: &ArtifactDigest, since: SystemTime) -> Result<bool, ArtifactError> {
        self.inner.discard(digest, since).await
    }

    async fn claim(&self, owner: &str) -> Result<String, ArtifactError> {
        self.inner.claim(owner).await
    }
}

struct Scratch {
    artifacts: Arc<Counting>,
    folders: CodeFolders,
    folder: TempDir,
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inner = LocalArtifacts::open(&folder.path().join("artifacts")).unwrap();
        let artifacts = Arc::new(Counting { inner, reads: AtomicUsize::new(0) });
        let folders = CodeFolders::open(folder.path().join("code"), artifacts.clone()).unwrap();
        Self { artifacts, folders, folder }
    }

    fn reopened(&self) -> CodeFolders {
        CodeFolders::open(self.folder.path().join("code"), self.artifacts.clone()).unwrap()
    }

    async fn put(&self, bytes: impl Into<Bytes>) -> ArtifactDigest {
        self.artifacts.put(bytes.into()).await.unwrap()
    }

    async fn folder(&self, digest: &ArtifactDigest, layout: &FolderLayout) -> PathBuf {
        self.folders.folder(digest, layout).await.unwrap().path().to_owned()
    }

    fn reads(&self) -> usize {
        self.artifacts.reads.load(Ordering::Relaxed)
    }
}

fn single(names: &[&str]) -> FolderLayout {
    FolderLayout::SingleFile { names: names.iter().map(|&name| name.to_owned()).collect() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_single_file_appears_under_each_name() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let layout = single(&["index.js", "index.mjs", "src/deep/app.js", "src/app.js"]);
    let folder = scratch.folder(&digest, &layout).await;
    let inode = fs::metadata(folder.join("index.js")).unwrap().ino();
    for name in ["index.js", "index.mjs", "src/deep/app.js", "src/app.js"] {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "code");
        assert_eq!(fs::metadata(folder.join(name)).unwrap().ino(), inode);
        assert_eq!(mode(&folder.join(name)), 0o755, "it may be a program");
    }
    for path in [folder.clone(), folder.join("src"), folder.join("src/deep")] {
        assert_eq!(mode(&path), 0o755, "{path:?}");
    }
    assert_eq!(mode(folder.parent().unwrap()), 0o711);
    assert_eq!(mode(&scratch.folders.root), 0o711);
}

#[tokio::test]
async fn an_archive_is_unpacked() {
    let scratch = Scratch::new();
    let digest =
        scratch.put(zip(&[Member::file("src/app.py", "x = 1"), Member::executable("run", "#!")])).await;
    let folder = scratch.folder(&digest, &FolderLayout::Zip).await;
    assert_eq!(fs::read_to_string(folder.join("src/app.py")).unwrap(), "x = 1");
    assert_eq!((mode(&folder), mode(&folder.join("run"))), (0o755, 0o755));
}

#[tokio::test]
async fn what_was_built_lies_beside_the_source_which_counts() {
    let scratch = Scratch::new();
    let source = zip(&[Member::file("src/app.py", "ours"), Member::file("lib", "a file")]);
    let built = zip(&[
        Member::file("src/app.py", "x"),
        Member::file("src/deps.py", "y"),
        Member::file("lib/z.py", "z"),
    ]);
    let (source, archive) = (scratch.put(source).await, scratch.put(built).await);
    let layout = FolderLayout::Built { source: Box::new(FolderLayout::Zip), archive };
    let folder = scratch.folder(&source, &layout).await;
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(
        (read("src/app.py"), read("src/deps.py"), read("lib")),
        ("ours".into(), "y".into(), "a file".into())
    );
    let alone = scratch.folder(&source, &FolderLayout::Zip).await;
    assert!(!alone.join("src/deps.py").exists());
    let layout = FolderLayout::Built { source: Box::new(single(&["main.go"])), archive };
    let single = scratch.put("code").await;
    let folder = scratch.folder(&single, &layout).await;
    assert_eq!(fs::read_to_string(folder.join("lib/z.py")).unwrap(), "z");
}

#[tokio::test]
async fn some_files_of_an_archive_appear_alone() {
    let scratch = Scratch::new();
    let archive = zip(&[Member::file("package.json", "{}"), Member::file("src/app.js", "x")]);
    let digest = scratch.put(archive).await;
    let layout = FolderLayout::Some { names: vec!["package.json".to_owned(), "absent".to_owned()] };
    let folder = scratch.folder(&digest, &layout).await;
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["package.json"]);
}

#[tokio::test]
async fn a_folder_is_made_once_also_across_restarts() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let layout = single(&["a.js"]);
    let ask = || scratch.folder(&digest, &layout);
    let (path, two, three) = tokio::join!(ask(), ask(), ask());
    assert_eq!((&two, &three), (&path, &path));
    assert_eq!(scratch.reads(), 1);
    assert_eq!(scratch.reopened().folder(&digest, &layout).await.unwrap().path(), path);
    assert_eq!(scratch.reads(), 1);
}

#[tokio::test]
async fn layouts_of_an_artifact_have_folders_of_their_own() {
    let scratch = Scratch::new();
    let digest = scratch.put(zip(&[Member::file("x", "")])).await;
    let mut paths = std::collections::HashSet::new();
    for layout in [FolderLayout::Zip, single(&["a"]), single(&["a", "b"]), single(&["b", "a"])] {
        paths.insert(scratch.folder(&digest, &layout).await);
    }
    assert_eq!(paths.len(), 4);
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    for names in [&[][..], &["../x"], &["/x"], &["a", "a"], &["a", "a/b"], &["a/b", "a"], &["a//b"]] {
        let refused = scratch.folders.folder(&digest, &single(names)).await;
        assert!(matches!(refused, Err(ArtifactError::Layout { .. })), "{names:?}: {refused:?}");
    }
    assert_eq!(fs::read_dir(&scratch.folders.root).unwrap().count(), 1, "only the note of the boot");
}

#[tokio::test]
async fn a_refused_archive_leaves_nothing_and_may_be_asked_for_again() {
    let scratch = Scratch::new();
    let digest = scratch.put(zip(&[Member::file("fine", "1"), Member::file("../evil", "2")])).await;
    for _ in 0..2 {
        let refused = scratch.folders.folder(&digest, &FolderLayout::Zip).await;
        assert!(matches!(refused, Err(ArtifactError::Archive(_))), "{refused:?}");
    }
    assert_eq!(fs::read_dir(&scratch.folders.root).unwrap().count(), 1, "only the note of the boot");
    let unknown = scratch.folders.folder(&digest_of(b"unknown"), &FolderLayout::Zip).await;
    assert!(matches!(unknown, Err(ArtifactError::NotFound(_))), "{unknown:?}");
}

/// What lies in the cache.
fn bytes(trimmed: &Trimmed) -> u64 {
    trimmed.left + trimmed.bytes
}

#[tokio::test]
async fn folders_beyond_the_bound_go_unless_they_are_in_use() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let (used, layout) = (single(&["a"]), single(&["b"]));
    let held = scratch.folders.folder(&digest, &used).await.unwrap();
    let other = scratch.folder(&digest, &layout).await;
    let all = scratch.folders.trim(u64::MAX).await.unwrap();
    assert_eq!((all.folders, all.bytes), (0, 0));
    assert!(all.left > 0);
    let trimmed = scratch.folders.trim(0).await.unwrap();
    assert_eq!((trimmed.folders, bytes(&trimmed)), (1, all.left));
    assert!(!other.exists() && held.path().join("a").exists());
    assert_eq!(scratch.folders.trim(0).await.unwrap().folders, 0);
    drop(held);
    assert_eq!(scratch.folders.trim(0).await.unwrap(), Trimmed { folders: 1, bytes: trimmed.left, left: 0 });
    assert!(!other.parent().unwrap().exists(), "nor is anything else of the artifact");
    // Whatever went is made again.
    assert!(scratch.folder(&digest, &layout).await.join("b").exists());
}

#[tokio::test]
async fn folders_of_an_earlier_life_count_and_the_oldest_goes_first() {
    let scratch = Scratch::new();
    let (old, new) = (scratch.put("old").await, scratch.put("new").await);
    let layout = single(&["a"]);
    let paths = [scratch.folder(&old, &layout).await, scratch.folder(&new, &layout).await];
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::open(&paths[0]).unwrap().set_modified(long_ago).unwrap();
    let folders = scratch.reopened();
    let all = folders.trim(u64::MAX).await.unwrap().left;
    assert_eq!(folders.trim(all - 1).await.unwrap().folders, 1);
    assert!(!paths[0].exists() && paths[1].exists());
}

#[tokio::test]
async fn a_new_folder_is_noticed_by_whoever_keeps_the_bound() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let removed = Mutex::new(0);
    let keeping = scratch.folders.keep_within(0, |trimmed| *removed.lock() += trimmed.unwrap().folders);
    let using = async {
        let path = scratch.folder(&digest, &single(&["a"])).await;
        while path.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = keeping => {}
        () = using => {}
    }
    assert!(*removed.lock() <= 1);
}

#[tokio::test]
async fn a_start_removes_what_a_crash_left_half_made() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let whole = scratch.folder(&digest, &single(&["a"])).await;
    let half = scratch.folders.root.join(".tmp-half");
    fs::create_dir_all(half.join("below")).unwrap();
    scratch.reopened();
    assert!(!half.exists() && whole.exists());
}

#[tokio::test]
async fn folders_of_an_earlier_boot_are_made_again() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let path = scratch.folder(&digest, &single(&["a"])).await;
    fs::write(scratch.folders.root.join(BOOT_FILE), "another boot").unwrap();
    fs::write(path.join("a"), "").unwrap();
    let reopened = scratch.reopened();
    assert!(!path.exists());
    reopened.folder(&digest, &single(&["a"])).await.unwrap();
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "code");
}

#[tokio::test]
async fn a_call_dropped_half_way_is_in_nobodys_way() {
    let scratch = Scratch::new();
    let digest = scratch.put("code").await;
    let layout = single(&["a"]);
    for polls in 1..6 {
        let mut call = Box::pin(scratch.folders.folder(&digest, &layout));
        for _ in 0..polls {
            let poll = std::future::poll_fn(|context| {
                std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
            });
            if poll.await {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let path = scratch.folder(&digest, &layout).await;
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "code");
}
