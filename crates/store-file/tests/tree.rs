//! The tree is what the other store says, whatever is cut off; what somebody edits is found once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_artifacts::{ArtifactError, ArtifactStore, Kept, LocalArtifacts};
use impuls_domain::{ArtifactDigest, CodeLayout, Function, Revision};
use impuls_store::FunctionStore as _;
use impuls_store::conformance::fixture;
use impuls_store_file::{Edit, FileStore, Finding, Look, NewCode};
use impuls_store_sqlite::SqliteStore;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

struct World {
    folder: TempDir,
    other: SqliteStore,
    artifacts: LocalArtifacts,
}

/// Artifacts of which one cannot be read once: the one that is read after so many others.
struct Failing {
    artifacts: LocalArtifacts,
    left: AtomicUsize,
}

#[async_trait]
impl ArtifactStore for Failing {
    async fn put(&self, bytes: Bytes) -> Result<ArtifactDigest, ArtifactError> {
        self.artifacts.put(bytes).await
    }

    async fn get(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let source = std::io::Error::other("the bucket is away");
            return Err(ArtifactError::Io { action: "reading an artifact", source });
        }
        self.artifacts.get(digest).await
    }

    async fn delete(&self, digest: &ArtifactDigest) -> Result<bool, ArtifactError> {
        self.artifacts.delete(digest).await
    }

    async fn list(&self, after: Option<ArtifactDigest>, limit: usize) -> Result<Vec<Kept>, ArtifactError> {
        self.artifacts.list(after, limit).await
    }

    async fn discard(&self, digest: &ArtifactDigest, since: SystemTime) -> Result<bool, ArtifactError> {
        self.artifacts.discard(digest, since).await
    }

    async fn claim(&self, owner: &str) -> Result<String, ArtifactError> {
        self.artifacts.claim(owner).await
    }
}

