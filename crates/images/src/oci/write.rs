//! Writes an image of one layer: an OCI layout that also has the `manifest.json` of `docker save`, which `docker load` of
//! every version reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, Header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::architecture::Architecture;
use crate::error::ImageError;
use crate::manifest::AgentFile;
use crate::staged;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What the image says of itself.
pub(crate) struct About<'a> {
    /// The image's name in our store.
    pub(crate) name: &'a str,
    /// Names with tags that `docker load` gives it.
    pub(crate) tags: &'a [String],
    pub(crate) architecture: Architecture,
    pub(crate) agent: &'a AgentFile,
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// Seconds since 1970.
    pub(crate) time: u64,
}

/// Makes the archive `image` around the root's own archive.
pub(crate) fn write(about: &About<'_>, layer: &Path, image: &Path) -> Result<(), ImageError> {
    let failed = || ImageError::io("writing", image);
    let (layer_digest, layer_size) = staged::digest_of_file(layer)?;
    let config = text(&config(about, &layer_digest));
    let layer_entry = json!({ "mediaType": LAYER, "digest": layer_digest, "size": layer_size });
    let manifest = text(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": staged::digest_of(&config), "size": config.len() },
        "layers": [layer_entry],
    }));
    let reference = about.tags.first().map_or(about.name, String::as_str);
    let index = text(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": staged::digest_of(&manifest),
            "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": reference },
            "platform": { "architecture": about.architecture.debian(), "os": "linux" },
        }],
    }));
    let saved = text(&json!([{
        "Config": blob(&staged::digest_of(&config)),
        "RepoTags": about.tags,
        "Layers": [blob(&layer_digest)],
    }]));
    let mut file = BufWriter::new(File::create(image).map_err(failed())?);
    let mut builder = Builder::new(&mut file);
    let layout = text(&json!({ "imageLayoutVersion": "1.0.0" }));
    let texts = [
        ("oci-layout".to_owned(), &layout),
        ("index.json".to_owned(), &index),
        ("manifest.json".to_owned(), &saved),
        (blob(&staged::digest_of(&config)), &config),
        (blob(&staged::digest_of(&manifest)), &manifest),
    ];
    for (path, text) in texts {
        let mut header = header(text.len() as u64, about.time);
        builder.append_data(&mut header, path, text.as_slice()).map_err(failed())?;
    }
    let from = File::open(layer).map_err(ImageError::io("reading", layer))?;
    let mut header = header(layer_size, about.time);
    builder.append_data(&mut header, blob(&layer_digest), from).map_err(failed())?;
    builder.finish().map_err(failed())?;
    drop(builder);
    file.flush().map_err(failed())
}

fn config(about: &About<'_>, layer: &str) -> Value {
    let time = i64::try_from(about.time).unwrap_or_default();
    let created = OffsetDateTime::from_unix_timestamp(time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let created = created.format(&Rfc3339).unwrap_or_default();
    let environment: Vec<String> =
        about.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "created": created,
        "architecture": about.architecture.debian(),
        "os": "linux",
        "config": {
            "Env": environment,
            "Entrypoint": [about.agent.path],
            "WorkingDir": "/var/task",
            "Labels": { "impuls.image": about.name },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": created, "created_by": "impuls image build" }],
    })
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn blob(digest: &str) -> String {
    digest.replacen("sha256:", "blobs/sha256/", 1)
}

fn header(size: u64, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(time);
    header.set_size(size);
    header
}
