use super::*;

fn kernel(digest: &str, size: u64, created: &str) -> Entry {
    Entry::Kernel(KernelManifest {
        version: "6.1.1".to_owned(),
        architecture: Architecture::X86,
        digest: digest.to_owned(),
        size,
        created: created.to_owned(),
        made_of: "a test".to_owned(),
        kvm_pvm: false,
    })
}

fn put(store: &ImageStore, bytes: &[u8], created: &str) -> String {
    let workshop = store.workshop().unwrap();
    let file = workshop.folder().join("x");
    fs::write(&file, bytes).unwrap();
    let digest = staged::digest_of(bytes);
    store.keep(&file, &kernel(&digest, bytes.len() as u64, created)).unwrap();
    digest
}

fn scratch() -> (TempDir, ImageStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    (folder, store)
}

#[test]
fn a_store_that_does_not_exist_holds_nothing_and_is_not_made() {
    let (_folder, store) = scratch();
    assert!(store.entries().unwrap().is_empty());
    assert!(store.find("nodejs18").unwrap_err().is_not_found());
    assert!(store.remove("abcd").unwrap_err().is_not_found());
    assert!(!store.folder().exists());
}

#[test]
fn the_newest_comes_first_and_equal_bytes_are_kept_once() {
    let (_folder, store) = scratch();
    let first = put(&store, b"one", "2026-01-01T00:00:00Z");
    let second = put(&store, b"two", "2026-01-02T00:00:00Z");
    assert_eq!(store.kernel(Architecture::X86, false).unwrap().digest, second);
    put(&store, b"one", "2026-01-03T00:00:00Z");
    let digests: Vec<String> =
        store.entries().unwrap().iter().map(|entry| entry.digest().to_owned()).collect();
    assert_eq!(digests, [first.clone(), second.clone()]);
    assert_eq!(fs::read(store.path(&first)).unwrap(), b"one");
    assert_eq!(store.find("kernel").unwrap().digest(), first);
    assert_eq!(store.find(&second).unwrap().digest(), second);
    assert_eq!(store.find(&second[7..15]).unwrap().digest(), second);
    assert!(store.kernel(Architecture::Arm, false).unwrap_err().is_not_found());
    assert!(store.kernel(Architecture::X86, true).unwrap_err().is_not_found());
}

#[test]
fn what_is_removed_is_gone_with_its_bytes() {
    let (_folder, store) = scratch();
    let first = put(&store, b"one", "2026-01-01T00:00:00Z");
    let second = put(&store, b"two", "2026-01-02T00:00:00Z");
    assert!(matches!(store.remove("kernel"), Err(ImageError::Ambiguous { count: 2, .. })));
    assert_eq!(store.remove(&first[7..17]).unwrap(), first);
    assert!(!store.path(&first).exists());
    assert_eq!(store.remove("kernel").unwrap(), second);
    assert!(store.entries().unwrap().is_empty());
    assert!(store.remove("abc").unwrap_err().is_not_found(), "too few digits mean nothing");
}

#[test]
fn what_is_damaged_is_noticed_and_can_be_removed() {
    let (_folder, store) = scratch();
    let digest = put(&store, b"one", "2026-01-01T00:00:00Z");
    let entry = store.find("kernel").unwrap();
    store.verify(&entry).unwrap();
    fs::write(store.path(&digest), b"eno").unwrap();
    assert!(matches!(store.verify(&entry), Err(ImageError::Damaged { .. })));
    fs::write(store.path(&digest), b"").unwrap();
    assert!(matches!(store.entries(), Err(ImageError::Damaged { .. })));
    store.remove(&digest).unwrap();
    assert!(store.entries().unwrap().is_empty());
}

#[test]
fn one_build_runs_at_a_time_and_clears_what_a_crash_left() {
    let (_folder, store) = scratch();
    let workshop = store.workshop().unwrap();
    assert!(matches!(store.workshop(), Err(ImageError::Busy { .. })));
    drop(workshop);
    let left = store.folder().join(".tmp-crashed/deep");
    fs::create_dir_all(&left).unwrap();
    let workshop = store.workshop().unwrap();
    assert!(!left.exists());
    let folder = workshop.folder().to_owned();
    drop(workshop);
    assert!(!folder.exists());
}

#[test]
fn what_has_no_manifest_does_not_stay() {
    let (_folder, store) = scratch();
    let kept = put(&store, b"one", "2026-01-01T00:00:00Z");
    let bytes = store.path(&staged::digest_of(b"two"));
    let unfinished = store.folder().join("manifests/.tmpAbc123");
    let others = store.folder().join("sha256/README");
    for path in [&bytes, &unfinished, &others] {
        fs::write(path, b"two").unwrap();
    }
    drop(store.workshop().unwrap());
    assert!(!bytes.exists() && !unfinished.exists());
    assert!(others.exists() && store.find(&kept).is_ok());
}

#[test]
fn what_could_not_be_kept_leaves_no_bytes() {
    let (_folder, store) = scratch();
    let workshop = store.workshop().unwrap();
    let file = workshop.folder().join("x");
    fs::write(&file, b"one").unwrap();
    fs::remove_dir(store.folder().join("manifests")).unwrap();
    let digest = staged::digest_of(b"one");
    assert!(store.keep(&file, &kernel(&digest, 3, "2026-01-01T00:00:00Z")).is_err());
    assert!(!store.path(&digest).exists());
}
