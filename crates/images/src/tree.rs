//! A root file system in memory: names, modes and owners, with the contents of files in the archives that they came from.
//!
//! Foreign archives become a tree before anything of them has a name on the disk, so `..`, absolute paths and links in them
//! lead nowhere but within the tree. [`layer`] reads them, [`mod@write`] makes a canonical archive or a folder of one.

pub mod layer;
pub mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::ImageError;

/// The most files, folders and links of an image.
pub const MOST_ENTRIES: usize = 400_000;
/// The most bytes of all files of an image together, and of the layers that it comes from.
pub const MOST_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// The most bytes of one path or of what a link points at (`PATH_MAX` of Linux).
const PATH_BYTES: usize = 4096;
/// The most bytes of all paths and link targets of an image together, which are kept in memory: ten times those of the
/// largest images.
const NAME_BYTES: u64 = 256 * 1024 * 1024;
/// The most links on the way to one file (`MAXSYMLINKS` of Linux).
const LINKS: usize = 40;

/// Permissions that mean something to a guest. What would run a program as somebody else is taken off: guests gain no
/// privileges by executing a file.
const PERMISSIONS: u32 = 0o1777;

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    /// A part of a file.
    Part {
        /// The file, which nobody changes.
        file: Arc<File>,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// Bytes of our own.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Part { length, .. } => *length,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// A reader of all of them.
    #[must_use]
    pub fn reader(&self) -> ContentReader<'_> {
        ContentReader { content: self, position: 0 }
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let left = self.length().saturating_sub(position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let into = into.get_mut(..wanted).unwrap_or_default();
        match self {
            Self::Part { file, offset, .. } => file.read_at(into, offset + position),
            Self::Bytes(bytes) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                let bytes = bytes.get(start..).and_then(|rest| rest.get(..wanted)).unwrap_or_default();
                into.copy_from_slice(bytes);
                Ok(wanted)
            }
        }
    }
}

/// Reads a [`Content`] from its beginning.
pub struct ContentReader<'a> {
    content: &'a Content,
    position: u64,
}

impl io::Read for ContentReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read_at(self.position, into)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// What lies at a path.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File(Content),
    /// A symbolic link to this.
    Link(PathBuf),
}

/// One entry of a tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Node {
    /// A folder of the superuser's.
    #[must_use]
    pub const fn folder(mode: u32) -> Self {
        Self { kind: Kind::Folder, mode, uid: 0, gid: 0 }
    }

    /// A file of the superuser's.
    #[must_use]
    pub fn file(mode: u32, bytes: &[u8]) -> Self {
        Self { kind: Kind::File(Content::Bytes(bytes.into())), mode, uid: 0, gid: 0 }
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(to: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::Link(to.into()), mode: 0o777, uid: 0, gid: 0 }
    }
}

/// A root file system. Paths are relative to its root and have only ordinary names.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    bytes: u64,
    /// The bytes of all paths and link targets.
    names: u64,
}

