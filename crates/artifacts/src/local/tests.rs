use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

struct Scratch {
    store: LocalArtifacts,
    folder: TempDir,
}

impl AsRef<LocalArtifacts> for Scratch {
    fn as_ref(&self) -> &LocalArtifacts {
        &self.store
    }
}

async fn open() -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalArtifacts::open(&folder.path().join("artifacts")).unwrap();
    Scratch { store, folder }
}

crate::artifact_store_conformance!(open);

#[tokio::test]
async fn artifacts_survive_reopening() {
    let scratch = open().await;
    let digest = scratch.store.put(Bytes::from_static(b"kept")).await.unwrap();
    let again = LocalArtifacts::open(&scratch.folder.path().join("artifacts")).unwrap();
    assert_eq!(again.get(&digest).await.unwrap(), b"kept".as_slice());
}

#[tokio::test]
async fn changed_bytes_are_damaged_and_putting_heals_them() {
    let scratch = open().await;
    let digest = scratch.store.put(Bytes::from_static(b"whole")).await.unwrap();
    fs::write(scratch.store.path(&digest), b"wh").unwrap();
    let found = scratch.store.get(&digest).await;
    assert!(matches!(found, Err(ArtifactError::Damaged(damaged)) if damaged == digest), "{found:?}");
    scratch.store.put(Bytes::from_static(b"whole")).await.unwrap();
    assert_eq!(scratch.store.get(&digest).await.unwrap(), b"whole".as_slice());
}

#[tokio::test]
async fn files_belong_to_their_owner_alone_and_nothing_else_is_left() {
    let scratch = open().await;
    let digest = scratch.store.put(Bytes::from_static(b"secret")).await.unwrap();
    let path = scratch.store.path(&digest);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let shard = path.parent().unwrap();
    assert_eq!((mode(shard), mode(&scratch.store.objects)), (0o700, 0o700));
    assert_eq!(fs::read_dir(shard).unwrap().count(), 1);
}

#[tokio::test]
async fn opening_removes_what_a_crash_left_half_written() {
    let scratch = open().await;
    let digest = scratch.store.put(Bytes::from_static(b"whole")).await.unwrap();
    let half = scratch.store.path(&digest).with_file_name(".tmp-half");
    fs::write(&half, b"ha").unwrap();
    let again = LocalArtifacts::open(&scratch.folder.path().join("artifacts")).unwrap();
    assert!(!half.exists());
    assert!(again.get(&digest).await.is_ok());
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_an_error() {
    let scratch = open().await;
    let file = scratch.folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for root in [file.clone(), file.join("below"), scratch.folder.path().join("missing/below")] {
        assert!(matches!(LocalArtifacts::open(&root), Err(ArtifactError::Io { .. })), "{root:?}");
    }
}

#[tokio::test]
async fn a_put_that_meets_a_discard_is_kept() {
    let scratch = open().await;
    for _ in 0..200 {
        let digest = scratch.store.put(Bytes::from_static(b"contested")).await.unwrap();
        let put = fs::metadata(scratch.store.path(&digest)).unwrap().modified().unwrap();
        let (discarded, again) = tokio::join!(
            scratch.store.discard(&digest, put),
            scratch.store.put(Bytes::from_static(b"contested"))
        );
        discarded.unwrap();
        assert_eq!(scratch.store.get(&again.unwrap()).await.unwrap(), b"contested".as_slice());
    }
}

#[tokio::test]
async fn a_shared_folder_keeps_what_others_are_writing() {
    let scratch = open().await;
    let root = scratch.folder.path().join("artifacts");
    scratch.store.put(Bytes::from_static(b"x")).await.unwrap();
    let shard = fs::read_dir(root.join("sha256")).unwrap().next().unwrap().unwrap().path();
    let half_written = shard.join(".tmp-theirs");
    fs::write(&half_written, b"half").unwrap();
    LocalArtifacts::open_shared(&root).unwrap();
    assert!(half_written.exists());
    assert_eq!(scratch.store.list(None, 10).await.unwrap().len(), 1);
    LocalArtifacts::open(&root).unwrap();
    assert!(!half_written.exists());
}
