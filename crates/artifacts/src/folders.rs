//! Unpacked code: for each artifact and layout one folder that any number of sandboxes mount read-only.
//!
//! The folders are a cache of the artifact store, of a bounded size (`bound`): `<root>/<digest>/<layout>`. Each is made
//! under a temporary name and renamed when complete, so what has its name is whole. After a crash of the machine the disk may hold a name
//! without all its contents; as nothing here is synced, folders of an earlier boot are thrown away.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use impuls_domain::ArtifactDigest;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::error::ArtifactError;
use crate::extract::{ArchiveLimits, unpack, unpack_beside, unpack_some};
use crate::local::{blocking, digest_of};
use crate::path::{PathError, check_relative_path, parents};
use crate::store::ArtifactStore;

mod bound;

pub use self::bound::Trimmed;

const SCRATCH_PREFIX: &str = ".tmp-";
/// The folder with nothing in it.
const EMPTY: &str = ".empty";
/// Which boot of the machine the folders were made in.
const BOOT_FILE: &str = ".boot";
// A stranger's uid may pass through to the code it is given the path of, and list nothing on the way.
const PASSAGE_MODE: u32 = 0o711;

/// How an artifact's bytes become files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FolderLayout {
    /// The bytes are one file, which appears under each of these relative names, such as `index.js` and
    /// `index.mjs`; sub-folders are made as needed.
    SingleFile {
        /// The names; at least one.
        names: Vec<String>,
    },
    /// The bytes are a ZIP archive.
    Zip,
    /// The bytes are a ZIP archive of which only these files appear.
    Some {
        /// Their paths.
        names: Vec<String>,
    },
    /// Source with what was built from it beside it.
    Built {
        /// How the source is laid out; of two files of one name its counts.
        source: Box<Self>,
        /// A ZIP archive.
        archive: ArtifactDigest,
    },
}

impl FolderLayout {
    /// The layout of the source alone.
    fn source(&self) -> &Self {
        match self {
            Self::Built { source, .. } => source.source(),
            Self::SingleFile { .. } | Self::Zip | Self::Some { .. } => self,
        }
    }

    fn key(&self) -> String {
        match self {
            Self::Zip => "zip".to_owned(),
            Self::SingleFile { names } => format!("file-{}", digest_of(names.join("\0").as_bytes())),
            Self::Some { names } => format!("some-{}", digest_of(names.join("\0").as_bytes())),
            Self::Built { source, archive } => format!("{}+{archive}", source.key()),
        }
    }
}

type Folder = (ArtifactDigest, String);

/// What is known of one folder.
#[derive(Default)]
struct Place {
    /// Whether the folder is known to be complete; locked while it is being made or removed.
    complete: Arc<tokio::sync::Mutex<bool>>,
    /// Held by everybody who was given the folder.
    users: Arc<()>,
    /// When it was given to somebody last, in this life of the server.
    used: Mutex<Option<SystemTime>>,
}

impl Place {
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.users) > 1
    }
}

/// A folder of code. It is not removed while this, or a clone of it, is there.
#[derive(Clone, Debug)]
pub struct CodeFolder {
    path: PathBuf,
    _used: Arc<()>,
}

impl CodeFolder {
    /// Where it is; absolute if the cache's root is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The cache of code folders.
pub struct CodeFolders {
    root: PathBuf,
    artifacts: Arc<dyn ArtifactStore>,
    limits: ArchiveLimits,
    places: Mutex<HashMap<Folder, Arc<Place>>>,
    /// How large folders are, as far as somebody has looked.
    sizes: Mutex<HashMap<Folder, u64>>,
    /// There is one folder more.
    made: Notify,
}

impl CodeFolders {
    /// Opens the cache at `root`, makes that folder if it is missing (its parent must exist), and removes what a
    /// crash left half-made. Blocks; one process at a time.
    pub fn open(root: PathBuf, artifacts: Arc<dyn ArtifactStore>) -> Result<Self, ArtifactError> {
        prepare(&root).map_err(|source| ArtifactError::Io { action: "opening the code folders", source })?;
        Ok(Self {
            root,
            artifacts,
            limits: ArchiveLimits::default(),
            places: Mutex::default(),
            sizes: Mutex::default(),
            made: Notify::new(),
        })
    }

    /// The folder of an artifact in a layout; made if it is missing, once however many ask. Folders inside have mode 0755 and
    /// files 0644 or 0755, so that every uid can read them. Repeatable; may be dropped half-way; on `Err` nothing is left.
    pub async fn folder(
        &self,
        digest: &ArtifactDigest,
        layout: &FolderLayout,
    ) -> Result<CodeFolder, ArtifactError> {
        let key = layout.key();
        let path = self.path(digest, &key);
        let place = self.places.lock().entry((*digest, key)).or_default().clone();
        let mut complete = place.complete.lock().await;
        if !*complete && !is_folder(path.clone()).await? {
            self.make(digest, layout.clone(), path.clone()).await?;
            self.made.notify_one();
        }
        *complete = true;
        *place.used.lock() = Some(SystemTime::now());
        Ok(CodeFolder { path, _used: place.users.clone() })
    }

