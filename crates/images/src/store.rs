//! The folder in which images and kernels are kept.
//!
//! ```text
//!   <folder>/sha256/<digest>        the bytes of an image or kernel
//!   <folder>/manifests/<digest>.json   what they are
//!   <folder>/.tmp-…                 somebody builds; removed by the next build if that crashed
//! ```
//!
//! Bytes come before their manifest and go after it, so whatever has a manifest is whole, whenever the power fails; bytes
//! without one are removed by the next build. One build runs at a time; looking needs no lock.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::architecture::Architecture;
use crate::error::ImageError;
use crate::manifest::{Format, ImageManifest, KernelManifest};
use crate::staged;

/// The most images and kernels together.
const MOST: usize = 256;
/// The most bytes of a manifest. One of a large image has a few hundred packages.
const MANIFEST_BYTES: u64 = 1024 * 1024;
/// The fewest digits of a digest that mean something.
const DIGITS: usize = 4;
const SCRATCH_PREFIX: &str = ".tmp-";
/// How the names of manifests begin that are being written.
const UNFINISHED_PREFIX: &str = ".tmp";

/// An image or a kernel that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub enum Entry {
    /// An image.
    Image(ImageManifest),
    /// A kernel.
    Kernel(KernelManifest),
}

impl Entry {
    /// `sha256:` and the digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            Self::Image(image) => &image.digest,
            Self::Kernel(kernel) => &kernel.digest,
        }
    }

    /// The image's name, or `kernel`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Image(image) => &image.name,
            Self::Kernel(_) => "kernel",
        }
    }

    /// When it was kept, as text that sorts by time.
    #[must_use]
    pub fn created(&self) -> &str {
        match self {
            Self::Image(image) => &image.created,
            Self::Kernel(kernel) => &kernel.created,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Image(image) => image.size,
            Self::Kernel(kernel) => kernel.size,
        }
    }
}

/// Images and kernels by the digest of their bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ImageStore {
    folder: PathBuf,
}

/// The right to build, and a folder for what is not finished. Ends by drop; the folder goes with it.
pub(crate) struct Workshop {
    scratch: TempDir,
    _lock: File,
}

impl Workshop {
    /// An empty folder on the store's own disk.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

impl ImageStore {
    /// The store in this folder, which is made, with its parents, when something is put into it.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The store's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file with the bytes of this digest, whether or not it is there.
    #[must_use]
    pub fn path(&self, digest: &str) -> PathBuf {
        self.folder.join("sha256").join(hexadecimal(digest))
    }

    /// Everything that is kept, the newest first. A store that does not exist holds nothing.
    pub fn entries(&self) -> Result<Vec<Entry>, ImageError> {
        let digests = self.digests()?;
        let mut entries: Vec<Entry> =
            digests.iter().map(|digest| self.entry(digest)).collect::<Result<_, _>>()?;
        entries.sort_by(|a, b| (b.created(), a.digest()).cmp(&(a.created(), b.digest())));
        Ok(entries)
    }

    /// What a name, `kernel`, or at least 4 digits of a digest mean; the newest of those with the same name.
    pub fn find(&self, reference: &str) -> Result<Entry, ImageError> {
        let entries = self.entries()?;
        if let Some(named) = entries.iter().find(|entry| entry.name() == reference) {
            return Ok(named.clone());
        }
        let digest = unique(&self.digests()?, reference)?;
        entries
            .into_iter()
            .find(|entry| hexadecimal(entry.digest()) == digest)
            .ok_or_else(|| ImageError::NotFound(reference.to_owned()))
    }

    /// The newest image of this name, for this processor, in one of these formats.
    pub fn image(
        &self,
        name: &str,
        architecture: Architecture,
        formats: &[Format],
    ) -> Result<ImageManifest, ImageError> {
        let fits = |image: &ImageManifest| {
            image.name == name && image.architecture == architecture && formats.contains(&image.format)
        };
        let images = self.entries()?.into_iter().filter_map(|entry| match entry {
            Entry::Image(image) => Some(image),
            Entry::Kernel(_) => None,
        });
        images.into_iter().find(fits).ok_or_else(|| ImageError::NotFound(name.to_owned()))
    }

