//! Reads the root of an image: an OCI layout (image specification 1.1, "Image Layout") or what `docker save` writes. Every
//! blob is compared with the digest that names it, every layer with that in the image's configuration, and what `docker save`
//! names by a digest with that.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::architecture::Architecture;
use crate::error::ImageError;
use crate::staged;
use crate::tool::Steps;
use crate::tree::layer::{Indexed, index, lay_over, read_part};
use crate::tree::{MOST_BYTES, Tree, ordinary};

/// The most bytes of a manifest, an index or a configuration.
const MOST_TEXT: u64 = 4 * 1024 * 1024;
/// The most layers (the limit of overlayfs, and of Docker).
const MOST_LAYERS: usize = 128;
/// How many indexes may lead to one another.
const NESTED: usize = 3;
/// The most bytes of an image's variables.
const MOST_ENVIRONMENT: usize = 64 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What an archive has.
pub(crate) struct Image {
    pub(crate) tree: Tree,
    /// The digest of the image's configuration.
    pub(crate) config: String,
    /// The digests of its layers, uncompressed.
    pub(crate) layers: Vec<String>,
    /// Its variables.
    pub(crate) environment: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    layers: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    #[serde(default)]
    config: Settings,
    rootfs: Rootfs,
}

#[derive(Default, Deserialize)]
struct Settings {
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// Where layers lie uncompressed, and how much all of them together may have.
struct Room<'a> {
    folder: &'a Path,
    limit: u64,
    left: u64,
}

impl<'a> Room<'a> {
    fn new(folder: &'a Path, limit: u64) -> Self {
        Self { folder, limit, left: limit }
    }

    /// Copies a stream, uncompressed, into a file without a name, and digests what comes out.
    fn spool(&mut self, mut from: impl BufRead, what: &str) -> Result<(File, String), ImageError> {
        let failed = |error: std::io::Error| ImageError::archive(what, error.to_string());
        let start = from.fill_buf().map_err(failed)?;
        if start.starts_with(&ZSTD) {
            let way = "is compressed with zstd; `skopeo copy --dest-compress-format gzip` or `docker save` writes one that is not";
            return Err(ImageError::archive(what, way));
        }
        let mut from: Box<dyn Read + '_> =
            if start.starts_with(&GZIP) { Box::new(MultiGzDecoder::new(from)) } else { Box::new(from) };
        let mut file = tempfile::tempfile_in(self.folder).map_err(failed)?;
        let mut all = from.as_mut().take(self.left.saturating_add(1));
        let (digest, length) = staged::copy_digested(&mut all, &mut file).map_err(failed)?;
        self.left = self
            .left
            .checked_sub(length)
            .ok_or(ImageError::TooLarge { what: "bytes in its layers", limit: self.limit })?;
        Ok((file, digest))
    }
}

/// An archive with the places of its files.
struct Archive {
    file: File,
    name: String,
    places: HashMap<PathBuf, Indexed>,
}

impl Archive {
    fn open(path: &Path, folder: &Path) -> Result<Self, ImageError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(ImageError::io("reading", path))?;
        // Whoever compresses the whole archive gets it read all the same.
        let file = plain(file, &name, &mut Room::new(folder, MOST_BYTES))?;
        let places = index(&file, &name)?.into_iter().collect();
        Ok(Self { file, name, places })
    }

    fn refused(&self, reason: impl Into<String>) -> ImageError {
        ImageError::archive(self.name.clone(), reason)
    }

    /// Where a file's bytes are; one further name is followed, as older Dockers share layers.
    fn place(&self, path: &Path) -> Result<(u64, u64), ImageError> {
        let missing = || self.refused(format!("has no {}", path.display()));
        let path = ordinary(path).ok_or_else(missing)?;
        match self.places.get(&path).ok_or_else(missing)? {
            Indexed::Part(offset, length) => Ok((*offset, *length)),
            Indexed::Link(target) => {
                let mut place = path.parent().unwrap_or(Path::new("")).to_owned();
                for component in target.components() {
                    match component {
                        std::path::Component::ParentDir => drop(place.pop()),
                        std::path::Component::Normal(name) => place.push(name),
                        _ => {}
                    }
                }
                match self.places.get(&place) {
                    Some(Indexed::Part(offset, length)) => Ok((*offset, *length)),
                    _ => Err(missing()),
                }
            }
        }
    }

    fn text(&self, path: &Path) -> Result<Vec<u8>, ImageError> {
        let bytes = read_part(&self.file, self.place(path)?, MOST_TEXT);
        bytes.map_err(|error| self.refused(format!("{} {error}", path.display())))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, path: &Path) -> Result<T, ImageError> {
        let parsed = serde_json::from_slice(&self.text(path)?);
        parsed.map_err(|error| self.refused(format!("has a {} that is refused: {error}", path.display())))
    }

    /// A text that is named by its digest.
    fn blob<T: for<'de> Deserialize<'de>>(&self, digest: &str) -> Result<T, ImageError> {
        let path = blob_path(digest).ok_or_else(|| self.refused(format!("names a blob {digest:?}")))?;
        if staged::digest_of(&self.text(&path)?) != digest {
            return Err(self.refused(format!("is damaged: {digest} is not what its name says")));
        }
        self.json(&path)
    }
}

