//! Lays a tar archive over a tree: packages' files, or a layer of an OCI image with its whiteouts (OCI image
//! specification 1.1, "Image Layer Filesystem Changeset").

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use tar::{Archive, Entry, EntryType};

use super::{Content, Kind, MOST_ENTRIES, NAME_BYTES, Node, PATH_BYTES, Tree, ordinary};
use crate::error::ImageError;

/// How the name of a whiteout begins.
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of everything that lower layers have in a folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What no file is called.
const NO_NAMES: [&[u8]; 3] = [b"", b".", b".."];
/// The most bytes of one entry beside its contents: headers, long names, attributes (64 KiB each at most in Linux).
const ENTRY_BYTES: u64 = 256 * 1024;

/// A file of which only so much is read for one entry. The contents of files are skipped by seeking; what is read is kept in
/// memory by the archive's reader, however much of it the archive says that there is.
struct Metered {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Metered {
    /// A reader of the whole file, and what sets anew how much may be read.
    fn new(file: &File) -> io::Result<(Self, Rc<Cell<u64>>)> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let left = Rc::new(Cell::new(ENTRY_BYTES));
        Ok((Self { file, left: left.clone() }, left))
    }
}

impl Read for Metered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 && !into.is_empty() {
            let reason = format!("an entry has more than {ENTRY_BYTES} bytes of names and attributes");
            return Err(io::Error::other(reason));
        }
        let read = self.file.read(into.get_mut(..most).unwrap_or_default())?;
        self.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The names of an archive, which has this name itself in errors.
struct Names<'a> {
    what: &'a str,
    /// How many bytes more there may be.
    left: u64,
}

impl<'a> Names<'a> {
    const fn of(what: &'a str) -> Self {
        Self { what, left: NAME_BYTES }
    }

    /// Refuses a path that no file can have, and one too many, before it is kept.
    fn admit(&mut self, path: &Path) -> Result<(), ImageError> {
        let length = path.as_os_str().len();
        if length > PATH_BYTES {
            let shown: String = path.to_string_lossy().chars().take(200).collect();
            return Err(ImageError::archive(self.what, format!("{shown:?}… is too long for a path")));
        }
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or(ImageError::TooLarge { what: "bytes in its names", limit: NAME_BYTES })?;
        Ok(())
    }
}

/// What an entry of the archive does.
enum Change {
    Put(PathBuf, Node),
    /// The same file under a further name.
    Again {
        path: PathBuf,
        original: PathBuf,
    },
}

/// Lays an uncompressed tar archive over a tree. Whiteouts take away only what was there before. Devices, pipes and
/// sockets are left out: guests have devices of their own. `what` names the archive in errors.
pub fn lay_over(tree: &mut Tree, file: File, what: &str) -> Result<(), ImageError> {
    let unreadable = |error: io::Error| ImageError::archive(what, error.to_string());
    let length = file.metadata().map_err(unreadable)?.len();
    let (reader, left) = Metered::new(&file).map_err(unreadable)?;
    let file = Arc::new(file);
    let (mut changes, mut whiteouts, mut names) = (Vec::new(), Vec::new(), Names::of(what));
    let mut archive = Archive::new(reader);
    for (count, entry) in archive.entries_with_seek().map_err(unreadable)?.enumerate() {
        if count >= MOST_ENTRIES {
            return Err(ImageError::TooLarge { what: "files and folders", limit: MOST_ENTRIES as u64 });
        }
        left.set(ENTRY_BYTES);
        let entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        names.admit(&path)?;
        if name_of(&path).starts_with(WHITEOUT) {
            whiteouts.push(path);
        } else if let Some(change) = change(&entry, path, (&file, length), &mut names)? {
            changes.push(change);
        }
    }
    whiteouts.iter().for_each(|path| white_out(tree, path));
    changes.into_iter().try_for_each(|change| perform(tree, change))
}

