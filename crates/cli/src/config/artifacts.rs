//! Where code is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::{ConfigError, FileConfig, Variables, text};
use crate::args::ArtifactsArgs;

/// What GoFaas calls code in a bucket.
const S3: &str = "s3";

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

/// Where code is kept, and whether `storage` has said no more than that: GoFaas' STORAGE_TYPE is about code.
pub(super) fn artifacts(
    args: ArtifactsArgs,
    variables: &Variables,
    file: &FileConfig,
    storage: Option<&str>,
) -> Result<ArtifactsConfig, ConfigError> {
    let location = text([args.artifacts, file.artifacts.clone()]);
    match location.or_else(|| variables.artifacts()) {
        Some(location) if location.starts_with("s3:") => {
            Ok(ArtifactsConfig::Bucket(BucketConfig { location, variables: variables.aws() }))
        }
        Some(other) if other.split_once("://").is_some() => Err(ConfigError::Artifacts(scheme(&other))),
        _ if storage == Some(S3) => Err(ConfigError::NoBucket),
        Some(folder) => Ok(ArtifactsConfig::Folder(PathBuf::from(folder))),
        None => Ok(ArtifactsConfig::InDataDir),
    }
}

fn scheme(location: &str) -> String {
    // What follows may have a password in it.
    location.split("://").next().unwrap_or_default().to_owned()
}