/// Where an OCI layout keeps a blob; SHA-256 alone.
fn blob_path(digest: &str) -> Option<PathBuf> {
    let digits = digest.strip_prefix("sha256:")?;
    let valid = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| Path::new("blobs/sha256").join(digits))
}

/// The digest by which a configuration is named: `DIGITS.json`, or as a blob.
fn digest_in(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let digest = format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name));
    blob_path(&digest).map(|_| digest)
}

/// Reads the image of an archive for one processor. `folder` holds the layers, uncompressed, as long as the tree is used.
pub(crate) fn read(
    path: &Path,
    architecture: Architecture,
    folder: &Path,
    steps: &dyn Steps,
) -> Result<Image, ImageError> {
    steps.step(&format!("{}: reading", path.display()));
    let archive = Archive::open(path, folder)?;
    let (config_path, layers) = if archive.places.contains_key(Path::new("index.json")) {
        let manifest = manifest(&archive, architecture)?;
        let layer = |layer: &Descriptor| blob_path(&layer.digest).unwrap_or_default();
        // Checked by its digest here; layers are checked by that of their contents.
        let _config: Config = archive.blob(&manifest.config.digest)?;
        (blob_path(&manifest.config.digest).unwrap_or_default(), manifest.layers.iter().map(layer).collect())
    } else {
        let mut saved: Vec<Saved> = archive.json(Path::new("manifest.json"))?;
        match (saved.pop(), saved.is_empty()) {
            (Some(only), true) => (only.config, only.layers),
            _ => {
                return Err(
                    archive.refused("does not have exactly one image; save only the one that is wanted")
                );
            }
        }
    };
    let digest = staged::digest_of(&archive.text(&config_path)?);
    if digest_in(&config_path).is_some_and(|named| named != digest) {
        return Err(archive.refused("is damaged: its configuration is not what its name says"));
    }
    let config: Config = archive.json(&config_path)?;
    if config.architecture != architecture.debian() {
        return Err(
            archive.refused(format!("has an image for {}, not for {architecture}", config.architecture))
        );
    }
    let mut room = Room::new(folder, MOST_BYTES);
    let tree = root(&archive, &layers, &config.rootfs.diff_ids, (&mut room, steps))?;
    Ok(Image {
        tree,
        config: digest,
        layers: config.rootfs.diff_ids,
        environment: environment(&archive, config.config.env.unwrap_or_default())?,
    })
}

/// The manifest for this processor, through at most a few indexes.
fn manifest(archive: &Archive, architecture: Architecture) -> Result<Manifest, ImageError> {
    let mut index: Index = archive.json(Path::new("index.json"))?;
    for _ in 0..NESTED {
        let fits = |descriptor: &&Descriptor| {
            descriptor.platform.as_ref().is_none_or(|platform| {
                platform.architecture == architecture.debian()
                    && (platform.os.is_empty() || platform.os == "linux")
            })
        };
        let fitting: Vec<&Descriptor> = index.manifests.iter().filter(fits).collect();
        let [chosen] = *fitting.as_slice() else {
            let count = fitting.len();
            return Err(
                archive.refused(format!("has {count} images for {architecture}; exactly one is wanted"))
            );
        };
        if chosen.media_type.contains("index") || chosen.media_type.contains("manifest.list") {
            index = archive.blob(&chosen.digest)?;
        } else {
            return archive.blob(&chosen.digest);
        }
    }
    Err(archive.refused("has indexes that lead to indexes without end"))
}

