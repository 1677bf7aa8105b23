use std::fs::File;
use std::io::{Read as _, Write as _};

use proptest::prelude::*;

use super::*;

/// A tar archive of these entries: name, and text, or `-> target` for a link, `=> target` for a further name.
fn archive(entries: &[(&str, &str)]) -> File {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        // Not `append_data`, which refuses the names that matter here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let link = text.strip_prefix("-> ").map(|to| (tar::EntryType::Symlink, to));
        let link = link.or_else(|| text.strip_prefix("=> ").map(|to| (tar::EntryType::Link, to)));
        let text = if link.is_some() || name.ends_with('/') { "" } else { text };
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        if let Some((kind, to)) = link {
            header.set_entry_type(kind);
            header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        }
        header.set_size(text.len() as u64);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    file_of(&builder.into_inner().unwrap())
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn lay(tree: &mut Tree, entries: &[(&str, &str)]) -> Result<(), ImageError> {
    layer::lay_over(tree, archive(entries), "a test")
}

fn shown(tree: &Tree) -> Vec<String> {
    let show = |(path, node): (&Path, &Node)| match &node.kind {
        Kind::Folder => format!("{}/", path.display()),
        Kind::Link(to) => format!("{} -> {}", path.display(), to.display()),
        Kind::File(content) => {
            let mut text = String::new();
            content.reader().read_to_string(&mut text).unwrap();
            format!("{}: {text}", path.display())
        }
    };
    tree.entries().map(show).collect()
}

#[test]
fn layers_lie_over_one_another() {
    let mut tree = Tree::default();
    lay(&mut tree, &[("./", ""), ("a/b", "1"), ("a/c", "2"), ("d/", ""), ("d/x", "3"), ("l", "-> d")])
        .unwrap();
    assert_eq!(shown(&tree), ["a/", "a/b: 1", "a/c: 2", "d/", "d/x: 3", "l -> d"]);
    lay(&mut tree, &[("a/.wh.b", ""), ("d/y", "4"), ("d/.wh..wh..opq", ""), ("l/z", "5"), ("e", "=> a/c")])
        .unwrap();
    assert_eq!(shown(&tree), ["a/", "a/c: 2", "d/", "d/y: 4", "d/z: 5", "e: 2", "l -> d"]);
    assert_eq!(tree.bytes(), 4);
    lay(&mut tree, &[("d", "a file now"), (".wh.a", "")]).unwrap();
    assert_eq!(shown(&tree), ["d: a file now", "e: 2", "l -> d"]);
}

#[test]
fn nothing_leads_out_of_the_root() {
    let refused = |entries: &[(&str, &str)]| lay(&mut Tree::default(), entries).unwrap_err().to_string();
    assert!(refused(&[("../x", "")]).contains("leads out of the root"));
    assert!(refused(&[("a/../../x", "")]).contains("leads out of the root"));
    assert!(refused(&[("x", "=> ../../etc/passwd")]).contains("no file before it"));
    assert!(refused(&[("a", "-> b"), ("b", "-> a"), ("a/x", "")]).contains("lead nowhere"));
    assert!(refused(&[("a", "1"), ("a/b", "2")]).contains("needs a folder"));
    let mut tree = Tree::default();
    lay(&mut tree, &[("out", "-> ../../../../tmp"), ("abs", "-> /etc"), ("out/x", "1"), ("abs/y", "2")])
        .unwrap();
    lay(&mut tree, &[("/root", "3"), (".wh...", ""), ("../.wh.tmp", "")]).unwrap();
    let expected =
        ["abs -> /etc", "etc/", "etc/y: 2", "out -> ../../../../tmp", "root: 3", "tmp/", "tmp/x: 1"];
    assert_eq!(shown(&tree), expected);
}

#[test]
fn links_make_no_path_longer_than_a_path_can_be() {
    let mut tree = Tree::default();
    for number in 0..39 {
        // Each leads through the next one and deep below it.
        let target = format!("l{}{}", number + 1, "/x".repeat(2_000));
        tree.put(Path::new(&format!("l{number}")), Node::link(target)).unwrap();
    }
    let error = tree.put(Path::new("l0/file"), Node::file(0o644, b"")).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
    assert!(tree.len() < 100, "{}", tree.len());
}

#[test]
fn the_names_of_a_tree_have_one_bound_together() {
    let mut tree = Tree { names: NAME_BYTES - 10, ..Tree::default() };
    tree.put(Path::new("a"), Node::link("/bcd")).unwrap();
    tree.put(Path::new("a"), Node::folder(0o755)).unwrap();
    tree.put(Path::new("a"), Node::folder(0o700)).unwrap();
    assert_eq!(tree.names, NAME_BYTES - 9);
    let error = tree.put(Path::new("a/b/c/d"), Node::file(0o644, b"")).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { limit: NAME_BYTES, .. }), "{error}");
    tree.remove(Path::new("a"));
    assert_eq!((tree.len(), tree.names), (0, NAME_BYTES - 10));
}

/// An archive of entries with these names, of these kinds, with so many bytes each.
fn archive_of(entries: &[(&[u8], tar::EntryType, usize)]) -> File {
    let mut builder = tar::Builder::new(Vec::new());
    for &(name, kind, length) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(length as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, vec![b'a'; length].as_slice()).unwrap();
    }
    file_of(&builder.into_inner().unwrap())
}

