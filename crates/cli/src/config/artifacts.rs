//! Where code is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::{ConfigError, FileConfig, Variables, text};
use crate::args::ArtifactsArgs;

/// What GoFaas calls code in a bucket.
pub(super) const S3: &str = "s3";

/// Where code is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ArtifactsConfig {
    /// In the folder `artifacts` of the data folder.
    #[default]
    InDataDir,
    /// In this folder.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(BucketConfig),
}

/// A bucket as it was written, and what the variables of AWS' own tools say. `Debug` shows no values: there are keys among
/// them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BucketConfig {
    /// `s3://…`.
    pub location: String,
    /// The variables `AWS_…` that have a value.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketConfig").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

impl ArtifactsConfig {
    /// The place that a text means, with what the variables say about buckets.
    pub(crate) fn told(location: String, variables: &Variables) -> Result<Self, ConfigError> {
        if location.starts_with("s3:") {
            return Ok(Self::Bucket(BucketConfig { location, variables: variables.aws() }));
        }
        match location.split_once("://") {
            // What follows may have a password in it.
            Some((scheme, _)) => Err(ConfigError::Artifacts(scheme.to_owned())),
            None => Ok(Self::Folder(PathBuf::from(location))),
        }
    }
}

/// Where a server keeps code. Storage `s3` says that it is in a bucket, and not in which: GoFaas' STORAGE_TYPE is about
/// code.
pub(super) fn artifacts(
    args: ArtifactsArgs,
    variables: &Variables,
    file: &FileConfig,
    storage: Option<&str>,
) -> Result<ArtifactsConfig, ConfigError> {
    let location = text([args.artifacts, file.artifacts.clone()]);
    let told = location.or_else(|| variables.artifacts());
    let told = told.map(|location| ArtifactsConfig::told(location, variables)).transpose()?;
    match told {
        Some(bucket @ ArtifactsConfig::Bucket(_)) => Ok(bucket),
        _ if storage == Some(S3) => Err(ConfigError::NoBucket),
        other => Ok(other.unwrap_or_default()),
    }
}
