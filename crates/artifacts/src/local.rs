//! Artifacts in a folder of this machine: `sha256/<first 2 digits>/<other 62 digits>`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_domain::ArtifactDigest;
use sha2::{Digest as _, Sha256};

use crate::error::ArtifactError;
use crate::store::ArtifactStore;

const SCRATCH_PREFIX: &str = ".tmp-";

/// Artifacts as files. Cheap to clone; clones share the folder. Files have mode 0600 and folders 0700: code is the
/// owner's business.
#[derive(Clone, Debug)]
pub struct LocalArtifacts {
    objects: Arc<Path>,
}

impl LocalArtifacts {
    /// Opens the folder, makes it if it is missing (its parent must exist), and removes what a crash left
    /// half-written. Blocks; one process at a time.
    pub fn open(root: &Path) -> Result<Self, ArtifactError> {
        let failed = |source| ArtifactError::Io { action: "opening the artifact folder", source };
        let objects = root.join("sha256");
        for folder in [root, &objects] {
            make_folder(folder).and_then(|()| sync_parent(folder)).map_err(failed)?;
        }
        for shard in fs::read_dir(&objects).map_err(failed)? {
            remove_scratch(&shard.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(Self { objects: objects.into() })
    }

    /// The artifacts of a folder that another process has open: for reading alone. Nothing is made or removed.
    #[must_use]
    pub fn beside(root: &Path) -> Self {
        Self { objects: root.join("sha256").into() }
    }

    fn path(&self, digest: &ArtifactDigest) -> PathBuf {
        let name = digest.to_string();
        // 64 hexadecimal digits can be split anywhere.
        let (shard, rest) = name.split_at(2);
        self.objects.join(shard).join(rest)
    }
}

/// The digest that names these bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> ArtifactDigest {
    ArtifactDigest::from_bytes(Sha256::digest(bytes).into())
}

#[async_trait]
impl ArtifactStore for LocalArtifacts {
    async fn put(&self, bytes: Bytes) -> Result<ArtifactDigest, ArtifactError> {
        let this = self.clone();
        blocking("writing an artifact", move || {
            let digest = digest_of(&bytes);
            write_object(&this.path(&digest), &bytes)?;
            Ok(digest)
        })
        .await
    }

    async fn get(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError> {
        let (digest, path) = (*digest, self.path(digest));
        let found = blocking("reading an artifact", move || {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(Err(ArtifactError::NotFound(digest)));
                }
                Err(error) => return Err(error),
            };
            let intact = digest_of(&bytes) == digest;
            Ok(if intact { Ok(Bytes::from(bytes)) } else { Err(ArtifactError::Damaged(digest)) })
        });
        found.await?
    }

    async fn delete(&self, digest: &ArtifactDigest) -> Result<bool, ArtifactError> {
        let path = self.path(digest);
        blocking("deleting an artifact", move || match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }
}

/// Runs file work off the event loop. It runs to its end even if nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ArtifactError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|lost| Err(io::Error::other(lost)))
        .map_err(|source| ArtifactError::Io { action, source })
}

/// Writes the bytes under a name that nobody reads, and gives them their own name once they are on disk.
fn write_object(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let shard = path.parent().ok_or(ErrorKind::InvalidInput)?;
    make_folder(shard)?;
    // Also if it exists: whoever made it may not have come so far yet.
    sync_parent(shard)?;
    // Not only whether it exists: putting bytes again also heals a damaged copy of them.
    if !fs::read(path).is_ok_and(|present| present == bytes) {
        let mut scratch = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(shard)?;
        scratch.write_all(bytes)?;
        scratch.as_file().sync_all()?;
        scratch.persist(path)?;
    }
    sync_parent(path)
}

/// Makes a folder for us alone, unless it is there already.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes a name durable: names belong to the folder, not to the file.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn remove_scratch(shard: &Path) -> io::Result<()> {
    for entry in fs::read_dir(shard)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