fn root(
    archive: &Archive,
    layers: &[PathBuf],
    digests: &[String],
    (room, steps): (&mut Room<'_>, &dyn Steps),
) -> Result<Tree, ImageError> {
    if layers.len() != digests.len() || layers.len() > MOST_LAYERS {
        let reason =
            format!("has {} layers and {} digests; at most {MOST_LAYERS}", layers.len(), digests.len());
        return Err(archive.refused(reason));
    }
    let mut tree = Tree::default();
    for (number, (path, digest)) in layers.iter().zip(digests).enumerate() {
        let what = format!("layer {} of {}", number + 1, layers.len());
        steps.step(&format!("{}: {what}", archive.name));
        let (offset, length) = archive.place(path)?;
        let mut part = archive.file.try_clone().map_err(|error| archive.refused(error.to_string()))?;
        part.seek(SeekFrom::Start(offset)).map_err(|error| archive.refused(error.to_string()))?;
        let (file, found) = room.spool(BufReader::new(part).take(length), &what)?;
        if found != *digest {
            return Err(archive.refused(format!("is damaged: {what} is not what the configuration says")));
        }
        lay_over(&mut tree, file, &format!("{}, {what}", archive.name))?;
    }
    Ok(tree)
}

/// A file itself if it is not compressed, else what is in it.
fn plain(file: File, name: &str, room: &mut Room<'_>) -> Result<File, ImageError> {
    let mut magic = [0; 2];
    let read = std::os::unix::fs::FileExt::read_at(&file, &mut magic, 0);
    if read.is_ok_and(|read| read == 2) && magic == GZIP {
        return Ok(room.spool(BufReader::new(file), name)?.0);
    }
    Ok(file)
}

fn environment(archive: &Archive, lines: Vec<String>) -> Result<BTreeMap<String, String>, ImageError> {
    if lines.iter().map(String::len).sum::<usize>() > MOST_ENVIRONMENT {
        return Err(archive.refused(format!("has more than {MOST_ENVIRONMENT} bytes of variables")));
    }
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    Ok(pairs
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Node, write};

    #[test]
    fn a_saved_configuration_is_compared_with_the_digest_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let processor = Architecture::of_this_machine();
        let text = format!(r#"{{"architecture":"{}","rootfs":{{"diff_ids":[]}}}}"#, processor.debian());
        let read_with = |name: &str| {
            let manifest = format!(r#"[{{"Config":"{name}","Layers":[]}}]"#);
            let mut tree = Tree::default();
            for (path, text) in [("manifest.json", &manifest), (name, &text)] {
                tree.put(Path::new(path), Node::file(0o644, text.as_bytes())).unwrap();
            }
            let path = folder.path().join("saved.tar");
            write::archive(&tree, 0, &mut File::create(&path).unwrap()).unwrap();
            read(&path, processor, folder.path(), &|_: &str| {}).map(|image| image.config)
        };
        let digest = staged::digest_of(text.as_bytes());
        let (digits, other) = (digest.trim_start_matches("sha256:"), "0".repeat(64));
        for name in [format!("{digits}.json"), format!("blobs/sha256/{digits}"), "config.json".to_owned()] {
            assert_eq!(read_with(&name).unwrap(), digest, "{name}");
        }
        for name in [format!("{other}.json"), format!("blobs/sha256/{other}")] {
            let error = read_with(&name).unwrap_err().to_string();
            assert!(error.contains("is damaged"), "{name}: {error}");
        }
    }

    #[test]
    fn layers_have_one_bound_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut room = Room::new(folder.path(), 10);
        room.spool([1_u8; 6].as_slice(), "layer 1").unwrap();
        let error = room.spool([2_u8; 6].as_slice(), "layer 2").unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { limit: 10, .. }), "{error}");
        room.spool([3_u8; 4].as_slice(), "layer 3").unwrap();
        assert!(room.spool([4_u8].as_slice(), "layer 4").is_err());
    }
}
