//! From a request to an image that is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::agent;
use crate::architecture::Architecture;
use crate::debian::{self, Sources};
use crate::error::ImageError;
use crate::furnish::furnish;
use crate::manifest::{Format, ImageManifest, MadeOf};
use crate::oci;
use crate::pack;
use crate::recipe::Recipe;
use crate::staged;
use crate::store::{Entry, ImageStore};
use crate::tool::{Steps, Toolbox};
use crate::tree::Tree;

/// The time of everything in an image unless somebody says otherwise: 1980-01-01, the first that zip archives know.
pub const TIME: u64 = 315_532_800;
/// Where programs are looked for in a guest.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a root comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Packages from these sources.
    Debian(Sources),
    /// An OCI image, as a tar archive.
    Oci(PathBuf),
}

/// What is to be built.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// What it is to have.
    pub recipe: Recipe,
    /// Where the rest of it comes from.
    pub origin: Origin,
    /// For which processor.
    pub architecture: Architecture,
    /// What its bytes are to be.
    pub format: Format,
    /// The file with the agent.
    pub agent: PathBuf,
    /// Names with tags of an image that is loaded elsewhere; for format `oci`.
    pub tags: Vec<String>,
    /// The time of everything in it, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub time: u64,
    /// The time of the build, which only its manifest has.
    pub now: OffsetDateTime,
}

/// Builds an image and keeps it. Equal requests of equal packages make equal bytes, but for format `ext4`. On an error
/// nothing is left. Blocks, for minutes.
pub fn build(
    store: &ImageStore,
    request: &BuildRequest,
    tools: &Toolbox,
    steps: &dyn Steps,
) -> Result<ImageManifest, ImageError> {
    // Whatever can be refused is refused before minutes have passed.
    let agent = agent::read(&request.agent, request.architecture)?;
    pack::require(request.format, tools)?;
    let workshop = store.workshop()?;
    let (mut tree, made_of, mut environment) = root(request, tools, workshop.folder(), steps)?;
    environment.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    let (agent, launches) = furnish(&mut tree, &request.recipe, &agent)?;
    steps.step(&format!("packing {} files as {}", tree.len(), request.format));
    let mut image = ImageManifest {
        name: request.recipe.name().to_owned(),
        architecture: request.architecture,
        format: request.format,
        digest: String::new(),
        size: 0,
        created: written(request.now),
        made_of,
        agent,
        launches,
        environment,
    };
    let path = packed(request, &tree, &image, (workshop.folder(), tools))?;
    (image.digest, image.size) = staged::digest_of_file(&path)?;
    store.keep(&path, &Entry::Image(image.clone()))?;
    Ok(image)
}

type Root = (Tree, MadeOf, BTreeMap<String, String>);

fn root(
    request: &BuildRequest,
    tools: &Toolbox,
    folder: &Path,
    steps: &dyn Steps,
) -> Result<Root, ImageError> {
    match &request.origin {
        Origin::Debian(sources) => {
            let (tree, suite, packages) =
                debian::tree(&request.recipe, request.architecture, (sources, tools), folder, steps)?;
            Ok((tree, MadeOf::Debian { suite, packages }, BTreeMap::new()))
        }
        Origin::Oci(path) => {
            let image = oci::read::read(path, request.architecture, folder, steps)?;
            let made_of = MadeOf::Oci { config: image.config, layers: image.layers };
            Ok((image.tree, made_of, image.environment))
        }
    }
}

fn packed(
    request: &BuildRequest,
    tree: &Tree,
    image: &ImageManifest,
    (folder, tools): (&Path, &Toolbox),
) -> Result<PathBuf, ImageError> {
    let path = pack::pack(tree, request.format, request.time, (folder, tools))?;
    if request.format == Format::Oci {
        let layer = folder.join("layer.tar");
        pack::archive(tree, request.time, &layer)?;
        let about = oci::write::About {
            name: &image.name,
            tags: &request.tags,
            architecture: request.architecture,
            agent: &image.agent,
            environment: &image.environment,
            time: request.time,
        };
        oci::write::write(&about, &layer, &path)?;
    }
    Ok(path)
}

/// A time as RFC 3339 in UTC, in whole seconds, so that texts sort as times do.
pub(crate) fn written(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
