//! What must be accepted, and what comes of it.

use std::io::Write as _;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;

use super::archive::{Member, zip};
use super::*;

fn read(scratch: &TempDir, path: &str) -> String {
    fs::read_to_string(scratch.path().join("code").join(path)).unwrap()
}

#[test]
fn files_and_folders_appear_with_plain_modes() {
    let members = [
        Member::folder("src/"),
        Member::file("src/app.py", "x"),
        Member::deflated("implied/deep/data.txt", &b"data ".repeat(1_000)),
        Member { mode: 0o106_751, ..Member::file("setuid", "y") },
        Member { mode: 0o100_000, ..Member::file("unreadable", "z") },
        Member { mode: 0, ..Member::file("from-dos", "") },
        Member { mode: 0o040_000, ..Member::folder("closed/") },
    ];
    let scratch = extract(&zip(&members)).unwrap();
    let expected = [
        ("closed", 0o040_755),
        ("from-dos", 0o100_644),
        ("implied", 0o040_755),
        ("implied/deep", 0o040_755),
        ("implied/deep/data.txt", 0o100_644),
        ("setuid", 0o100_755),
        ("src", 0o040_755),
        ("src/app.py", 0o100_644),
        ("unreadable", 0o100_644),
    ];
    let found = tree(&scratch);
    let found: Vec<(&str, u32)> = found.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    assert_eq!(found, expected);
    assert_eq!(read(&scratch, "src/app.py"), "x");
    assert_eq!(read(&scratch, "implied/deep/data.txt").len(), 5_000);
}

#[test]
fn an_archive_of_nothing_is_an_empty_folder() {
    assert_eq!(tree(&extract(&zip(&[])).unwrap()), []);
}

#[test]
fn a_folder_may_be_named_after_its_files() {
    let members = [Member::file("a/b", ""), Member::folder("a/")];
    assert_eq!(tree(&extract(&zip(&members)).unwrap()).len(), 2);
}

#[test]
fn entries_may_begin_at_the_root_as_bsdtar_writes_them() {
    let members = [Member::folder("./"), Member::file("./index.js", "1"), Member::file("./lib/x.js", "2")];
    let scratch = extract(&zip(&members)).unwrap();
    assert_eq!((read(&scratch, "index.js"), read(&scratch, "lib/x.js")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn names_that_differ_by_case_are_two_files() {
    let members = [Member::file("A", ""), Member::file("a", "")];
    assert_eq!(tree(&extract(&zip(&members)).unwrap()).len(), 2);
}

#[test]
fn bytes_before_the_archive_are_allowed() {
    let mut bytes = b"#!/usr/bin/env python3\n".to_vec();
    bytes.extend(zip(&[Member::file("a", "1")]));
    assert_eq!(read(&extract(&bytes).unwrap(), "a"), "1");
}

#[test]
fn an_archive_within_the_archive_stays_packed() {
    let inner = zip(&[Member::file("x", "1"), Member::file("y", "2")]);
    let scratch = extract(&zip(&[Member::file("inner.zip", &inner)])).unwrap();
    assert_eq!(fs::read(scratch.path().join("code/inner.zip")).unwrap(), inner);
}

#[test]
fn streamed_archives_are_accepted() {
    // Their sizes follow the data instead of preceding it.
    let mut writer = zip::ZipWriter::new_stream(Vec::new());
    for (name, content) in [("a.txt", "first"), ("b/c.txt", "second")] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(read(&extract(&bytes).unwrap(), "b/c.txt"), "second");
}

#[test]
fn every_limit_is_inclusive() {
    let files: Vec<Member> = (0..50).map(|n| Member::file(format!("f{n}"), "x".repeat(2_000))).collect();
    assert!(extract_within(&zip(&files), &SMALL).is_ok());
}

#[test]
fn the_limits_are_those_of_the_documentation() {
    let limits = ArchiveLimits::default();
    assert_eq!((limits.packed_bytes >> 20, limits.unpacked_bytes >> 20, limits.entries), (50, 250, 65_000));
}

#[test]
fn a_folder_that_exists_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("code")).unwrap();
    fs::write(scratch.path().join("code/mine"), "").unwrap();
    let bytes = zip(&[Member::file("a", "")]);
    let refused = extract_zip(&bytes, &scratch.path().join("code"), &SMALL);
    assert!(matches!(refused, Err(ArchiveError::Io { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert!(scratch.path().join("code/mine").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_packed_comes_out(
        files in prop::collection::btree_map("[a-c]{1,3}(/[d-f]{1,3}){0,3}\\.txt", prop::collection::vec(any::<u8>(), 0..300), 0..12),
        deflate in any::<bool>(),
    ) {
        let member = |(name, content): (&String, &Vec<u8>)| {
            if deflate { Member::deflated(name, content) } else { Member::file(name, content) }
        };
        let members: Vec<Member> = files.iter().map(member).collect();
        let scratch = extract(&zip(&members)).unwrap();
        for (name, content) in &files {
            prop_assert_eq!(&fs::read(scratch.path().join("code").join(name)).unwrap(), content);
        }
        let plain_files = tree(&scratch).into_iter().filter(|(_, mode)| *mode == 0o100_644).count();
        prop_assert_eq!(plain_files, files.len());
    }
}
