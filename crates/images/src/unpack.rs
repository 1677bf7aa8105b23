//! Unpacks an image that is kept, for drivers that show its files to sandboxes.

use std::fs;
use std::path::Path;

use crate::build::TIME;
use crate::error::ImageError;
use crate::manifest::{Format, ImageManifest};
use crate::oci;
use crate::store::ImageStore;
use crate::tree::write;

/// Makes the folder `root`, which does not exist, the root of a kept image of format `oci`. What is read is compared with
/// the image's digests. The superuser keeps the owners of files, others own it all. On `Err` part of it may be there.
/// Blocks, for seconds.
pub fn unpack(store: &ImageStore, image: &ImageManifest, root: &Path) -> Result<(), ImageError> {
    if image.format != Format::Oci {
        return Err(ImageError::Packed { name: image.name.clone(), format: image.format });
    }
    let folder = root.parent().unwrap_or(Path::new("."));
    let read = oci::read::read(&store.path(&image.digest), image.architecture, folder, &|_: &str| {})?;
    fs::create_dir(root).map_err(ImageError::io("making", root))?;
    write::folder(&read.tree, TIME, root)
}