    /// The newest kernel for this processor, with the patch `kvm_pvm` or without it. One with the patch has given up hardening,
    /// so it is never the answer to whoever did not ask for it.
    pub fn kernel(&self, architecture: Architecture, kvm_pvm: bool) -> Result<KernelManifest, ImageError> {
        let fits = |kernel: &KernelManifest| kernel.architecture == architecture && kernel.kvm_pvm == kvm_pvm;
        let kernels = self.entries()?.into_iter().filter_map(|entry| match entry {
            Entry::Kernel(kernel) => Some(kernel),
            Entry::Image(_) => None,
        });
        kernels.into_iter().find(fits).ok_or_else(|| ImageError::NotFound("kernel".to_owned()))
    }

    /// Reads all bytes and compares them with their digest.
    pub fn verify(&self, entry: &Entry) -> Result<(), ImageError> {
        let path = self.path(entry.digest());
        let (digest, size) = staged::digest_of_file(&path)?;
        if digest == entry.digest() && size == entry.size() {
            Ok(())
        } else {
            Err(ImageError::Damaged { path })
        }
    }

    /// Removes what these digits of a digest mean, or a name that means only one thing; returns its digest. A guest
    /// that has it open keeps it until it ends.
    pub fn remove(&self, reference: &str) -> Result<String, ImageError> {
        let _lock = self.locked("store.lock")?;
        let digests = self.digests()?;
        let of_name = |digest: &&String| self.entry(digest).is_ok_and(|entry| entry.name() == reference);
        let named: Vec<&String> = digests.iter().filter(of_name).collect();
        let digest = match *named.as_slice() {
            [one] => one.clone(),
            [] => unique(&digests, reference)?,
            _ => {
                return Err(ImageError::Ambiguous { reference: reference.to_owned(), count: named.len() });
            }
        };
        for path in [self.manifest_path(&digest), self.path(&digest)] {
            remove_file(&path)?;
        }
        Ok(format!("sha256:{digest}"))
    }

