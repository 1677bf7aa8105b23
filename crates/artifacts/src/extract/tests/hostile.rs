//! What must be refused, and leave nothing.

use proptest::prelude::*;

use super::archive::{ENCRYPTED, Member, finish, zip};
use super::*;

fn refusal(members: &[Member]) -> ArchiveError {
    extract(&zip(members)).map(drop).unwrap_err()
}

/// The archive also has a harmless file, which must not appear either.
fn refused_name(name: impl AsRef<[u8]>) -> PathError {
    match refusal(&[Member::file("harmless", "1"), Member::file(name.as_ref(), "2")]) {
        ArchiveError::Name { source, .. } => source,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(name.as_ref())),
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for name in ["../evil", "a/../../evil", "a/..", "..", "./../evil", "a/./b", "././a"] {
        assert_eq!(refused_name(name), PathError::Dots, "{name}");
    }
    for name in ["/etc/passwd", "//x", ".//etc/passwd"] {
        assert_eq!(refused_name(name), PathError::Absolute, "{name}");
    }
    for name in ["..\\evil", "C:\\evil", "a\\b"] {
        assert_eq!(refused_name(name), PathError::Backslash, "{name}");
    }
}

#[test]
fn paths_that_deceive_are_refused() {
    assert_eq!(refused_name("a//b"), PathError::Empty);
    assert_eq!(refused_name("a\0.js"), PathError::Control);
    assert_eq!(refused_name("a\r\nb"), PathError::Control);
    assert_eq!(refused_name("a\u{1b}[2Jb"), PathError::Control);
    assert_eq!(refused_name("x".repeat(256)), PathError::Component);
    assert_eq!(refused_name(vec!["x"; 101].join("/")), PathError::Depth);
    assert_eq!(refused_name(vec!["x".repeat(99); 40].join("/")), PathError::Length);
    assert!(matches!(refusal(&[Member::file(b"a\xff\xfeb", "")]), ArchiveError::Encoding { .. }));
}

#[test]
fn a_long_name_is_cut_in_the_message() {
    let refused = refusal(&[Member::file("../".repeat(1_000), "")]);
    assert!(refused.to_string().len() < 300, "{refused}");
}

#[test]
fn anything_but_files_and_folders_is_refused() {
    let kinds = [0o120_777, 0o020_666, 0o060_660, 0o010_644, 0o140_755, 0o160_000, 0o040_755];
    for mode in kinds {
        let refused =
            refusal(&[Member::file("a", "/etc/passwd"), Member { mode, ..Member::file("b", "/etc") }]);
        assert!(matches!(&refused, ArchiveError::Kind { name } if name == "b"), "{mode:o}: {refused:?}");
    }
    let with_content = Member { mode: 0o040_755, ..Member::file("a/", "content") };
    let file_like = Member { mode: 0o100_644, ..Member::folder("a/") };
    for member in [with_content, file_like] {
        assert!(matches!(refusal(&[member]), ArchiveError::Kind { .. }));
    }
}

#[test]
fn encrypted_entries_are_refused() {
    let member = Member { flags: ENCRYPTED, ..Member::file("secret", "x") };
    assert!(matches!(refusal(&[member]), ArchiveError::Encrypted { .. }));
    let only_inside = Member { local_flags: Some(ENCRYPTED), ..Member::file("secret", "x") };
    assert!(matches!(refusal(&[only_inside]), ArchiveError::Malformed(_)));
}

#[test]
fn other_compressions_are_refused() {
    for method in [1, 6, 9, 12, 14, 93, 95, 98, 99, 77] {
        let refused = refusal(&[Member { method, ..Member::file("a", "x") }]);
        assert!(matches!(refused, ArchiveError::Compression { .. }), "{method}: {refused:?}");
    }
}

#[test]
fn a_path_that_occurs_twice_is_refused() {
    let same = refusal(&[Member::file("a", "1"), Member::file("b", ""), Member::file("a", "2")]);
    assert_eq!(same.to_string(), "archive has more than one entry at \"a\"");
    for [one, two] in [["a", "./a"], ["a", "a/b"], ["a/b", "a"], ["a", "a/"], ["a/", "a"], ["a/b/c", "a/b"]] {
        let member = |name: &str| {
            if name.ends_with('/') { Member::folder(name) } else { Member::file(name, "") }
        };
        let refused = refusal(&[member(one), member(two)]);
        assert!(matches!(refused, ArchiveError::Duplicate { .. }), "{one}, {two}: {refused:?}");
    }
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let renamed = Member { local_name: Some(b"../evil".to_vec()), ..Member::file("harmless", "x") };
    let hidden = Member { hidden: true, ..Member::file("hidden", "x") };
    for members in [vec![renamed], vec![Member::file("a", "1"), hidden, Member::file("b", "2")]] {
        let refused = refusal(&members);
        assert!(matches!(refused, ArchiveError::Malformed(_)), "{refused:?}");
    }
}

