//! The runtimes of this server: the machine's, and those of the images that are kept below the data folder. Their roots are
//! unpacked once, for sandboxes to see.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use impuls_images::{Architecture, Entry, Format, ImageManifest, ImageStore, unpack};
use impuls_runtimes::{Catalogue, Rooted, SearchPath};

use crate::images;

/// Where below the data folder roots are, each called after its image's digest.
const FOLDER: &str = "roots";
/// A root that is being unpacked. One server has the data folder, and does one after the other.
const UNFINISHED: &str = ".unfinished";
/// How many digits of a digest tell an image from others.
const DIGITS: usize = 12;

/// Every runtime of this server. An image that cannot be used is named in the log and left out. Blocks; for seconds, if
/// there is a new image.
pub(crate) fn catalogue(search: &SearchPath, data: &Path) -> Catalogue {
    let mut catalogue = Catalogue::detect(search);
    let store = ImageStore::new(data.join(images::FOLDER));
    let images = match store.entries() {
        Ok(entries) => usable(entries),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the images cannot be read");
            return catalogue;
        }
    };
    let folder = data.join(FOLDER);
    if let Err(error) = tidy(&folder, &images) {
        tracing::warn!(%error, folder = %folder.display(), "roots of images that are gone cannot be removed");
    }
    for image in &images {
        let root = root(&store, image, &folder);
        let added = root
            .and_then(|root| catalogue.add_image(&rooted(image, root), search).map_err(anyhow::Error::msg));
        match added {
            Ok(()) => {
                tracing::info!(image = %image.name, digest = %image.digest, "functions can use an image")
            }
            Err(error) => tracing::warn!(image = %image.name, "functions cannot use an image: {error:#}"),
        }
    }
    catalogue
}

/// Those whose files can be shown here, the newest of each name.
fn usable(entries: Vec<Entry>) -> Vec<ImageManifest> {
    let mut names = BTreeSet::new();
    let image = |entry| match entry {
        Entry::Image(image) => Some(image),
        Entry::Kernel(_) => None,
    };
    let here = Architecture::of_this_machine();
    let images = entries.into_iter().filter_map(image);
    let images = images.filter(|image| image.format == Format::Oci && image.architecture == here);
    images.filter(|image| names.insert(image.name.clone())).collect()
}

/// Removes whatever is no root of these images.
fn tidy(folder: &Path, images: &[ImageManifest]) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !images.iter().any(|image| *digits(image) == *entry.file_name()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The unpacked root of an image. Whatever is there under its name is whole, whenever the power fails.
fn root(store: &ImageStore, image: &ImageManifest, folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join(digits(image));
    if root.is_dir() {
        return Ok(root);
    }
    let failed = || format!("cannot unpack it into {}", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(failed)?;
    let unfinished = folder.join(UNFINISHED);
    unpack(store, image, &unfinished)?;
    rustix::fs::syncfs(File::open(&unfinished).with_context(failed)?).with_context(failed)?;
    fs::rename(&unfinished, &root).with_context(failed)?;
    Ok(root)
}

fn rooted(image: &ImageManifest, root: PathBuf) -> Rooted {
    let digits: String = digits(image).chars().take(DIGITS).collect();
    Rooted { name: image.name.clone(), version: format!("image {digits}"), root, shims: image.languages() }
}

fn digits(image: &ImageManifest) -> &str {
    image.digest.trim_start_matches("sha256:")
}
