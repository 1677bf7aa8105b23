//! Writes a tree: as an archive whose bytes depend on nothing but the tree and one time, or as a folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tar::{Builder, EntryType, Header};

use super::{Kind, Node, Tree};
use crate::error::ImageError;

/// Writes an uncompressed tar archive: entries in the order of their names, all of one time, seconds since 1970.
pub fn archive(tree: &Tree, time: u64, to: &mut dyn Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    append(&mut builder, Path::new("./"), &Node::folder(0o755), time)?;
    for (path, node) in tree.entries() {
        append(&mut builder, path, node, time)?;
    }
    builder.finish()
}

fn append(builder: &mut Builder<&mut dyn Write>, path: &Path, node: &Node, time: u64) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.uid.into());
    header.set_gid(node.gid.into());
    header.set_mtime(time);
    header.set_size(0);
    match &node.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            let mut name = path.as_os_str().to_owned();
            if !name.as_bytes().ends_with(b"/") {
                name.push("/");
            }
            builder.append_data(&mut header, Path::new(&name), io::empty())
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, target)
        }
        Kind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(content.length());
            builder.append_data(&mut header, path, content.reader())
        }
    }
}

/// Makes an empty folder into the root of this tree. Owners are set only by the superuser; others own it all.
pub fn folder(tree: &Tree, time: u64, root: &Path) -> Result<(), ImageError> {
    let owned = rustix::process::geteuid().is_root();
    for (path, node) in tree.entries() {
        let place = root.join(path);
        make(&place, node, owned).map_err(ImageError::io("writing", &place))?;
    }
    // Last, because making a file changes its folder's time, and the innermost first.
    let entries: Vec<_> = tree.entries().collect();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
    for (path, node) in entries.into_iter().rev().chain([(Path::new(""), &Node::folder(0o755))]) {
        let place = root.join(path);
        finish(&place, node, time).map_err(ImageError::io("writing", &place))?;
    }
    Ok(())
}

fn make(place: &Path, node: &Node, owned: bool) -> io::Result<()> {
    match &node.kind {
        Kind::Folder => fs::create_dir(place)?,
        Kind::Link(target) => symlink(target, place)?,
        Kind::File(content) => {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(place)?;
            io::copy(&mut content.reader(), &mut file)?;
        }
    }
    if owned {
        std::os::unix::fs::lchown(place, Some(node.uid), Some(node.gid))?;
    }
    Ok(())
}

fn finish(place: &Path, node: &Node, time: SystemTime) -> io::Result<()> {
    match node.kind {
        Kind::Link(_) => Ok(()),
        Kind::Folder | Kind::File(_) => {
            // An ordinary user can change the time of what it can open.
            File::open(place)?.set_modified(time)?;
            fs::set_permissions(place, fs::Permissions::from_mode(node.mode))
        }
    }
}