    /// A folder that has nothing in it, for sandboxes that run no code of anybody's. Repeatable.
    pub async fn empty(&self) -> Result<PathBuf, ArtifactError> {
        let path = self.root.join(EMPTY);
        let made = path.clone();
        blocking("making the empty folder", move || match DirBuilder::new().mode(0o755).create(&made) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => fs::set_permissions(&made, Permissions::from_mode(0o755)),
        })
        .await?;
        Ok(path)
    }

    fn path(&self, digest: &ArtifactDigest, key: &str) -> PathBuf {
        self.root.join(digest.to_string()).join(key)
    }

    async fn make(
        &self,
        digest: &ArtifactDigest,
        layout: FolderLayout,
        path: PathBuf,
    ) -> Result<(), ArtifactError> {
        if let FolderLayout::SingleFile { names } = layout.source() {
            check_names(names)?;
        }
        let bytes = self.artifacts.get(digest).await?;
        let built = match &layout {
            FolderLayout::Built { archive, .. } => Some(self.artifacts.get(archive).await?),
            FolderLayout::SingleFile { .. } | FolderLayout::Zip | FolderLayout::Some { .. } => None,
        };
        let (root, limits) = (self.root.clone(), self.limits);
        blocking("making a code folder", move || {
            let scratch = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempdir_in(&root)?;
            let filled = fill(scratch.path(), layout.source(), &bytes, &limits).and_then(|()| match &built {
                Some(built) => Ok(unpack_beside(built, scratch.path(), &limits)?),
                None => Ok(()),
            });
            if filled.is_ok() {
                put_in_place(scratch, &path)?;
            }
            Ok(filled)
        })
        .await?
    }
}

async fn is_folder(path: PathBuf) -> Result<bool, ArtifactError> {
    blocking("looking for a code folder", move || Ok(path.is_dir())).await
}

fn fill(
    folder: &Path,
    layout: &FolderLayout,
    bytes: &Bytes,
    limits: &ArchiveLimits,
) -> Result<(), ArtifactError> {
    match layout {
        FolderLayout::Zip => Ok(unpack(bytes, folder, limits)?),
        FolderLayout::Some { names } => Ok(unpack_some(bytes, names, folder, limits)?),
        FolderLayout::Built { source, .. } => fill(folder, source, bytes, limits),
        FolderLayout::SingleFile { names } => lay_out(folder, names, bytes)
            .map_err(|source| ArtifactError::Io { action: "writing a code folder", source }),
    }
}

/// One file under each name; all but the first are hard links.
fn lay_out(folder: &Path, names: &[String], bytes: &[u8]) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let mut first: Option<PathBuf> = None;
    for name in names {
        let path = folder.join(name);
        let missing: Vec<&str> = parents(name).take_while(|parent| !folder.join(parent).is_dir()).collect();
        for parent in missing.iter().rev() {
            fs::create_dir(folder.join(parent))?;
            fs::set_permissions(folder.join(parent), Permissions::from_mode(0o755))?;
        }
        match &first {
            Some(first) => fs::hard_link(first, path)?,
            None => {
                fs::write(&path, bytes)?;
                // A program of one file is executed as it is.
                fs::set_permissions(&path, Permissions::from_mode(0o755))?;
                first = Some(path);
            }
        }
    }
    Ok(())
}

/// Names that can all exist at once: safe, no two the same, none below another.
fn check_names(names: &[String]) -> Result<(), ArtifactError> {
    let refused = |name: &str, source| Err(ArtifactError::Layout { name: name.to_owned(), source });
    if names.is_empty() {
        return refused("", PathError::Empty);
    }
    for (index, name) in names.iter().enumerate() {
        if let Err(source) = check_relative_path(name) {
            return refused(name, source);
        }
        let taken = names.iter().take(index).any(|other| other == name);
        if taken || parents(name).any(|parent| names.iter().any(|other| other == parent)) {
            return refused(name, PathError::Taken);
        }
    }
    Ok(())
}

fn put_in_place(scratch: TempDir, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_passage(parent)?;
    }
    let mut renamed = fs::rename(scratch.path(), path);
    if let (Err(ErrorKind::NotFound), Some(parent)) =
        (renamed.as_ref().map_err(io::Error::kind), path.parent())
    {
        // Another layout of the artifact was removed, and with it, being the last, the folder of all of them.
        make_passage(parent)?;
        renamed = fs::rename(scratch.path(), path);
    }
    match renamed {
        Ok(()) => {
            // It has another name now, so there is nothing left to remove.
            let _renamed = scratch.keep();
            Ok(())
        }
        // A call that was dropped half-way still finished its work.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn make_passage(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PASSAGE_MODE).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(PASSAGE_MODE)),
    }
}

/// Takes the folder's name away first, so that a crash half-way leaves no folder that looks whole.
fn remove_folder(root: &Path, folder: &Path) -> io::Result<()> {
    let scratch = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempdir_in(root)?;
    match fs::rename(folder, scratch.path()) {
        Ok(()) => scratch.close(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn prepare(root: &Path) -> io::Result<()> {
    make_passage(root)?;
    // Unknown is like another boot each time: correct, only slower.
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot_file = root.join(BOOT_FILE);
    let same_boot = !boot.is_empty() && fs::read(&boot_file).is_ok_and(|recorded| recorded == boot);
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let half_made = entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX);
        if entry.file_type()?.is_dir() && (half_made || !same_boot) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    // Last, so that a crash in between only repeats the work.
    fs::write(boot_file, boot)
}

#[cfg(test)]
mod tests;
