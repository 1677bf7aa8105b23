//! Artifacts in a folder of this machine: `sha256/<first 2 digits>/<other 62 digits>`.

use std::fs::{self, DirBuilder, File, FileTimes};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use impuls_domain::ArtifactDigest;
use sha2::{Digest as _, Sha256};

use crate::error::ArtifactError;
use crate::store::{ArtifactStore, Kept, OWNER_BYTES};

/// The file with the name of whoever these are.
const OWNER: &str = "owner";
const SCRATCH_PREFIX: &str = ".tmp-";
/// What is half-written for so long is nobody's any more, however slow the disk is.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

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
        Self::open_after(root, Duration::ZERO)
    }

    /// The same for a folder that other processes use as well, also of other machines: what is half-written may be theirs,
    /// and is removed when it was written an hour ago.
    pub fn open_shared(root: &Path) -> Result<Self, ArtifactError> {
        Self::open_after(root, ABANDONED)
    }

    fn open_after(root: &Path, abandoned: Duration) -> Result<Self, ArtifactError> {
        let failed = |source| ArtifactError::Io { action: "opening the artifact folder", source };
        let objects = root.join("sha256");
        for folder in [root, &objects] {
            make_folder(folder).and_then(|()| sync_parent(folder)).map_err(failed)?;
        }
        for shard in fs::read_dir(&objects).map_err(failed)? {
            remove_scratch(&shard.map_err(failed)?.path(), abandoned).map_err(failed)?;
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

    async fn list(&self, after: Option<ArtifactDigest>, limit: usize) -> Result<Vec<Kept>, ArtifactError> {
        let objects = self.objects.clone();
        blocking("listing artifacts", move || list(&objects, after, limit)).await
    }

    async fn claim(&self, owner: &str) -> Result<String, ArtifactError> {
        let (path, owner) = (self.objects.with_file_name(OWNER), owner.to_owned());
        blocking("reading whose artifacts these are", move || claim(&path, &owner)).await
    }

    async fn discard(&self, digest: &ArtifactDigest, since: SystemTime) -> Result<bool, ArtifactError> {
        let path = self.path(digest);
        blocking("discarding an artifact", move || discard(&path, since)).await
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
    if !fs::read(path).is_ok_and(|present| present == bytes) || !renew(path)? {
        let mut scratch = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(shard)?;
        scratch.write_all(bytes)?;
        scratch.as_file().sync_all()?;
        scratch.persist(path)?;
    }
    sync_parent(path)
}

/// Makes the file with this owner's name, or returns whose name is in it.
fn claim(path: &Path, owner: &str) -> io::Result<String> {
    let root = path.parent().ok_or(ErrorKind::InvalidInput)?;
    if let Some(found) = read_owner(path)? {
        return Ok(found);
    }
    let mut scratch = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(root)?;
    scratch.write_all(owner.as_bytes())?;
    scratch.as_file().sync_all()?;
    match scratch.persist_noclobber(path) {
        Ok(_) => sync_parent(path).map(|()| owner.to_owned()),
        // Another was faster.
        Err(lost) if lost.error.kind() == ErrorKind::AlreadyExists => {
            read_owner(path)?.ok_or_else(|| ErrorKind::NotFound.into())
        }
        Err(lost) => Err(lost.error),
    }
}

fn read_owner(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(OWNER_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
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

/// Has a file count as written now; false if somebody is taking it away.
fn renew(path: &Path) -> io::Result<bool> {
    let missing_is_false = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => Ok(false),
        _ => Err(error),
    };
    let file = match File::options().write(true).open(path) {
        Ok(file) => file,
        Err(error) => return missing_is_false(error),
    };
    file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
    // Taken away before, it may not come back; taken away later, its new time is seen.
    match fs::metadata(path) {
        Ok(there) => Ok(there.ino() == file.metadata()?.ino()),
        Err(error) => missing_is_false(error),
    }
}

/// Takes the file away under another name and looks at its time only then, so that a put either sees that it is gone or
/// is seen itself.
fn discard(path: &Path, since: SystemTime) -> io::Result<bool> {
    let Some(shard) = path.parent() else { return Ok(false) };
    match fs::metadata(path) {
        Ok(there) if there.modified()? > since => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let aside = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(shard)?.into_temp_path();
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    if fs::metadata(&aside)?.modified()? > since {
        aside.persist(path)?;
        sync_parent(path)?;
        return Ok(false);
    }
    aside.close()?;
    sync_parent(path)?;
    Ok(true)
}

fn list(objects: &Path, after: Option<ArtifactDigest>, limit: usize) -> io::Result<Vec<Kept>> {
    let after = after.map(|digest| digest.to_string());
    let mut found = Vec::new();
    for shard in names_in(objects)? {
        if after.as_ref().and_then(|after| after.get(..2)).is_some_and(|first| shard.as_str() < first) {
            continue;
        }
        let folder = objects.join(&shard);
        remove_scratch(&folder, ABANDONED)?;
        for rest in names_in(&folder)? {
            let Ok(digest) = format!("{shard}{rest}").parse::<ArtifactDigest>() else { continue };
            if after.as_ref().is_some_and(|after| digest.to_string() <= *after) {
                continue;
            }
            match fs::metadata(folder.join(&rest)) {
                Ok(file) => found.push(Kept { digest, bytes: file.len(), at: file.modified()? }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// The names in a folder, in order; those that are no text are nobody's here.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes what is half-written and was last written so long ago. The age is told by files alone: another server's, a
/// network file system's and this server's clock may differ by more than it.
fn remove_scratch(shard: &Path, age: Duration) -> io::Result<()> {
    let is_scratch = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX);
    let entries = fs::read_dir(shard)?.collect::<io::Result<Vec<_>>>()?;
    let scratch: Vec<_> = entries.into_iter().filter(is_scratch).collect();
    if scratch.is_empty() {
        return Ok(());
    }
    let newest = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(shard)?;
    let now = newest.as_file().metadata()?.modified()?;
    for entry in scratch {
        let removed = entry.metadata().and_then(|file| {
            let written = now.duration_since(file.modified()?).unwrap_or_default();
            if written >= age { fs::remove_file(entry.path()) } else { Ok(()) }
        });
        match removed {
            // Whoever was writing it has just finished.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
