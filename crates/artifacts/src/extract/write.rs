//! Makes what was planned.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::inflate::inflate_all;
use super::plan::{Archive, Kind, Planned, plan};
use super::{ArchiveError, ArchiveLimits};
use crate::path::parents;

const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;

/// Unpacks an archive into an empty folder that belongs to the caller, who removes it after an error.
pub(crate) fn unpack(bytes: &[u8], folder: &Path, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let (archive, entries) = plan(bytes, limits)?;
    write(archive, &entries, folder, limits)
}

/// Unpacks those files of an archive into an empty folder that have one of these names.
pub(crate) fn unpack_some(
    bytes: &[u8],
    names: &[String],
    folder: &Path,
    limits: &ArchiveLimits,
) -> Result<(), ArchiveError> {
    let (archive, mut entries) = plan(bytes, limits)?;
    entries.retain(|planned| names.contains(&planned.path));
    write(archive, &entries, folder, limits)
}

/// Unpacks an archive beside the files and folders that another archive or a single file has put there; where both
/// have something, what is there stays.
pub(crate) fn unpack_beside(bytes: &[u8], folder: &Path, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
    let (archive, mut entries) = plan(bytes, limits)?;
    let is_taken = |planned: &Planned| {
        let path = folder.join(&planned.path);
        let covered = parents(&planned.path).any(|parent| folder.join(parent).is_file());
        covered || if planned.kind == Kind::Folder { path.is_file() } else { path.exists() }
    };
    entries.retain(|planned| !is_taken(planned));
    write(archive, &entries, folder, limits)
}

/// Makes the planned entries in a folder where nothing has their names.
pub(super) fn write(
    mut archive: Archive<'_>,
    entries: &[Planned],
    folder: &Path,
    limits: &ArchiveLimits,
) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Io { action: "making a folder", source };
    set_mode(folder, FOLDER_MODE).map_err(failed)?;
    for planned in entries {
        let own = (planned.kind == Kind::Folder).then_some(planned.path.as_str());
        let missing: Vec<PathBuf> = own
            .into_iter()
            .chain(parents(&planned.path))
            .map(|path| folder.join(path))
            .take_while(|path| !path.is_dir())
            .collect();
        missing.iter().rev().try_for_each(|path| make_folder(path)).map_err(failed)?;
    }
    write_files(&mut archive, entries, folder, limits)
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)?;
    set_mode(path, FOLDER_MODE)
}

fn write_files(
    archive: &mut Archive<'_>,
    entries: &[Planned],
    folder: &Path,
    limits: &ArchiveLimits,
) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Io { action: "writing a file", source };
    let mut current: Option<File> = None;
    inflate_all(archive, entries, limits, |planned, piece| {
        let mut file = match current.take() {
            Some(file) => file,
            None => create_file(&folder.join(&planned.path)).map_err(failed)?,
        };
        if piece.is_empty() {
            let executable = planned.kind == Kind::File { executable: true };
            let mode = if executable { EXECUTABLE_MODE } else { FILE_MODE };
            return file.set_permissions(Permissions::from_mode(mode)).map_err(failed);
        }
        file.write_all(piece).map_err(failed)?;
        current = Some(file);
        Ok(())
    })
}

/// Fails if anything is there already, a link included.
fn create_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Sets the mode explicitly, because the process' umask would take bits away that sandboxes need.
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}
