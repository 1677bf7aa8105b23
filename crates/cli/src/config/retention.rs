//! What is kept of the past.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::file::time_span;
use crate::args::RetentionArgs;

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the server was told to keep of the past; `None` is the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    /// So many newest versions of each function.
    pub versions: Option<u32>,
    /// Versions that are no older.
    pub version_age: Option<Duration>,
    /// Builds that were used since.
    pub build_age: Option<Duration>,
    /// So many bytes of what was built and no version runs.
    pub build_bytes: Option<u64>,
    /// So many bytes of unpacked code.
    pub unpacked_bytes: Option<u64>,
    /// Code that nothing names any more.
    pub artifact_grace: Option<Duration>,
    /// How often is looked.
    pub every: Option<Duration>,
}

/// The table `[retention]`: the flags `--keep-…` and `--collect-every`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionTable {
    /// The newest versions of each function that are kept however old they are.
    pub versions: Option<NonZeroU32>,
    /// How long versions are kept however many there are, such as `"90d"`.
    #[serde(deserialize_with = "time_span")]
    pub versions_for: Option<Duration>,
    /// How long builds are kept after the last deploy that used them.
    #[serde(deserialize_with = "time_span")]
    pub builds_for: Option<Duration>,
    /// MiB that are kept of what was built and no version runs any more.
    pub built_mb: Option<u32>,
    /// MiB of unpacked code that are kept.
    pub unpacked_mb: Option<u32>,
    /// How long code is kept that nothing names any more.
    #[serde(deserialize_with = "time_span")]
    pub artifacts_for: Option<Duration>,
    /// How often is looked what can go.
    #[serde(deserialize_with = "time_span")]
    pub every: Option<Duration>,
}

/// Flags and variables, else the file.
pub(super) fn retention(
    args: &RetentionArgs,
    file: &RetentionTable,
) -> Result<RetentionSettings, ConfigError> {
    let bytes = |mib: u32| u64::from(mib) << 20;
    let settings = RetentionSettings {
        versions: args.keep_versions.or(file.versions.map(u32::from)),
        version_age: args.keep_versions_for.or(file.versions_for),
        build_age: args.keep_builds_for.or(file.builds_for),
        build_bytes: args.keep_built.or(file.built_mb).map(bytes),
        unpacked_bytes: args.keep_unpacked.or(file.unpacked_mb).map(bytes),
        artifact_grace: args.keep_artifacts_for.or(file.artifacts_for),
        every: args.collect_every.or(file.every),
    };
    let too_short = |span: Option<Duration>| span.is_some_and(|span| span < SHORTEST);
    if too_short(settings.artifact_grace) || too_short(settings.every) {
        return Err(ConfigError::Retention);
    }
    Ok(settings)
}
