//! Reads folders that anybody may have written to: within bounds, and nothing but plain files strictly inside.

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use impuls_artifacts::{ArchiveLimits, check_relative_path};

/// The most bytes of a metadata file: that of a function with as much source text as it may have, escaped.
pub(crate) const CARD_LIMIT: u64 = 120 * 1024 * 1024;

/// What a file, or a folder with everything in it, looked like: changes whenever somebody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    digest: u64,
    /// When the youngest was changed, in nanoseconds since 1970.
    newest: i128,
}

/// What a function's metadata file and its folder of code looked like; `None` where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub(crate) card: Option<Stamp>,
    pub(crate) code: Option<Stamp>,
}

impl Stamps {
    /// What they look like now.
    pub(crate) fn of(card: &Path, code: &Path) -> io::Result<Self> {
        Ok(Self { card: stamp(card)?, code: stamp(code)? })
    }

    /// When the youngest file was changed, in nanoseconds since 1970.
    pub(crate) fn newest(&self) -> i128 {
        self.card.iter().chain(&self.code).map(|stamp| stamp.newest).max().unwrap_or_default()
    }
}

/// A file of a function's code.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path within the folder, with `/` between names.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) executable: bool,
}

/// Whether it is there, a link being nothing else than a link.
pub(crate) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The stamp of a file or a folder; `None` if there is none.
pub(crate) fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let Some(found) = metadata(path)? else { return Ok(None) };
    let mut walk = Walk { hasher: DefaultHasher::new(), newest: 0, left: ArchiveLimits::default().entries };
    walk.add(path, &found)?;
    Ok(Some(Stamp { digest: walk.hasher.finish(), newest: walk.newest }))
}

struct Walk {
    hasher: DefaultHasher,
    newest: i128,
    left: usize,
}

impl Walk {
    fn add(&mut self, path: &Path, found: &Metadata) -> io::Result<()> {
        // What lies beyond the bound is refused when it is read.
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        self.newest = self.newest.max(changed);
        (path, found.ino(), found.size(), found.mode(), found.mtime(), found.mtime_nsec(), changed)
            .hash(&mut self.hasher);
        if found.is_dir() {
            let mut inside = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
            inside.sort_by_key(fs::DirEntry::file_name);
            for entry in inside {
                if let Some(found) = metadata(&entry.path())? {
                    self.add(&entry.path(), &found)?;
                }
            }
        }
        Ok(())
    }
}

/// The whole of a plain file that has at most so many bytes; not through a link.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("it cannot be read: {error}");
    let file = open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err("it is no plain file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!("it has more than {limit} bytes"));
    }
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        if is_link { io::Error::other("it is a link, and links are refused") } else { error }
    })
}

/// All files below a folder in the order of their names; `None` if there is no folder. What is no plain file, has a name
/// that is not safe, or is too much is refused.
pub(crate) fn files(folder: &Path) -> Result<Option<Vec<Source>>, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", folder.display());
    match metadata(folder).map_err(failed)? {
        None => return Ok(None),
        Some(found) if found.is_dir() => {}
        Some(_) => return Err(format!("{} is no folder, and links are refused", folder.display())),
    }
    let mut files = Files { limits: ArchiveLimits::default(), found: Vec::new(), bytes: 0, entries: 0 };
    files.folder(folder, "")?;
    files.found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(files.found))
}

struct Files {
    limits: ArchiveLimits,
    found: Vec<Source>,
    bytes: u64,
    entries: usize,
}

impl Files {
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), String> {
        let failed = |error: io::Error| format!("{} cannot be read: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, own) = (entry.path(), entry.file_name());
            let own =
                own.to_str().ok_or_else(|| format!("{} has a name that is not UTF-8", path.display()))?;
            let name = format!("{prefix}{own}");
            check_relative_path(&name).map_err(|error| format!("{name:?} is refused: {error}"))?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(format!("it has more than {} files and folders", self.limits.entries));
            }
            let found = entry.metadata().map_err(failed)?;
            if found.is_dir() {
                self.folder(&path, &format!("{name}/"))?;
            } else if found.is_file() {
                self.file(name, path, &found)?;
            } else {
                return Err(format!("{name:?} is neither a plain file nor a folder; links are refused"));
            }
        }
        Ok(())
    }

    fn file(&mut self, name: String, path: PathBuf, found: &Metadata) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(found.len());
        if self.bytes > self.limits.unpacked_bytes {
            return Err(format!(
                "it has more than {} bytes; {name:?} goes beyond them",
                self.limits.unpacked_bytes
            ));
        }
        let executable = found.permissions().mode() & 0o111 != 0;
        self.found.push(Source { name, path, size: found.len(), executable });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_what_is_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let code = folder.path().join("code");
        fs::create_dir(&code).unwrap();
        assert_eq!(files(&folder.path().join("none")).unwrap().map(|found| found.len()), None);
        fs::write(code.join("a.js"), "1").unwrap();
        assert_eq!(files(&code).unwrap().unwrap()[0].name, "a.js");
        symlink("/etc/passwd", code.join("b.js")).unwrap();
        assert!(files(&code).unwrap_err().contains("links are refused"));
        assert!(read_file(&code.join("b.js"), 9).unwrap_err().contains("links are refused"));
        symlink(&code, folder.path().join("link")).unwrap();
        assert!(files(&folder.path().join("link")).unwrap_err().contains("links are refused"));
        assert!(read_file(&code, 9).unwrap_err().contains("no plain file"));
        assert!(read_file(&code.join("a.js"), 0).unwrap_err().contains("more than 0 bytes"));
    }

    #[test]
    fn a_stamp_changes_with_every_file() {
        let folder = tempfile::tempdir().unwrap();
        let (card, code) = (folder.path().join("a.json"), folder.path().join("a"));
        let mut stamps = vec![Stamps::of(&card, &code).unwrap()];
        fs::write(&card, "{}").unwrap();
        stamps.push(Stamps::of(&card, &code).unwrap());
        fs::create_dir_all(code.join("x")).unwrap();
        stamps.push(Stamps::of(&card, &code).unwrap());
        fs::write(code.join("x/y"), "1").unwrap();
        stamps.push(Stamps::of(&card, &code).unwrap());
        fs::write(code.join("x/y"), "12").unwrap();
        stamps.push(Stamps::of(&card, &code).unwrap());
        for (at, of) in stamps.iter().enumerate() {
            assert!(!stamps[..at].contains(of), "{at}");
        }
        assert_eq!(Stamps::of(&card, &code).unwrap(), stamps[4]);
    }
}
