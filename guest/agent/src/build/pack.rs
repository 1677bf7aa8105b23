//! A folder as a ZIP archive of files and folders. Equal folders give equal archives: entries are in the order of
//! their names and have no times.

use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Fast: the archive is unpacked on every machine that runs the function, and kept once.
const LEVEL: i64 = 1;

/// An archive in memory that refuses to grow beyond a limit.
struct Bounded {
    bytes: Cursor<Vec<u8>>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.get_ref().len() + piece.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for Bounded {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

/// Packs what is in a folder. A link to a file within it is stored as that file; other links are left out, as are
/// sockets and devices. `Err` of the inner result says why there is no archive of at most `limit` bytes.
pub(super) fn pack(folder: &Path, limit: usize) -> io::Result<Result<Vec<u8>, String>> {
    let root = folder.canonicalize()?;
    let mut writer = ZipWriter::new(Bounded { bytes: Cursor::default(), limit });
    match add(&mut writer, &root, &root) {
        Ok(()) => match writer.finish() {
            Ok(bounded) => Ok(Ok(bounded.bytes.into_inner())),
            Err(error) => too_large(error.into(), limit).map(Err),
        },
        Err(error) => {
            // Its destructor would try to finish the archive.
            std::mem::forget(writer);
            too_large(error, limit).map(Err)
        }
    }
}

fn too_large(error: io::Error, limit: usize) -> io::Result<String> {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Ok(format!("what the build made has more than {limit} bytes, packed"));
    }
    Err(error)
}

fn add(writer: &mut ZipWriter<Bounded>, root: &Path, folder: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL))
            .last_modified_time(DateTime::default());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            writer.add_directory(name, options.unix_permissions(0o755))?;
            add(writer, root, &path)?;
            continue;
        }
        let file = if kind.is_symlink() { path.canonicalize().ok() } else { Some(path.clone()) };
        let Some(file) = file.filter(|file| file.starts_with(root) && file.is_file()) else { continue };
        let mode = fs::metadata(&file)?.permissions().mode() & 0o111;
        let mode = if mode == 0 { 0o644 } else { 0o755 };
        writer.start_file(name, options.unix_permissions(mode))?;
        io::copy(&mut File::open(file)?, writer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::write(path.join("sub/data"), "1234").unwrap();
        fs::write(path.join("run"), "#!").unwrap();
        fs::set_permissions(path.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("run", path.join("also")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path.join("outside")).unwrap();
        std::os::unix::fs::symlink("sub", path.join("folder")).unwrap();
        folder
    }

    #[test]
    fn files_and_modes_are_kept_and_links_do_not_lead_out() {
        let archive = pack(folder().path(), 1 << 20).unwrap().unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
        let mut entries = Vec::new();
        for at in 0..archive.len() {
            let entry = archive.by_index(at).unwrap();
            entries.push((entry.name().unwrap().into_owned(), entry.unix_mode().unwrap() & 0o777));
        }
        let expected = [("also", 0o755), ("run", 0o755), ("sub/", 0o755), ("sub/data", 0o644)];
        assert_eq!(entries, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }

    #[test]
    fn equal_folders_give_equal_archives() {
        let archive = || pack(folder().path(), 1 << 20).unwrap().unwrap();
        assert_eq!(archive(), archive());
    }

    #[test]
    fn an_archive_beyond_the_limit_is_refused() {
        let refusal = pack(folder().path(), 100).unwrap().unwrap_err();
        assert!(refusal.contains("100 bytes"), "{refusal}");
    }
}