#[test]
fn entries_that_share_bytes_are_refused() {
    // Two names for the same data.
    let (one, two) = (Member::file("a", "kernel"), Member::file("b", "kernel"));
    let mut bytes = one.local_header();
    bytes.extend_from_slice(&one.packed);
    let shared = finish(bytes, &[one.central_header(0), two.central_header(0)]);
    // One entry whose data is the other with its header, as in bombs that grow with the square of their size.
    let inner = Member::file("inner", "x".repeat(100));
    let mut quoted = inner.local_header();
    quoted.extend_from_slice(&inner.packed);
    let outer = Member::file("outer", &quoted);
    let start = outer.local_header();
    let offset = start.len() as u32;
    let mut bytes = start;
    bytes.extend(quoted);
    let nested = finish(bytes, &[outer.central_header(0), inner.central_header(offset)]);
    for bytes in [shared, nested] {
        let refused = extract(&bytes).unwrap_err();
        assert!(matches!(refused, ArchiveError::Overlap), "{refused:?}");
    }
}

#[test]
fn bombs_stop_at_the_limit_whatever_they_declare() {
    let zeros = Member::deflated("bomb", &vec![0; 4_000_000]);
    let mut ends = Vec::new();
    for size in [4_000_000, 10, 0, 99_999, u32::MAX - 1] {
        let member = Member { size, ..zeros.clone() };
        ends.push(extract_within(&zip(&[member]), &SMALL).unwrap_err());
    }
    for end in &ends {
        assert!(matches!(end, ArchiveError::Unpacked { .. } | ArchiveError::Damaged { .. }), "{end:?}");
    }
    let many: Vec<Member> = (0..5).map(|n| Member::deflated(&format!("part{n}"), &[0; 20_001])).collect();
    let together = extract_within(&zip(&many), &SMALL).unwrap_err();
    let expected = "archive has more than 100000 bytes unpacked; entry \"part4\" goes beyond them";
    assert_eq!(together.to_string(), expected);
}

#[test]
fn sizes_that_are_not_as_declared_are_damage() {
    for size in [0, 4, 6] {
        let refused = refusal(&[Member { size, ..Member::deflated("a", b"hello") }]);
        assert!(matches!(refused, ArchiveError::Damaged { .. }), "{size}: {refused:?}");
    }
    let refused = refusal(&[Member { crc: 1, ..Member::file("a", "hello") }]);
    assert!(matches!(refused, ArchiveError::Damaged { .. }), "{refused:?}");
}

#[test]
fn too_many_entries_are_refused() {
    let names: Vec<Member> = (0..65_001).map(|n| Member::file(n.to_string(), "")).collect();
    assert!(matches!(refusal(&names), ArchiveError::Entries { limit: 65_000 }));
    // Few files, but each needs folders of its own.
    let deep: Vec<Member> = (0..10).map(|n| Member::file(format!("{n}/a/b/c/d/x"), "")).collect();
    let refused = extract_within(&zip(&deep), &SMALL).unwrap_err();
    assert!(matches!(refused, ArchiveError::Entries { limit: 50 }), "{refused:?}");
    // So many headers that they are not even read, whatever the end of the archive says.
    let bytes = finish(b"PK\x01\x02".repeat(300), &[]);
    let refused = extract_within(&bytes, &SMALL).unwrap_err();
    assert!(matches!(refused, ArchiveError::Entries { limit: 50 }), "{refused:?}");
}

#[test]
fn a_large_archive_is_refused_unread() {
    let refused = extract_within(&vec![0; 200_001], &SMALL).unwrap_err();
    assert!(matches!(refused, ArchiveError::Packed { size: 200_001, limit: 200_000 }), "{refused:?}");
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in
        [&b""[..], b"PK", b"exports.handler = () => 1", &[0; 5_000], b"\x1f\x8b\x08tar", b"Rar!\x1a\x07"]
    {
        let refused = extract(bytes).unwrap_err();
        assert!(matches!(refused, ArchiveError::Malformed(_)), "{refused:?}");
    }
}

fn sample() -> Vec<u8> {
    zip(&[
        Member::folder("src/"),
        Member::deflated("src/app.py", &b"print('hello')\n".repeat(20)),
        Member::executable("bin/run", "#!/bin/sh\n"),
        Member::file("data", [7; 64]),
    ])
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let whole = sample();
    for length in 0..whole.len() {
        assert!(extract(&whole[..length]).is_err(), "cut to {length}");
    }
}

/// Everything below the folder is a plain file or a folder, within the limits.
fn is_harmless(scratch: &TempDir) -> bool {
    let kinds = [0o100_644, 0o100_755, 0o040_755];
    let found = tree(scratch);
    found.len() <= SMALL.entries && found.iter().all(|(_, mode)| kinds.contains(mode))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_archive_is_refused_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = sample();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(scratch) = extract_within(&bytes, &SMALL) {
            prop_assert!(is_harmless(&scratch));
        }
    }

    #[test]
    fn any_names_and_modes_are_refused_or_harmless(
        members in prop::collection::vec(("[ab./\\\\\u{0}]{0,6}", any::<u16>(), any::<bool>()), 0..5),
    ) {
        let member = |(name, mode, plain): &(String, u16, bool)| {
            Member { mode: if *plain { 0o100_644 } else { u32::from(*mode) }, ..Member::file(name, "x") }
        };
        let members: Vec<Member> = members.iter().map(member).collect();
        if let Ok(scratch) = extract_within(&zip(&members), &SMALL) {
            prop_assert!(is_harmless(&scratch));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(scratch) = extract_within(&bytes, &SMALL) {
            prop_assert!(is_harmless(&scratch));
        }
    }
}
