use std::fs;

use super::*;
use crate::manifest::AgentFile;
use crate::tree::{Node, write};

/// The least that passes for a static program of this processor.
fn agent(folder: &Path) -> PathBuf {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    bytes[16] = 2;
    bytes[18..20].copy_from_slice(&Architecture::of_this_machine().elf_machine().to_le_bytes());
    bytes[20] = 1;
    bytes[52] = 64;
    bytes[54] = 56;
    let path = folder.join("agent");
    fs::write(&path, bytes).unwrap();
    path
}

/// An OCI archive of one layer with these files.
fn archive(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.put(Path::new(path), Node::file(0o755, text.as_bytes())).unwrap();
    }
    let (layer, image) = (folder.join("layer.tar"), folder.join("image.tar"));
    write::archive(&tree, 7, &mut fs::File::create(&layer).unwrap()).unwrap();
    let about = oci::write::About {
        name: "x",
        tags: &["x:latest".to_owned()],
        architecture: Architecture::of_this_machine(),
        agent: &AgentFile { path: "/a".to_owned(), digest: String::new() },
        environment: &BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
        time: 7,
    };
    oci::write::write(&about, &layer, &image).unwrap();
    image
}

fn request(name: &str, oci: PathBuf, agent: PathBuf) -> BuildRequest {
    BuildRequest {
        recipe: Recipe::of_oci(name).unwrap(),
        origin: Origin::Oci(oci),
        architecture: Architecture::of_this_machine(),
        format: Format::Oci,
        agent,
        tags: vec!["impuls/x:1".to_owned()],
        time: TIME,
        now: OffsetDateTime::UNIX_EPOCH,
    }
}

fn no_tools() -> Toolbox {
    Toolbox::only(vec![PathBuf::from("/nowhere")])
}

#[test]
fn an_image_of_an_image_is_equal_each_time_and_has_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let from = archive(folder.path(), &[("usr/bin/node", "node"), ("etc/os-release", "x")]);
    let request = request("nodejs22", from, agent(folder.path()));
    let first = build(&store, &request, &no_tools(), &|_: &str| {}).unwrap();
    let later = BuildRequest { now: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(), ..request };
    let second = build(&store, &later, &no_tools(), &|_: &str| {}).unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(store.entries().unwrap().len(), 1);
    assert_eq!(second.created, "2023-11-14T22:13:20Z");
    assert_eq!(second.environment["LANG"], "C");
    assert!(second.environment.contains_key("PATH"));
    assert!(matches!(&second.made_of, MadeOf::Oci { layers, .. } if layers.len() == 1));
    // What was built can be read again.
    let built = store.path(&second.digest);
    let again = oci::read::read(&built, second.architecture, folder.path(), &|_: &str| {}).unwrap();
    for path in ["opt/impuls/agent", "opt/impuls/node/shim.js", "usr/bin/node", "etc/os-release"] {
        assert!(again.tree.file(Path::new(path)).is_some(), "{path}");
    }
}

#[test]
fn an_archive_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let from = archive(folder.path(), &[("usr/bin/tool", "the tool's own bytes")]);
    let mut bytes = fs::read(&from).unwrap();
    let at = bytes.windows(8).position(|window| window == b"the tool").unwrap();
    bytes[at] = b'T';
    fs::write(&from, bytes).unwrap();
    let request = request("tools", from, agent(folder.path()));
    let error = build(&store, &request, &no_tools(), &|_: &str| {}).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert!(store.entries().unwrap().is_empty());
}

#[test]
fn what_is_missing_is_said_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    let check = |format: Format, agent: PathBuf, expected: &str| {
        let request = BuildRequest { format, ..request("tools", folder.path().join("none"), agent) };
        let error = build(&store, &request, &no_tools(), &|_: &str| {}).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!store.folder().exists());
    };
    check(Format::Squashfs, agent(folder.path()), "squashfs-tools");
    check(Format::Erofs, agent(folder.path()), "erofs-utils");
    check(Format::Ext4, agent(folder.path()), "e2fsprogs");
    check(Format::Oci, folder.path().join("nowhere"), "impuls-agent");
}

#[test]
fn archives_of_no_image_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::new(folder.path().join("images"));
    for (bytes, expected) in [(b"".as_slice(), "has no manifest.json"), (b"\x1f\x8bx", "failed")] {
        let from = folder.path().join("bad.tar");
        fs::write(&from, bytes).unwrap();
        let request = request("tools", from, agent(folder.path()));
        let error = build(&store, &request, &no_tools(), &|_: &str| {}).unwrap_err().to_string();
        assert!(error.contains(expected) || error.contains("bad.tar"), "{error}");
    }
}
