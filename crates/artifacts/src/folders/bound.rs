//! How much the cache of code folders may hold: which folders go, how large they are, and their removal.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use impuls_domain::ArtifactDigest;

use super::{CodeFolders, Folder, remove_folder};
use crate::error::ArtifactError;
use crate::local::blocking;

/// How long after a new folder is looked whether there are too many; more may come at once.
const SETTLE: Duration = Duration::from_secs(1);
/// How long until it is looked again when there was too much, and all of it was in use.
const AGAIN: Duration = Duration::from_secs(10);

/// What a look at the cache came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Folders that were removed.
    pub folders: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are left.
    pub left: u64,
}

/// A folder as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lying {
    folder: Folder,
    bytes: u64,
    used: SystemTime,
}

/// Those that go, so that what is left has at most so many bytes: the ones that were used longest ago, but none that is in use.
fn superfluous(mut lying: Vec<Lying>, limit: u64, is_in_use: impl Fn(&Folder) -> bool) -> Vec<Lying> {
    let mut total: u64 = lying.iter().map(|one| one.bytes).sum();
    lying.sort_by_key(|one| one.used);
    lying.retain(|one| {
        let goes = total > limit && !is_in_use(&one.folder);
        if goes {
            total -= one.bytes;
        }
        goes
    });
    lying
}

impl CodeFolders {
    /// Keeps the cache within so many bytes, until dropped, and tells what each look at it came to. What is in use counts, and
    /// stays; so for a while there may be more, and for a moment after a new folder.
    pub async fn keep_within(&self, limit: u64, looked: impl Fn(Result<Trimmed, ArtifactError>)) {
        loop {
            let trimmed = self.trim(limit).await;
            let is_over = trimmed.as_ref().map_or(true, |trimmed| trimmed.left > limit);
            looked(trimmed);
            let made = self.made.notified();
            if is_over {
                // Either will do.
                let _woken = tokio::time::timeout(AGAIN, made).await;
            } else {
                made.await;
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Removes folders that nobody uses, those first that were used longest ago, until what is left has at most so many bytes.
    /// Repeatable; may be dropped half-way.
    pub async fn trim(&self, limit: u64) -> Result<Trimmed, ArtifactError> {
        let lying = self.lying().await?;
        let mut trimmed = Trimmed { left: lying.iter().map(|one| one.bytes).sum(), ..Trimmed::default() };
        let is_in_use = |folder: &Folder| self.places.lock().get(folder).is_some_and(|place| place.is_used());
        for Lying { folder, bytes, .. } in superfluous(lying, limit, is_in_use) {
            if self.remove(&folder).await? {
                trimmed.folders += 1;
                trimmed.bytes += bytes;
                trimmed.left -= bytes;
            }
        }
        Ok(trimmed)
    }

    /// Removes a folder; false if somebody uses it by now.
    async fn remove(&self, folder: &Folder) -> Result<bool, ArtifactError> {
        let place = self.places.lock().entry(folder.clone()).or_default().clone();
        let Ok(mut complete) = place.complete.clone().try_lock_owned() else { return Ok(false) };
        // Who is given it is given it under this lock.
        if place.is_used() {
            return Ok(false);
        }
        *complete = false;
        let (root, path) = (self.root.clone(), self.path(&folder.0, &folder.1));
        blocking("removing a code folder", move || {
            // Held to the end also if nobody waits for it any more.
            let _making_none = complete;
            remove_folder(&root, &path)?;
            // The last layout of an artifact takes its folder along.
            path.parent().map_or(Ok(()), |parent| match fs::remove_dir(parent) {
                Err(error) if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {
                    Err(error)
                }
                Ok(()) | Err(_) => Ok(()),
            })
        })
        .await?;
        self.sizes.lock().remove(folder);
        let mut places = self.places.lock();
        // In the map and here: whoever waits for the lock holds it as well.
        if Arc::strong_count(&place) == 2 {
            places.remove(folder);
        }
        Ok(true)
    }

    /// Every folder that is there, with its size, which is measured once.
    async fn lying(&self) -> Result<Vec<Lying>, ArtifactError> {
        let (root, known) = (self.root.clone(), self.sizes.lock().clone());
        let mut found = blocking("measuring the code folders", move || measure(&root, &known)).await?;
        *self.sizes.lock() = found.iter().map(|one| (one.folder.clone(), one.bytes)).collect();
        let places = self.places.lock();
        for one in &mut found {
            if let Some(used) = places.get(&one.folder).and_then(|place| *place.used.lock()) {
                one.used = used;
            }
        }
        Ok(found)
    }
}

fn measure(root: &Path, known: &HashMap<Folder, u64>) -> io::Result<Vec<Lying>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse::<ArtifactDigest>().ok())
        else {
            continue;
        };
        for layout in fs::read_dir(entry.path())? {
            let layout = layout?;
            let Ok(key) = layout.file_name().into_string() else { continue };
            let folder = (digest, key);
            let bytes = match known.get(&folder) {
                Some(bytes) => *bytes,
                None => bytes_below(&layout.path())?,
            };
            found.push(Lying { folder, bytes, used: layout.metadata()?.modified()? });
        }
    }
    Ok(found)
}

/// What the disk gives to a folder and all below it. A file of several names is divided among them.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    /// Of what `st_blocks` counts, whatever the file system's own blocks are (`stat(2)`).
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            bytes += bytes_below(&entry.path())?;
        } else {
            bytes += metadata.blocks() * BLOCK / metadata.nlink().max(1);
        }
    }
    Ok(bytes + fs::symlink_metadata(folder)?.blocks() * BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lying(key: &str, bytes: u64, used: u64) -> Lying {
        let folder = (ArtifactDigest::from_bytes([1; 32]), key.to_owned());
        Lying { folder, bytes, used: SystemTime::UNIX_EPOCH + Duration::from_secs(used) }
    }

    fn check(limit: u64, in_use: &[&str], expected: &[&str]) {
        let all = vec![lying("new", 10, 9), lying("old", 5, 1), lying("middle", 20, 5)];
        let gone = superfluous(all, limit, |folder| in_use.contains(&folder.1.as_str()));
        let gone: Vec<_> = gone.iter().map(|one| one.folder.1.as_str()).collect();
        assert_eq!(gone, expected, "{limit} {in_use:?}");
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_in_use_never() {
        check(35, &[], &[]);
        check(34, &[], &["old"]);
        check(29, &[], &["old", "middle"]);
        check(0, &[], &["old", "middle", "new"]);
        check(0, &["middle"], &["old", "new"]);
        check(29, &["old"], &["middle"]);
    }
}
