pub(crate) mod archive;

mod hostile;
mod ordinary;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// Few enough that a test reaches each limit quickly.
const SMALL: ArchiveLimits = ArchiveLimits { packed_bytes: 200_000, unpacked_bytes: 100_000, entries: 50 };

/// Unpacks into a new folder; also checks that the check without writing comes to the same end, and that a refusal
/// leaves nothing.
fn extract_within(bytes: &[u8], limits: &ArchiveLimits) -> Result<TempDir, ArchiveError> {
    let scratch = tempfile::tempdir().unwrap();
    let result = extract_zip(bytes, &scratch.path().join("code"), limits);
    let checked = validate_zip(bytes, limits);
    assert_eq!(format!("{result:?}"), format!("{checked:?}"));
    let names: Vec<_> =
        fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    match result {
        Ok(()) => {
            assert_eq!(names, ["code"]);
            Ok(scratch)
        }
        Err(refusal) => {
            assert!(names.is_empty(), "{names:?} is left after {refusal:?}");
            Err(refusal)
        }
    }
}

fn extract(bytes: &[u8]) -> Result<TempDir, ArchiveError> {
    extract_within(bytes, &ArchiveLimits::default())
}

/// Every path below the unpacked folder with its mode, sorted.
fn tree(scratch: &TempDir) -> Vec<(String, u32)> {
    let root = scratch.path().join("code");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, u32)>) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.push((name, metadata.permissions().mode()));
        if metadata.is_dir() {
            collect(root, &path, found);
        }
    }
}