#[test]
fn names_and_attributes_have_a_bound() {
    use tar::EntryType;
    let check = |kind: EntryType, length: usize, expected: &str| {
        let file = archive_of(&[(b"long", kind, length), (b"x", EntryType::Symlink, 0)]);
        let errors = [
            layer::index(&file, "a test").unwrap_err(),
            layer::lay_over(&mut Tree::default(), file, "a test").unwrap_err(),
        ];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.contains(expected), "{kind:?}: {error}");
        }
    };
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        check(kind, 1 << 20, "bytes of names and attributes");
    }
    check(EntryType::GNULongName, 5_000, "too long for a path");
    check(EntryType::GNULongLink, 5_000, "too long for a path");
    let attributes = archive_of(&[(b"long", EntryType::XHeader, 65_000), (b"x", EntryType::Regular, 7)]);
    assert_eq!(layer::index(&attributes, "a test").unwrap().len(), 1);
}

#[test]
fn whiteouts_take_away_what_is_no_text() {
    let file = |name: &'static [u8]| archive_of(&[(name, tar::EntryType::Regular, 0)]);
    let mut tree = Tree::default();
    layer::lay_over(&mut tree, file(b"a/\xff"), "a test").unwrap();
    lay(&mut tree, &[("a/b", "1")]).unwrap();
    layer::lay_over(&mut tree, file(b"a/.wh.\xff"), "a test").unwrap();
    assert_eq!(shown(&tree), ["a/", "a/b: 1"]);
    // A name that no file has takes nothing away, the folder itself least of all.
    lay(&mut tree, &[("a/.wh..", ""), ("a/.wh.", ""), ("a/.wh...", "")]).unwrap();
    assert_eq!(shown(&tree), ["a/", "a/b: 1"]);
}

#[test]
fn nobody_becomes_somebody_else_by_a_file() {
    let mut tree = Tree::default();
    lay(&mut tree, &[("su", "")]).unwrap();
    let node = tree.get(Path::new("su")).unwrap();
    assert_eq!((node.mode, node.uid, node.gid), (0o755, 7, 8));
}

#[test]
fn the_archive_of_a_tree_depends_on_nothing_but_the_tree() {
    let entries = [("b", "1"), ("a/long", "2"), ("c", "-> b")];
    let write = |entries: &[(&str, &str)]| {
        let (mut tree, mut bytes) = (Tree::default(), Vec::new());
        lay(&mut tree, entries).unwrap();
        write::archive(&tree, 5, &mut bytes).unwrap();
        bytes
    };
    let bytes = write(&entries);
    assert_eq!(bytes, write(&[entries[2], entries[1], entries[0]]));
    let mut again = Tree::default();
    layer::lay_over(&mut again, file_of(&bytes), "its own").unwrap();
    assert_eq!(shown(&again), ["a/", "a/long: 2", "b: 1", "c -> b"]);
}

#[test]
fn a_folder_of_a_tree_has_its_files_links_and_times() {
    let mut tree = Tree::default();
    lay(&mut tree, &[("a/b", "1"), ("l", "-> /nowhere")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write::folder(&tree, 1_000, folder.path()).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("a/b")).unwrap(), "1");
    assert_eq!(std::fs::read_link(folder.path().join("l")).unwrap(), Path::new("/nowhere"));
    let modified = std::fs::metadata(folder.path().join("a")).unwrap().modified().unwrap();
    assert_eq!(modified, std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000));
}

#[test]
fn merging_moves_a_folder_and_leaves_a_link() {
    let mut tree = Tree::default();
    lay(&mut tree, &[("bin/sh", "1"), ("bin/x", "-> sh"), ("usr/bin/x", "2"), ("lib", "-> usr/lib")])
        .unwrap();
    tree.merge(Path::new("bin"), Path::new("usr/bin")).unwrap();
    tree.merge(Path::new("lib"), Path::new("usr/lib")).unwrap();
    let expected = ["bin -> usr/bin", "lib -> usr/lib", "usr/", "usr/bin/", "usr/bin/sh: 1", "usr/bin/x: 2"];
    assert_eq!(shown(&tree), expected);
    assert_eq!(tree.file(Path::new("/bin/sh")).unwrap().0, Path::new("usr/bin/sh"));
}

proptest! {
    #[test]
    fn foreign_bytes_make_a_tree_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), at in 0..2048usize) {
        let valid = archive(&[("a/b", "1"), ("l", "-> a"), ("l/c", "2")]);
        let mut whole = layer::read_part(&valid, (0, 4096), 4096).unwrap();
        // Either bytes from nowhere, or an archive with some of them in its midst.
        let _ = layer::lay_over(&mut Tree::default(), file_of(&bytes), "noise");
        bytes.truncate(64);
        let end = (at + bytes.len()).min(whole.len());
        whole.splice(at.min(end)..end, bytes);
        let mut tree = Tree::default();
        if layer::lay_over(&mut tree, file_of(&whole), "noise").is_ok() {
            for (path, _) in tree.entries() {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