    /// Takes the right to build, and clears away what builds have left that crashed.
    pub(crate) fn workshop(&self) -> Result<Workshop, ImageError> {
        for folder in [self.folder.clone(), self.folder.join("sha256"), self.folder.join("manifests")] {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(&folder);
            made.map_err(ImageError::io("making", &folder))?;
        }
        let path = self.folder.join("build.lock");
        let lock = File::create(&path).map_err(ImageError::io("locking", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(ImageError::Busy { folder: self.folder.clone() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(ImageError::io("locking", &path)(error)),
        }
        self.clear()?;
        let scratch = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempdir_in(&self.folder);
        Ok(Workshop { scratch: scratch.map_err(ImageError::io("making", &self.folder))?, _lock: lock })
    }

    fn clear(&self) -> Result<(), ImageError> {
        for name in names_in(&self.folder)?.iter().filter(|name| name.starts_with(SCRATCH_PREFIX)) {
            let path = self.folder.join(name);
            fs::remove_dir_all(&path).map_err(ImageError::io("clearing", &path))?;
        }
        // Nobody keeps anything now, because that takes a workshop.
        let _lock = self.locked("store.lock")?;
        let manifests = self.folder.join("manifests");
        for name in names_in(&manifests)?.iter().filter(|name| name.starts_with(UNFINISHED_PREFIX)) {
            remove_file(&manifests.join(name))?;
        }
        for digest in names_in(&self.folder.join("sha256"))?.iter().filter(|name| is_digest(name)) {
            let manifest = self.manifest_path(digest);
            if !manifest.try_exists().map_err(ImageError::io("reading", &manifest))? {
                remove_file(&self.path(digest))?;
            }
        }
        Ok(())
    }

    /// Keeps a file of the workshop under its digest, with its manifest. Repeatable: what is there already gets the new
    /// manifest.
    pub(crate) fn keep(&self, from: &Path, entry: &Entry) -> Result<(), ImageError> {
        let _lock = self.locked("store.lock")?;
        let digest = hexadecimal(entry.digest());
        let digests = self.digests()?;
        if digests.len() >= MOST && !digests.iter().any(|kept| kept == digest) {
            return Err(ImageError::Full { limit: MOST });
        }
        let path = self.manifest_path(digest);
        let text = serde_json::to_vec_pretty(entry)
            .map_err(|error| ImageError::io("writing", &path)(std::io::Error::other(error)))?;
        let is_new = !path.try_exists().map_err(ImageError::io("reading", &path))?;
        let kept = staged::keep(from, &self.path(digest)).and_then(|()| staged::write_whole(&path, &text));
        if kept.is_err() && is_new {
            // Nobody would find them. What cannot be removed now is removed by the next build.
            let _ = remove_file(&self.path(digest));
        }
        kept
    }

    fn manifest_path(&self, digest: &str) -> PathBuf {
        self.folder.join("manifests").join(format!("{digest}.json"))
    }

    fn locked(&self, name: &str) -> Result<File, ImageError> {
        let path = self.folder.join(name);
        if !self.folder.is_dir() {
            // Nothing is there, so nobody changes it.
            return File::open("/dev/null").map_err(ImageError::io("locking", &path));
        }
        let file = File::create(&path).map_err(ImageError::io("locking", &path))?;
        file.lock().map_err(ImageError::io("locking", &path))?;
        Ok(file)
    }

    /// The digests of what is kept, as hexadecimal digits.
    fn digests(&self) -> Result<Vec<String>, ImageError> {
        let folder = self.folder.join("manifests");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(ImageError::io("reading", &folder))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut digests: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .filter(|name| is_digest(name))
            .take(MOST)
            .collect();
        digests.sort();
        Ok(digests)
    }

    fn entry(&self, digest: &str) -> Result<Entry, ImageError> {
        let (path, bytes) = (self.manifest_path(digest), self.path(digest));
        let size = fs::metadata(&path).map_err(ImageError::io("reading", &path))?.len();
        let text = if size > MANIFEST_BYTES {
            Vec::new()
        } else {
            fs::read(&path).map_err(ImageError::io("reading", &path))?
        };
        let entry: Option<Entry> = serde_json::from_slice(&text).ok();
        let whole = entry.filter(|entry| hexadecimal(entry.digest()) == digest);
        let whole = whole.ok_or(ImageError::Damaged { path })?;
        match fs::metadata(&bytes) {
            Ok(metadata) if metadata.len() == whole.size() => Ok(whole),
            _ => Err(ImageError::Damaged { path: bytes }),
        }
    }
}

fn hexadecimal(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The names in a folder. Fails rather than leaving one out.
fn names_in(folder: &Path) -> Result<Vec<String>, ImageError> {
    let failed = || ImageError::io("reading", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        names.push(entry.map_err(failed())?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Removes a file, if it is there.
fn remove_file(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ImageError::io("removing", path)(error)),
        _ => Ok(()),
    }
}

/// The one digest that begins with these digits.
fn unique(digests: &[String], reference: &str) -> Result<String, ImageError> {
    let digits = hexadecimal(reference);
    let is_digest = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found: Vec<&String> =
        digests.iter().filter(|digest| is_digest && digest.starts_with(digits)).collect();
    match *found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ImageError::NotFound(reference.chars().take(80).collect())),
        _ => Err(ImageError::Ambiguous { reference: reference.to_owned(), count: found.len() }),
    }
}

#[cfg(test)]
mod tests;
