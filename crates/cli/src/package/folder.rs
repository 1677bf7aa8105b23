//! A folder as a zip archive: the same files give the same bytes, whenever and wherever they are packed.

use std::fs::{self, Metadata};
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{ENTRY_LIMIT, PACKED_LIMIT, PROJECT_FILE, PackageError, UNPACKED_LIMIT};

/// What a folder's owner does not want to be deployed, in the language of `.gitignore`.
const IGNORE_FILE: &str = ".impulsignore";

/// A file to pack.
#[derive(Debug)]
pub(super) struct File {
    /// Its name in the archive, with `/` between folders.
    pub(super) name: String,
    path: PathBuf,
    executable: bool,
}

/// All files of a folder in the order of their names, without what is ignored. Reads no contents.
pub(super) fn files(folder: &Path) -> Result<Vec<File>, PackageError> {
    let mut walk = Walk { ignored: ignored(folder)?, files: Vec::new(), bytes: 0 };
    walk.folder(folder, "")?;
    if walk.files.is_empty() {
        return Err(PackageError::Empty(folder.to_owned()));
    }
    walk.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(walk.files)
}

/// The archive of these files.
pub(super) fn pack(files: &[File]) -> Result<Vec<u8>, PackageError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let contents = fs::read(&file.path).map_err(|source| PackageError::read(&file.path, source))?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(if file.executable { 0o755 } else { 0o644 });
        archive.start_file(&file.name, options).map_err(PackageError::Pack)?;
        archive.write_all(&contents).map_err(|error| PackageError::Pack(error.into()))?;
    }
    let bytes = archive.finish().map_err(PackageError::Pack)?.into_inner();
    let size = bytes.len() as u64;
    if size > PACKED_LIMIT { Err(PackageError::Packed { bytes: size }) } else { Ok(bytes) }
}

fn ignored(folder: &Path) -> Result<Gitignore, PackageError> {
    let mut builder = GitignoreBuilder::new(folder);
    let file = folder.join(IGNORE_FILE);
    if file.exists()
        && let Some(error) = builder.add(&file)
    {
        return Err(PackageError::Ignore(error));
    }
    builder.build().map_err(PackageError::Ignore)
}

struct Walk {
    ignored: Gitignore,
    files: Vec<File>,
    bytes: u64,
}

impl Walk {
    /// `prefix` is the folder's name in the archive, with a slash at its end if it is not the root.
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), PackageError> {
        let read = |source| PackageError::read(folder, source);
        for entry in fs::read_dir(folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            // Not followed: a link is refused, never packed as what it points at.
            let metadata = fs::symlink_metadata(&path).map_err(|source| PackageError::read(&path, source))?;
            let own = path.file_name().and_then(|name| name.to_str());
            let own = own.ok_or_else(|| PackageError::FileName(path.clone()))?;
            let name = format!("{prefix}{own}");
            if never_packed(&name, own) || self.ignored.matched(&path, metadata.is_dir()).is_ignore() {
                continue;
            }
            if metadata.is_dir() {
                self.folder(&path, &format!("{name}/"))?;
            } else if metadata.is_symlink() {
                return Err(PackageError::Link(path));
            } else if metadata.is_file() {
                self.file(name, path, &metadata)?;
            } else {
                return Err(PackageError::Special(path));
            }
        }
        Ok(())
    }

    fn file(&mut self, name: String, path: PathBuf, metadata: &Metadata) -> Result<(), PackageError> {
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > UNPACKED_LIMIT {
            return Err(PackageError::Unpacked);
        }
        if self.files.len() == ENTRY_LIMIT {
            return Err(PackageError::Entries);
        }
        self.files.push(File { name, path, executable: is_executable(metadata) });
        Ok(())
    }
}

/// What is no part of a function whatever its owner says. Package managers fill `node_modules/.bin` with links.
fn never_packed(name: &str, own: &str) -> bool {
    matches!(name, IGNORE_FILE | PROJECT_FILE)
        || matches!(own, ".git" | "__pycache__")
        || name == "node_modules/.bin"
        || name.ends_with("/node_modules/.bin")
}

#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
const fn is_executable(_: &Metadata) -> bool {
    false
}
