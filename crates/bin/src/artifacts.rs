//! Where code is kept, as the settings choose. Everybody else knows the seam alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use impuls_artifacts::{ArtifactStore, LocalArtifacts};
use impuls_artifacts_s3::{Location, S3Artifacts};
use impuls_cli::{ArtifactsConfig, BucketConfig, ServeConfig};

use crate::storage;

/// The folder in the data folder.
pub(crate) const FOLDER: &str = "artifacts";

/// Where the code of a store is.
pub(crate) enum Code {
    Folder(PathBuf),
    Bucket(BucketConfig),
}

impl Code {
    /// As a server takes it; `data` is its data folder.
    pub(crate) fn of(config: ArtifactsConfig, data: &Path) -> Self {
        match config {
            ArtifactsConfig::InDataDir => Self::Folder(data.join(FOLDER)),
            ArtifactsConfig::Folder(folder) => Self::Folder(folder),
            ArtifactsConfig::Bucket(bucket) => Self::Bucket(bucket),
        }
    }

    /// Refuses code of another store than this one: each collects what only the other needs.
    pub(crate) async fn belong_to(&self, store: &str, artifacts: &dyn ArtifactStore) -> anyhow::Result<()> {
        let owner = artifacts.claim(store).await?;
        if owner == store {
            return Ok(());
        }
        let (place, what) = match self {
            Self::Folder(folder) => (folder.display().to_string(), "file"),
            Self::Bucket(bucket) => (bucket.location.clone(), "object"),
        };
        bail!(
            "the code in {place} belongs to another store ({owner}, and this one is {store}), which would remove what it does not \
             need itself; give this one a place of its own with --artifacts, or, if nobody uses the other any more, remove \
             the {what} `owner` there"
        );
    }
}

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