impl Tree {
    /// Every entry, folders before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// The bytes of all files.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What lies at a path itself, a link included.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(&ordinary(path)?)
    }

    /// The file that a path leads to through the tree's own links, with where it lies.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<(PathBuf, &Content)> {
        let place = self.resolve(&ordinary(path)?, true)?;
        match &self.nodes.get(&place)?.kind {
            Kind::File(content) => Some((place, content)),
            _ => None,
        }
    }

    /// Puts something at a path, in place of whatever was there. Links on the way are followed within the tree, and
    /// folders that are missing are made. A folder that is put on a folder only changes its permissions and owner.
    pub fn put(&mut self, path: &Path, node: Node) -> Result<PathBuf, ImageError> {
        let shown = || path.to_string_lossy().chars().take(200).collect::<String>();
        let refused = |reason: &str| ImageError::archive(format!("entry {:?}", shown()), reason);
        if path.as_os_str().len() > PATH_BYTES {
            return Err(refused("its path is too long"));
        }
        let path = ordinary(path).ok_or_else(|| refused("its path leads out of the root"))?;
        let Some(name) = path.file_name() else { return Ok(PathBuf::new()) };
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = self
            .resolve(parent, true)
            .ok_or_else(|| refused("links on the way to it lead nowhere, or to a path that is too long"))?;
        let place = folder.join(name);
        if place.as_os_str().len() > PATH_BYTES {
            return Err(refused("links on the way to it make its path too long"));
        }
        self.make_folders(&folder)?;
        if let Kind::Link(target) = &node.kind
            && (target.as_os_str().is_empty() || target.as_os_str().len() > PATH_BYTES)
        {
            return Err(refused("it points at nothing, or at a path that is too long"));
        }
        let stays = matches!(node.kind, Kind::Folder)
            && self.nodes.get(&place).is_some_and(|old| matches!(old.kind, Kind::Folder));
        if !stays {
            self.remove(&place);
        }
        self.insert(place.clone(), node)?;
        Ok(place)
    }

    /// Removes what lies at a place, with all below it.
    pub fn remove(&mut self, place: &Path) {
        for path in self.below(place) {
            self.take(&path);
        }
        self.take(place);
    }

    fn take(&mut self, path: &Path) {
        let Some(node) = self.nodes.remove(path) else { return };
        self.names = self.names.saturating_sub(names_of(path, &node));
        if let Kind::File(content) = node.kind {
            self.bytes = self.bytes.saturating_sub(content.length());
        }
    }

    /// The places below a folder.
    #[must_use]
    pub fn below(&self, folder: &Path) -> Vec<PathBuf> {
        // Paths are ordered by their components, so what is below a folder comes right after it.
        let after =
            self.nodes.range::<Path, _>((std::ops::Bound::Excluded(folder), std::ops::Bound::Unbounded));
        let inside = after.take_while(|(path, _)| path.starts_with(folder));
        inside.map(|(path, _)| path.clone()).collect()
    }

    /// Moves everything below one folder into another and leaves a link to that; `from` may be missing or a link.
    pub(crate) fn merge(&mut self, from: &Path, into: &Path) -> Result<(), ImageError> {
        if !self.nodes.get(from).is_some_and(|node| matches!(node.kind, Kind::Folder)) {
            return Ok(());
        }
        let moved: Vec<(PathBuf, Node)> = self
            .below(from)
            .into_iter()
            .filter_map(|path| {
                let node = self.nodes.get(&path)?.clone();
                Some((into.join(path.strip_prefix(from).ok()?), node))
            })
            .collect();
        self.remove(from);
        self.put(into, Node::folder(0o755))?;
        for (path, node) in moved {
            // Both can have a link to the same file; whichever has the file itself wins.
            let is_link = matches!(node.kind, Kind::Link(_));
            if !is_link || self.get(&path).is_none() {
                self.put(&path, node)?;
            }
        }
        self.put(from, Node::link(into)).map(|_| ())
    }

    fn make_folders(&mut self, folder: &Path) -> Result<(), ImageError> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for path in folder.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            match self.nodes.get(path).map(|node| &node.kind) {
                Some(Kind::Folder) => break,
                Some(_) => {
                    let reason = "a file is where an entry needs a folder";
                    return Err(ImageError::archive(
                        format!("entry {:?}", path.display().to_string()),
                        reason,
                    ));
                }
                None => missing.push(path.to_owned()),
            }
        }
        missing.into_iter().rev().try_for_each(|path| self.insert(path, Node::folder(0o755)))
    }

    fn insert(&mut self, path: PathBuf, mut node: Node) -> Result<(), ImageError> {
        node.mode &= PERMISSIONS;
        if let Kind::File(content) = &node.kind {
            self.bytes = self.bytes.saturating_add(content.length());
            if self.bytes > MOST_BYTES {
                return Err(ImageError::TooLarge { what: "bytes", limit: MOST_BYTES });
            }
        }
        let replaced = self.nodes.get(&path).map_or(0, |old| names_of(&path, old));
        let names = self.names.saturating_sub(replaced).saturating_add(names_of(&path, &node));
        if names > NAME_BYTES {
            return Err(ImageError::TooLarge { what: "bytes in its names", limit: NAME_BYTES });
        }
        self.names = names;
        self.nodes.insert(path, node);
        if self.nodes.len() > MOST_ENTRIES {
            return Err(ImageError::TooLarge { what: "files and folders", limit: MOST_ENTRIES as u64 });
        }
        Ok(())
    }

    /// Where a path leads within the tree, links followed, the last one only if `last`. `..` at the root is the root, as
    /// for a process whose root it is. `None` after too many links, and where they make the path too long: each may add as
    /// much as a path can have.
    pub(crate) fn resolve(&self, path: &Path, last: bool) -> Option<PathBuf> {
        let mut ahead: Vec<std::ffi::OsString> = names(path);
        ahead.reverse();
        let (mut place, mut links) = (PathBuf::new(), 0);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                place.pop();
                continue;
            }
            let next = place.join(&name);
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(Kind::Link(target)) if last || !ahead.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    if target.is_absolute() {
                        place = PathBuf::new();
                    }
                    ahead.extend(names(target).into_iter().rev());
                }
                _ if next.as_os_str().len() > PATH_BYTES => return None,
                _ => place = next,
            }
        }
        Some(place)
    }
}

/// How many bytes of names a node is kept by.
fn names_of(path: &Path, node: &Node) -> u64 {
    let target = if let Kind::Link(target) = &node.kind { target.as_os_str().len() } else { 0 };
    (path.as_os_str().len() + target) as u64
}

/// The names in a path, `..` among them.
fn names(path: &Path) -> Vec<std::ffi::OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// The path relative to the root; `None` if it has `..`.
pub(crate) fn ordinary(path: &Path) -> Option<PathBuf> {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests;