fn change(
    entry: &Entry<'_, Metered>,
    path: PathBuf,
    (file, length): (&Arc<File>, u64),
    names: &mut Names<'_>,
) -> Result<Option<Change>, ImageError> {
    let what = names.what;
    let refused = |reason: &str| {
        let shown: String = path.to_string_lossy().chars().take(200).collect();
        ImageError::archive(what, format!("entry {shown:?} {reason}"))
    };
    let header = entry.header();
    let number = |value: io::Result<u64>| value.ok().and_then(|value| u32::try_from(value).ok());
    let mode = header.mode().map_err(|_| refused("has no valid mode"))?;
    let (uid, gid) = number(header.uid())
        .zip(number(header.gid()))
        .ok_or_else(|| refused("has an owner that no Linux can have"))?;
    let mut target = || {
        let target = entry.link_name().ok().flatten().map(std::borrow::Cow::into_owned);
        let target = target.ok_or_else(|| refused("is a link to nothing"))?;
        names.admit(&target).map(|()| target)
    };
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(refused("is cut off"));
            }
            Kind::File(Content::Part { file: file.clone(), offset, length: size })
        }
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Link(target()?),
        EntryType::Link => return Ok(Some(Change::Again { original: target()?, path })),
        EntryType::GNUSparse => return Err(refused("has holes, which are not supported")),
        _ => return Ok(None),
    };
    Ok(Some(Change::Put(path, Node { kind, mode, uid, gid })))
}

fn white_out(tree: &mut Tree, path: &Path) {
    let Some(path) = ordinary(path) else { return };
    let name = name_of(&path);
    let Some(folder) = tree.resolve(path.parent().unwrap_or(Path::new("")), true) else { return };
    if name == OPAQUE {
        tree.below(&folder).iter().for_each(|path| tree.remove(path));
    } else if let Some(name) = name.strip_prefix(WHITEOUT).filter(|name| !NO_NAMES.contains(name)) {
        tree.remove(&folder.join(OsStr::from_bytes(name)));
    }
}

/// The last name of a path, which need not be text.
fn name_of(path: &Path) -> &[u8] {
    path.file_name().map(OsStr::as_bytes).unwrap_or_default()
}

fn perform(tree: &mut Tree, change: Change) -> Result<(), ImageError> {
    match change {
        Change::Put(path, node) => tree.put(&path, node).map(|_| ()),
        Change::Again { path, original } => {
            let found = ordinary(&original).and_then(|path| tree.resolve(&path, false));
            let node =
                found.and_then(|place| tree.get(&place)).filter(|node| !matches!(node.kind, Kind::Folder));
            let shown: String = original.to_string_lossy().chars().take(200).collect();
            let node = node.cloned().ok_or_else(|| {
                ImageError::archive(format!("entry {:?}", path.display().to_string()), {
                    format!("is a further name of {shown:?}, which is no file before it")
                })
            })?;
            tree.put(&path, node).map(|_| ())
        }
    }
}

/// The names of the regular files and links in a tar archive, with where their bytes are; for archives that hold other
/// archives. Links have their target instead.
pub(crate) fn index(file: &File, what: &str) -> Result<Vec<(PathBuf, Indexed)>, ImageError> {
    let unreadable = |error: io::Error| ImageError::archive(what, error.to_string());
    let length = file.metadata().map_err(unreadable)?.len();
    let (reader, left) = Metered::new(file).map_err(unreadable)?;
    let mut archive = Archive::new(reader);
    let (mut found, mut known, mut names) = (Vec::new(), BTreeSet::new(), Names::of(what));
    for entry in archive.entries_with_seek().map_err(unreadable)? {
        left.set(ENTRY_BYTES);
        let entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        names.admit(&path)?;
        let Some(path) = ordinary(&path) else { continue };
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let indexed = match entry.header().entry_type() {
            EntryType::Regular if offset.saturating_add(size) <= length => Indexed::Part(offset, size),
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name().ok().flatten().map(std::borrow::Cow::into_owned);
                let target = target.unwrap_or_default();
                names.admit(&target)?;
                Indexed::Link(target)
            }
            _ => continue,
        };
        if known.insert(path.clone()) {
            found.push((path, indexed));
        }
        if found.len() > MOST_ENTRIES {
            return Err(ImageError::TooLarge { what: "files", limit: MOST_ENTRIES as u64 });
        }
    }
    Ok(found)
}

/// One file of an archive that holds others.
#[derive(Clone, Debug)]
pub(crate) enum Indexed {
    /// Its offset and length.
    Part(u64, u64),
    /// It is another file's further name.
    Link(PathBuf),
}

/// Reads a small part of a file.
pub(crate) fn read_part(file: &File, (offset, length): (u64, u64), limit: u64) -> io::Result<Vec<u8>> {
    if length > limit {
        return Err(io::Error::other(format!("has {length} bytes; at most {limit} are allowed")));
    }
    let mut reader = file.try_clone()?;
    reader.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_an_archive_have_one_bound_together() {
        let mut names = Names { left: 10, ..Names::of("a test") };
        names.admit(Path::new("a/bcde")).unwrap();
        assert!(matches!(names.admit(Path::new("fghij")), Err(ImageError::TooLarge { .. })));
        names.admit(Path::new("fghi")).unwrap();
    }
}
