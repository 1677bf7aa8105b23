//! The one place where archives are unpacked. An archive is a stranger's: nothing in it is believed before it was
//! checked, and nothing is written before all of it was.
//!
//! `plan` reads every header and decides what would be made; `write` inflates and makes it. What is allowed is
//! a list: folders and plain files, stored or deflated, at relative paths, each once. Sizes count as inflated,
//! never as declared.

mod inflate;
mod plan;
mod write;

use std::io;
use std::path::Path;

use zip::result::ZipError;

use crate::path::PathError;

pub(crate) use write::{unpack, unpack_beside, unpack_some};

/// How large an archive may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes of the archive itself. Default: 50 MiB.
    pub packed_bytes: u64,
    /// Bytes of all its files together, unpacked. Default: 250 MiB.
    pub unpacked_bytes: u64,
    /// Files and folders, those included that only the paths of others imply. Default: 65,000.
    pub entries: usize,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { packed_bytes: 50 * 1024 * 1024, unpacked_bytes: 250 * 1024 * 1024, entries: 65_000 }
    }
}

/// Why an archive is refused; [`ArchiveError::Io`] alone is no refusal. Names are cut to a length fit for people.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Too many bytes as it is.
    #[error("archive has {size} bytes; at most {limit} are allowed")]
    Packed {
        /// The bytes it has.
        size: u64,
        /// The bytes it may have.
        limit: u64,
    },
    /// Too many bytes once unpacked.
    #[error("archive has more than {limit} bytes unpacked; entry {name:?} goes beyond them")]
    Unpacked {
        /// The first entry that does not fit.
        name: String,
        /// The bytes it may have.
        limit: u64,
    },
    /// Too many files and folders.
    #[error("archive has more than {limit} files and folders")]
    Entries {
        /// How many it may have.
        limit: usize,
    },
    /// No ZIP archive, or one that is cut, damaged or contradicts itself.
    #[error("archive is no valid ZIP archive")]
    Malformed(#[source] ZipError),
    /// An entry's bytes are damaged, cut, or not as many as declared.
    #[error("archive entry {name:?} is damaged")]
    Damaged {
        /// The entry.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Entries share bytes, as only bombs do.
    #[error("archive has entries that overlap")]
    Overlap,
    /// A path that is not safe everywhere.
    #[error("archive entry {name:?} has a path that is refused")]
    Name {
        /// The entry.
        name: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// A path that is no text.
    #[error("archive entry {name:?} has a name that is not UTF-8")]
    Encoding {
        /// The entry, as far as it can be shown.
        name: String,
    },
    /// A link, device, pipe or socket, or a kind that contradicts the name.
    #[error("archive entry {name:?} is neither a plain file nor a folder; links and devices are refused")]
    Kind {
        /// The entry.
        name: String,
    },
    /// An encrypted entry.
    #[error("archive entry {name:?} is encrypted")]
    Encrypted {
        /// The entry.
        name: String,
    },
    /// A compression other than none and Deflate.
    #[error("archive entry {name:?} is compressed with a method other than Deflate")]
    Compression {
        /// The entry.
        name: String,
    },
    /// A path that occurs twice, or as file and as folder.
    #[error("archive has more than one entry at {name:?}")]
    Duplicate {
        /// The path.
        name: String,
    },
    /// The disk failed; the archive may be fine.
    #[error("unpacking failed while it was {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks an archive wholly, down to the checksum of each file, without writing anything: what passes here,
/// [`extract_zip`] accepts. Takes as long as inflating it does, so call it off the event loop.
pub fn validate_zip(bytes: &[u8], limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let (mut archive, entries) = plan::plan(bytes, limits)?;
    inflate::inflate_all(&mut archive, &entries, limits, |_, _| Ok(()))
}

/// The paths of the files in an archive that passes every check of its headers.
pub fn zip_files(bytes: &[u8], limits: &ArchiveLimits) -> Result<Vec<String>, ArchiveError> {
    let (_, entries) = plan::plan(bytes, limits)?;
    let files = entries.into_iter().filter(|planned| planned.kind != plan::Kind::Folder);
    Ok(files.map(|planned| planned.path).collect())
}

/// The contents of those files of an archive that have one of these names, in the archive's order. All together are
/// held in memory, and have at most `limits.unpacked_bytes`.
pub fn read_zip(
    bytes: &[u8],
    names: &[String],
    limits: &ArchiveLimits,
) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
    let (mut archive, mut entries) = plan::plan(bytes, limits)?;
    entries.retain(|planned| names.contains(&planned.path));
    let (mut files, mut content) = (Vec::new(), Vec::new());
    inflate::inflate_all(&mut archive, &entries, limits, |planned, piece| {
        if piece.is_empty() {
            files.push((planned.path.clone(), std::mem::take(&mut content)));
        }
        content.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(files)
}

/// Unpacks an archive to the folder `into`, whose parent must exist and which must not exist itself, or be empty.
/// The folder appears at once and complete; on any error nothing is left. Files get mode 0644, or 0755 if they are
/// executable in the archive; folders get 0755. Nothing is synced to the disk. Blocks.
pub fn extract_zip(bytes: &[u8], into: &Path, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let failed = |action| move |source| ArchiveError::Io { action, source };
    let parent = into.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (archive, entries) = plan::plan(bytes, limits)?;
    let scratch = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempdir_in(parent)
        .map_err(failed("making a temporary folder"))?;
    write::write(archive, &entries, scratch.path(), limits)?;
    std::fs::rename(scratch.path(), into).map_err(failed("renaming the unpacked folder"))?;
    // It has another name now, so there is nothing left to remove.
    let _renamed = scratch.keep();
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
