//! Reads every header of an archive and decides what would be made of it, or refuses it.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::io::Cursor;

use zip::read::ZipFileEntry;
use zip::{CompressionMethod, ZipArchive};

use super::{ArchiveError, ArchiveLimits};
use crate::path::{check_relative_path, parents};

/// Longest name that an error repeats, in characters.
const SHOWN_NAME: usize = 200;
/// How a header in the archive's directory begins (APPNOTE 4.3.12).
const HEADER_SIGNATURE: &[u8] = b"PK\x01\x02";
/// How many bytes it has before the name.
const HEADER_BYTES: usize = 46;
/// Archives stored within the archive have headers too, so this many times the limit may look like headers.
const HEADER_SLACK: usize = 4;
// The file type within a Unix mode; `man 7 inode`.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const EXECUTABLE: u32 = 0o111;

pub(super) type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// What to make of one entry.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its number in the archive.
    pub(super) index: usize,
    /// Its checked path, without a slash at its end.
    pub(super) path: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { executable: bool },
}

/// Checks all headers; what returns `Ok` can be made without leaving the target or meeting itself.
pub(super) fn plan<'a>(
    bytes: &'a [u8],
    limits: &ArchiveLimits,
) -> Result<(Archive<'a>, Vec<Planned>), ArchiveError> {
    let size = bytes.len() as u64;
    if size > limits.packed_bytes {
        return Err(ArchiveError::Packed { size, limit: limits.packed_bytes });
    }
    let mut archive = open(bytes, limits)?;
    let mut paths = Paths { limit: limits.entries, seen: HashMap::new() };
    let mut planned = Vec::with_capacity(archive.len());
    let mut declared = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(ArchiveError::Malformed)?;
        let (path, kind) = check_entry(&entry)?;
        declared = declared.saturating_add(entry.size());
        // Only an early answer: a lie in the other direction is found while inflating.
        if declared > limits.unpacked_bytes {
            return Err(ArchiveError::Unpacked { limit: limits.unpacked_bytes, name: shown(path) });
        }
        // Some tools write an entry for the root itself, and begin all others with it.
        let path = path.strip_prefix("./").unwrap_or(path);
        if path.is_empty() || path == "." {
            continue;
        }
        check_relative_path(path).map_err(|source| ArchiveError::Name { name: shown(path), source })?;
        paths.add(path, kind)?;
        planned.push(Planned { index, path: path.to_owned(), kind });
    }
    if archive.has_overlapping_entries().map_err(ArchiveError::Malformed)? {
        return Err(ArchiveError::Overlap);
    }
    archive.validate_header_consistency().map_err(ArchiveError::Malformed)?;
    Ok((archive, planned))
}

/// Opens the archive, which keeps all its headers in memory: first makes sure that there can only be so many.
fn open<'a>(bytes: &'a [u8], limits: &ArchiveLimits) -> Result<Archive<'a>, ArchiveError> {
    let too_many = ArchiveError::Entries { limit: limits.entries };
    let most = limits.entries.saturating_mul(HEADER_SLACK);
    let headers = memchr::memmem::find_iter(bytes, HEADER_SIGNATURE).take(most.saturating_add(1));
    if headers.count() > most {
        return Err(too_many);
    }
    let archive = ZipArchive::new(Cursor::new(bytes)).map_err(ArchiveError::Malformed)?;
    if archive.len() > limits.entries {
        return Err(too_many);
    }
    if archive.has_duplicate_names() {
        let name = repeated_name(bytes, archive.central_directory_start()).unwrap_or_default();
        return Err(ArchiveError::Duplicate { name: shown(&String::from_utf8_lossy(name)) });
    }
    Ok(archive)
}

/// The first name that the archive's directory has a second time. The directory was read before, so what it has is
/// where APPNOTE 4.3.12 says; the library keeps but the last entry of each name.
fn repeated_name(bytes: &[u8], start: u64) -> Option<&[u8]> {
    let mut rest = bytes.get(usize::try_from(start).ok()?..)?;
    let mut seen = HashSet::new();
    while rest.starts_with(HEADER_SIGNATURE) {
        let length = |at: usize| {
            let field = rest.get(at..at + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_le_bytes(field)))
        };
        let (name, beyond) = (length(28)?, length(30)? + length(32)?);
        let (header, next) = rest.split_at_checked(HEADER_BYTES + name + beyond)?;
        let name = header.get(HEADER_BYTES..HEADER_BYTES + name)?;
        if !seen.insert(name) {
            return Some(name);
        }
        rest = next;
    }
    None
}

/// The entry's name without a slash at its end, and what it is.
fn check_entry<'e>(entry: &'e ZipFileEntry<'_>) -> Result<(&'e str, Kind), ArchiveError> {
    let raw = entry.name_raw();
    let lossy = || shown(&String::from_utf8_lossy(raw));
    let name = std::str::from_utf8(raw).map_err(|_| ArchiveError::Encoding { name: lossy() })?;
    if entry.encrypted() {
        return Err(ArchiveError::Encrypted { name: lossy() });
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(ArchiveError::Compression { name: lossy() });
    }
    let mode = entry.external_attributes() >> 16;
    let (path, is_folder) = name.strip_suffix('/').map_or((name, false), |path| (path, true));
    // An archive may claim any system as its maker; the type bits mean the same for whoever honours them.
    match (mode & TYPE_MASK, is_folder) {
        (0 | TYPE_FOLDER, true) if entry.size() == 0 => Ok((path, Kind::Folder)),
        (0 | TYPE_FILE, false) => Ok((path, Kind::File { executable: mode & EXECUTABLE != 0 })),
        _ => Err(ArchiveError::Kind { name: lossy() }),
    }
}

/// Every path that will exist. Folders that are only implied count too: 65,000 files could imply millions.
struct Paths {
    limit: usize,
    seen: HashMap<String, Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    File,
    NamedFolder,
    ImpliedFolder,
}

impl Paths {
    fn add(&mut self, path: &str, kind: Kind) -> Result<(), ArchiveError> {
        let new = match kind {
            Kind::Folder => Seen::NamedFolder,
            Kind::File { .. } => Seen::File,
        };
        match self.seen.entry(path.to_owned()) {
            Slot::Vacant(slot) => {
                slot.insert(new);
            }
            Slot::Occupied(mut slot) if new == Seen::NamedFolder && *slot.get() == Seen::ImpliedFolder => {
                slot.insert(new);
            }
            Slot::Occupied(_) => return Err(ArchiveError::Duplicate { name: shown(path) }),
        }
        for parent in parents(path) {
            match self.seen.get(parent) {
                // Then its own parents are known as well.
                Some(Seen::NamedFolder | Seen::ImpliedFolder) => break,
                Some(Seen::File) => return Err(ArchiveError::Duplicate { name: shown(parent) }),
                None => {
                    self.seen.insert(parent.to_owned(), Seen::ImpliedFolder);
                }
            }
        }
        if self.seen.len() > self.limit {
            return Err(ArchiveError::Entries { limit: self.limit });
        }
        Ok(())
    }
}

pub(super) fn shown(name: &str) -> String {
    let end = name.char_indices().nth(SHOWN_NAME).map_or(name.len(), |(at, _)| at);
    name.get(..end).unwrap_or_default().to_owned()
}
