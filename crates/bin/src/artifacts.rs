//! Where code is kept, as the settings choose. Everybody else knows the seam alone.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use impuls_artifacts::{ArtifactStore, LocalArtifacts};
use impuls_artifacts_s3::{Location, S3Artifacts};
use impuls_cli::{ArtifactsConfig, BucketConfig, ServeConfig};

use crate::storage;

/// The folder in the data folder.
pub(crate) const FOLDER: &str = "artifacts";

/// Refuses a bucket that cannot be reached with what was said; before anything is started.
pub(crate) fn check(config: &ArtifactsConfig) -> anyhow::Result<()> {
    match config {
        ArtifactsConfig::InDataDir | ArtifactsConfig::Folder(_) => Ok(()),
        ArtifactsConfig::Bucket(bucket) => location(bucket).map(drop),
    }
}

/// Opens what is configured; what it cannot be opened for says what to do.
pub(crate) async fn open(config: &ServeConfig, data: &Path) -> anyhow::Result<Arc<dyn ArtifactStore>> {
    match &config.artifacts {
        ArtifactsConfig::InDataDir => {
            let folder = data.join(FOLDER);
            // Servers of one database have one folder of code, by whatever way.
            let is_shared = config.storage == storage::POSTGRES;
            let opened =
                if is_shared { LocalArtifacts::open_shared(&folder) } else { LocalArtifacts::open(&folder) };
            Ok(Arc::new(opened?))
        }
        ArtifactsConfig::Folder(folder) => {
            let usable =
                || format!("cannot keep code in {}; give another folder with --artifacts", folder.display());
            std::fs::create_dir_all(folder).with_context(usable)?;
            Ok(Arc::new(LocalArtifacts::open_shared(folder).with_context(usable)?))
        }
        ArtifactsConfig::Bucket(bucket) => open_bucket(bucket).await,
    }
}

/// Opens a bucket; what it cannot be opened for says what to do.
pub(crate) async fn open_bucket(bucket: &BucketConfig) -> anyhow::Result<Arc<dyn ArtifactStore>> {
    let opened = S3Artifacts::open(&location(bucket)?).await;
    Ok(Arc::new(opened.context("cannot keep code in S3; check --artifacts and the variables AWS_…")?))
}

fn location(bucket: &BucketConfig) -> anyhow::Result<Location> {
    let location: Location =
        bucket.location.parse().context("--artifacts, or what stands for it, is not valid")?;
    location.with_variables(&bucket.variables).context("--artifacts, or a variable AWS_…, is not valid")
}