impl World {
    /// With artifacts of which the one that is read as this one cannot be read once.
    fn open_failing(&self, at: usize) -> (FileStore, Arc<Failing>) {
        let failing = Arc::new(Failing { artifacts: self.artifacts.clone(), left: AtomicUsize::new(at) });
        let other = Arc::new(self.other.clone());
        (FileStore::open(other, failing.clone(), &self.path("")).unwrap(), failing)
    }

    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let other = SqliteStore::open(&folder.path().join("impuls.db")).await.unwrap();
        let artifacts = LocalArtifacts::open(&folder.path().join("artifacts")).unwrap();
        Self { folder, other, artifacts }
    }

    fn open(&self) -> FileStore {
        let (other, artifacts) = (Arc::new(self.other.clone()), Arc::new(self.artifacts.clone()));
        FileStore::open(other, artifacts, &self.path("")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("functions").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    async fn function(&self, name: &str, code: &str) -> (Function, Revision) {
        let (function, mut revision) = fixture::function(name);
        revision.layout = CodeLayout::SingleFile;
        revision.artifact = self.artifacts.put(Bytes::copy_from_slice(code.as_bytes())).await.unwrap();
        revision.config.runtime = "nodejs20".parse().unwrap();
        (function, revision)
    }

    async fn next(&self, function: &Function, code: &str) -> (Function, Revision) {
        let mut revision = fixture::revision(function.id, 1);
        revision.layout = CodeLayout::SingleFile;
        revision.artifact = self.artifacts.put(Bytes::copy_from_slice(code.as_bytes())).await.unwrap();
        revision.config.runtime = "nodejs20".parse().unwrap();
        (fixture::deployed(function, &revision), revision)
    }
}

/// What is touched once everything has rested, and what else was found.
async fn touched(tree: &FileStore) -> Look {
    tree.look(OffsetDateTime::now_utc() + Duration::minutes(1)).await.unwrap()
}

/// The same with what somebody wants.
async fn look(tree: &FileStore) -> Vec<Finding> {
    let Look { mut findings, touched } = touched(tree).await;
    for one in touched {
        findings.extend(tree.edit_of(&one).await.unwrap());
    }
    findings
}

fn source(found: &Finding) -> (&str, &str) {
    match found {
        Finding::Edit(Edit::Change { name, code: Some(NewCode::Source(code)), .. }) => (name, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn functions_are_files_for_their_owner_alone() {
    let world = World::new().await;
    let tree = world.open();
    let (function, revision) = world.function("hello", "exports.handler = 1;").await;
    tree.create_function(&function, &revision).await.unwrap();
    assert_eq!(world.read("code/hello/function.js"), "exports.handler = 1;");
    let card: serde_json::Value = serde_json::from_str(&world.read("metadata/hello.json")).unwrap();
    assert_eq!((&card["name"], &card["code"]), (&"hello".into(), &"exports.handler = 1;".into()));
    for (name, mode) in [
        ("", 0o700),
        ("code/hello", 0o700),
        ("code/hello/function.js", 0o600),
        ("metadata/hello.json", 0o600),
    ] {
        let found = fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    assert_eq!(look(&tree).await, []);
    tree.delete_function(function.id).await.unwrap();
    assert!(!world.path("metadata/hello.json").exists() && !world.path("code/hello").exists());
    assert_eq!(look(&tree).await, []);
}

#[tokio::test]
async fn names_that_are_not_enough_have_a_part_of_the_id() {
    let world = World::new().await;
    let tree = world.open();
    let (mut function, revision) = world.function("hello", "1").await;
    function.scope = impuls_domain::Scope::new("gofaas/1");
    tree.create_function(&function, &revision).await.unwrap();
    let id = function.id.to_string();
    assert!(world.path(&format!("metadata/hello~{}.json", &id[id.len() - 8..])).is_file());
    let (function, revision) = world.function(&"x".repeat(255), "1").await;
    tree.create_function(&function, &revision).await.unwrap();
    assert_eq!(look(&tree).await, []);
    assert_eq!(fs::read_dir(world.path("metadata")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_deploy_that_fails_writes_over_nothing() {
    let world = World::new().await;
    let tree = world.open();
    let (first, revision) = world.function("hello", "1").await;
    tree.create_function(&first, &revision).await.unwrap();
    let (second, newer) = world.next(&first, "2").await;
    tree.deploy_revision(&first, &second, &newer).await.unwrap();
    assert_eq!(look(&tree).await, []);
    fs::write(world.path("code/hello/function.js"), "edited").unwrap();
    let edited = touched(&tree).await.touched.remove(0);
    assert_eq!(source(&tree.edit_of(&edited).await.unwrap().unwrap()), ("hello", "edited"));
    let (third, late) = world.next(&first, "3").await;
    assert!(tree.deploy_revision(&first, &third, &late).await.is_err());
    assert_eq!(world.read("code/hello/function.js"), "edited");
    assert_eq!(fs::read_dir(world.path("pending")).unwrap().count(), 0);
    tree.look_again(&edited).await;
    assert_eq!(source(&look(&tree).await[0]), ("hello", "edited"));
}

#[tokio::test]
async fn what_a_crash_cuts_off_is_written_by_the_next_start() {
    let world = World::new().await;
    let (first, revision) = world.function("first", "1").await;
    let (second, other) = world.function("second", "1").await;
    let tree = world.open();
    tree.create_function(&first, &revision).await.unwrap();
    tree.create_function(&second, &other).await.unwrap();
    drop(tree);
    // Noted and committed; the files are those of before.
    let (next, newer) = world.next(&first, "2").await;
    fs::write(world.path(&format!("pending/{}", first.id)), "first").unwrap();
    world.other.deploy_revision(&first, &next, &newer).await.unwrap();
    fs::write(world.path(&format!("pending/{}", second.id)), "second").unwrap();
    world.other.delete_function(second.id).await.unwrap();
    let (third, another) = world.function("third", "3").await;
    fs::write(world.path(&format!("pending/{}", third.id)), "third").unwrap();
    world.other.create_function(&third, &another).await.unwrap();
    fs::create_dir_all(world.path(".new/half-made")).unwrap();
    let tree = world.open();
    assert_eq!(look(&tree).await, []);
    assert_eq!(
        (world.read("code/first/function.js"), world.read("code/third/function.js")),
        ("2".into(), "3".into())
    );
    assert!(!world.path("metadata/second.json").exists() && !world.path("code/second").exists());
    assert_eq!(fs::read_dir(world.path("pending")).unwrap().count(), 0);
    assert!(!world.path(".new/half-made").exists());
}

#[tokio::test]
async fn an_edit_is_found_once_and_only_when_it_rests() {
    let world = World::new().await;
    let (function, revision) = world.function("hello", "1").await;
    let tree = world.open();
    tree.create_function(&function, &revision).await.unwrap();
    assert_eq!(look(&tree).await, []);
    fs::write(world.path("code/hello/function.js"), "2").unwrap();
    assert_eq!(tree.look(OffsetDateTime::now_utc()).await.unwrap().touched, []);
    let code = Some(NewCode::Source("2".to_owned()));
    let (name, members) = ("hello".to_owned(), serde_json::Map::new());
    let edit = Edit::Change { id: function.id, name, revision: revision.id, members, code };
    assert_eq!(look(&tree).await, [Finding::Edit(edit)]);
    assert_eq!(look(&tree).await, []);
    // A further file makes it an archive.
    fs::write(world.path("code/hello/lib.js"), "3").unwrap();
    let found = look(&tree).await;
    let [Finding::Edit(Edit::Change { code: Some(NewCode::Zip(_)), .. })] = found.as_slice() else {
        panic!("{found:?}")
    };
    let card = world.read("metadata/hello.json").replace("\"code\": \"1\"", "\"code\": \"9\"");
    fs::write(world.path("metadata/hello.json"), card).unwrap();
    let found = look(&tree).await;
    let [Finding::Refused { reason, .. }] = found.as_slice() else { panic!("{found:?}") };
    assert!(reason.contains("are different"), "{reason}");
}

#[tokio::test]
async fn hostile_files_are_refused() {
    let world = World::new().await;
    let tree = world.open();
    assert_eq!(look(&tree).await, []);
    fs::write(world.path("metadata/evil~12345678.json"), r#"{"code": "1"}"#).unwrap();
    fs::write(world.path("metadata/dots.json"), r#"{"name": "../x", "code": "1"}"#).unwrap();
    fs::write(world.path("metadata/code.json"), "{}").unwrap();
    symlink("/etc/passwd", world.path("metadata/passwd.json")).unwrap();
    symlink("/etc", world.path("code/code")).unwrap();
    fs::create_dir(world.path("metadata/folder.json")).unwrap();
    let found = look(&tree).await;
    let mut refused: Vec<_> = found
        .iter()
        .map(|finding| match finding {
            Finding::Refused { file, reason } => (file.rsplit('/').next().unwrap(), reason.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    refused.sort_unstable();
    let expected = [
        ("code.json", "links are refused"),
        ("dots.json", "same name"),
        ("evil~12345678.json", "no `~`"),
        ("folder.json", "no plain file"),
        ("passwd.json", "links are refused"),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:?}");
    for ((file, reason), (name, text)) in refused.into_iter().zip(expected) {
        assert!(file == name && reason.contains(text), "{file}: {reason}");
    }
}

#[tokio::test]
async fn a_file_that_stays_away_deletes_and_a_tree_that_is_gone_does_not() {
    let world = World::new().await;
    let tree = world.open();
    for name in ["one", "two"] {
        let (function, revision) = world.function(name, "1").await;
        tree.create_function(&function, &revision).await.unwrap();
    }
    assert_eq!(look(&tree).await, []);
    fs::remove_file(world.path("metadata/one.json")).unwrap();
    assert_eq!(look(&tree).await, []);
    let found = look(&tree).await;
    let [Finding::Edit(Edit::Delete { id, name })] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(name, "one");
    tree.delete_function(*id).await.unwrap();
    let (function, revision) = world.function("three", "1").await;
    tree.create_function(&function, &revision).await.unwrap();
    assert_eq!(look(&tree).await, []);
    for name in ["two", "three"] {
        fs::remove_file(world.path(&format!("metadata/{name}.json"))).unwrap();
    }
    let found = look(&tree).await;
    assert!(matches!(found.as_slice(), [Finding::Refused { .. }]), "{found:?}");
    assert!(world.path("metadata/two.json").is_file() && world.path("metadata/three.json").is_file());
    assert_eq!((look(&tree).await, look(&tree).await), (vec![], vec![]));
}

#[tokio::test]
async fn a_store_that_changed_without_the_tree_wins_when_that_was_said() {
    let world = World::new().await;
    let tree = world.open();
    let (function, revision) = world.function("hello", "1").await;
    tree.create_function(&function, &revision).await.unwrap();
    drop(tree);
    FileStore::mark_stale(&world.path("")).unwrap();
    let (next, newer) = world.next(&function, "2").await;
    world.other.deploy_revision(&function, &next, &newer).await.unwrap();
    let tree = world.open();
    assert_eq!(look(&tree).await, []);
    assert_eq!(world.read("code/hello/function.js"), "2");
    assert!(!world.path("stale").exists());
}

#[tokio::test]
async fn a_store_that_wins_still_wins_after_one_of_its_artifacts_could_not_be_read() {
    let world = World::new().await;
    let tree = world.open();
    let mut functions = Vec::new();
    for name in ["one", "two", "three"] {
        let (function, revision) = world.function(name, "old").await;
        tree.create_function(&function, &revision).await.unwrap();
        functions.push(function);
    }
    drop(tree);
    for function in &functions {
        let (next, newer) = world.next(function, "new").await;
        world.other.deploy_revision(function, &next, &newer).await.unwrap();
    }
    for at in 1..=3 {
        FileStore::mark_stale(&world.path("")).unwrap();
        let (tree, failing) = world.open_failing(at);
        // What fails first may be said, and is no reason to take old files for edits.
        drop(tree.look(OffsetDateTime::now_utc()).await);
        assert_ne!(failing.left.load(Ordering::SeqCst), at, "something was read");
        assert_eq!((look(&tree).await, look(&tree).await), (vec![], vec![]), "{at}");
        for name in ["one", "two", "three"] {
            assert_eq!(world.read(&format!("code/{name}/function.js")), "new", "{at}: {name}");
            fs::write(world.path(&format!("code/{name}/function.js")), "old").unwrap();
        }
    }
}

#[tokio::test]
async fn one_functions_failure_hides_no_edit_of_another() {
    let world = World::new().await;
    let (tree, failing) = world.open_failing(0);
    for name in ["one", "two"] {
        let (function, revision) = world.function(name, "1").await;
        tree.create_function(&function, &revision).await.unwrap();
    }
    assert_eq!(look(&tree).await, []);
    for name in ["one", "two"] {
        fs::write(world.path(&format!("code/{name}/function.js")), "2").unwrap();
    }
    failing.left.store(2, Ordering::SeqCst);
    let mut found = Vec::new();
    for round in 0..2 {
        let Look { touched, .. } = touched(&tree).await;
        assert_eq!(touched.len(), 2 - round);
        for one in &touched {
            match tree.edit_of(one).await {
                Ok(edit) => found.extend(edit),
                Err(error) => assert_eq!(round, 0, "{error}"),
            }
        }
        assert_eq!(found.len(), 1 + round);
    }
    let mut found: Vec<_> = found.iter().map(source).collect();
    found.sort_unstable();
    assert_eq!(found, [("one", "2"), ("two", "2")]);
}

#[tokio::test]
async fn what_could_not_be_done_is_found_again_and_what_was_refused_is_not() {
    let world = World::new().await;
    let tree = world.open();
    for name in ["one", "two"] {
        let (function, revision) = world.function(name, "1").await;
        tree.create_function(&function, &revision).await.unwrap();
    }
    assert_eq!(look(&tree).await, []);
    fs::write(world.path("code/one/function.js"), "2").unwrap();
    fs::remove_file(world.path("metadata/two.json")).unwrap();
    assert_eq!(look(&tree).await.len(), 1, "a file that is gone may come back");
    fs::write(world.path("code/one/function.js"), "3").unwrap();
    for _ in 0..2 {
        let Look { touched, .. } = touched(&tree).await;
        let [gone, edited] = touched.as_slice() else { panic!("{touched:?}") };
        let found = tree.edit_of(gone).await.unwrap();
        let Some(Finding::Edit(Edit::Delete { name, .. })) = found else { panic!("{found:?}") };
        assert_eq!(name, "two");
        assert_eq!(source(&tree.edit_of(edited).await.unwrap().unwrap()), ("one", "3"));
        tree.look_again(gone).await;
        tree.look_again(edited).await;
    }
    assert_eq!(look(&tree).await.len(), 2);
    // What nobody has done is not said again; the file comes back.
    assert_eq!(look(&tree).await, [Finding::Restored("two".to_owned())]);
    assert_eq!(look(&tree).await, []);
}

#[tokio::test]
async fn a_deploy_leaves_files_that_were_saved_while_it_was_made() {
    let world = World::new().await;
    let (function, revision) = world.function("hello", "1").await;
    let tree = world.open();
    tree.create_function(&function, &revision).await.unwrap();
    assert_eq!(look(&tree).await, []);
    fs::write(world.path("code/hello/function.js"), "2").unwrap();
    assert_eq!(source(&look(&tree).await[0]), ("hello", "2"));
    // While that is built, somebody goes on.
    fs::write(world.path("code/hello/function.js"), "3").unwrap();
    let (second, newer) = world.next(&function, "2").await;
    tree.deploy_revision(&function, &second, &newer).await.unwrap();
    assert_eq!(world.read("code/hello/function.js"), "3");
    assert_eq!(source(&look(&tree).await[0]), ("hello", "3"));
    // The same with a deploy that nobody has edited anything for: what it changes stays, and so does what was saved.
    let mut card: serde_json::Value = serde_json::from_str(&world.read("metadata/hello.json")).unwrap();
    card["description"] = "mine".into();
    let edited = card.to_string();
    let (third, mut newest) = world.next(&second, "3").await;
    newest.config.limits = fixture::revision(function.id, 9).config.limits;
    fs::write(world.path("metadata/hello.json"), &edited).unwrap();
    tree.deploy_revision(&second, &third, &newest).await.unwrap();
    assert_eq!(world.read("metadata/hello.json"), edited);
    let found = look(&tree).await;
    let [Finding::Edit(Edit::Change { members, code: None, revision, .. })] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(serde_json::to_value(members).unwrap(), serde_json::json!({"description": "mine"}));
    assert_eq!(*revision, newest.id);
}

#[tokio::test]
async fn files_that_were_touched_and_not_changed_are_nobodys_edit() {
    let world = World::new().await;
    let (function, revision) = world.function("hello", "1").await;
    let tree = world.open();
    tree.create_function(&function, &revision).await.unwrap();
    assert_eq!(look(&tree).await, []);
    for name in ["code/hello/function.js", "metadata/hello.json"] {
        fs::write(world.path(name), world.read(name)).unwrap();
    }
    let (next, newer) = world.next(&function, "2").await;
    tree.deploy_revision(&function, &next, &newer).await.unwrap();
    assert_eq!(look(&tree).await, []);
    assert_eq!(world.read("code/hello/function.js"), "2");
}

#[tokio::test]
async fn an_edit_is_read_when_its_turn_comes_and_a_newer_deploy_wins() {
    let world = World::new().await;
    let tree = world.open();
    let mut functions = Vec::new();
    for name in ["one", "two"] {
        let (function, revision) = world.function(name, "1").await;
        tree.create_function(&function, &revision).await.unwrap();
        functions.push(function);
    }
    assert_eq!(look(&tree).await, []);
    for name in ["one", "two"] {
        fs::write(world.path(&format!("code/{name}/function.js")), "2").unwrap();
    }
    let mut touched = touched(&tree).await.touched;
    touched.sort_by(|a, b| a.name().cmp(b.name()));
    assert_eq!(source(&tree.edit_of(&touched[0]).await.unwrap().unwrap()), ("one", "2"));
    // While that is built, somebody deploys the other.
    let (next, newer) = world.next(&functions[1], "3").await;
    tree.deploy_revision(&functions[1], &next, &newer).await.unwrap();
    assert_eq!(tree.edit_of(&touched[1]).await.unwrap(), Some(Finding::Overtaken("two".to_owned())));
    assert_eq!(world.read("code/two/function.js"), "3");
    assert_eq!(look(&tree).await, []);
}
