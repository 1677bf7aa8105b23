//! What is kept of the past, as the settings say.

use impuls_cli::RetentionSettings;
use impuls_control::{Collector, CollectorParts, RetentionConfig};

use crate::serve::Kept;

/// A collector of everything that this server keeps.
pub(crate) fn collector(told: &RetentionSettings, kept: &Kept) -> Collector {
    let default = RetentionConfig::default();
    let config = RetentionConfig {
        versions: told.versions.unwrap_or(default.versions),
        version_age: told.version_age.unwrap_or(default.version_age),
        build_age: told.build_age.unwrap_or(default.build_age),
        build_bytes: told.build_bytes.unwrap_or(default.build_bytes),
        artifact_grace: told.artifact_grace.unwrap_or(default.artifact_grace),
        every: told.every.unwrap_or(default.every),
    };
    let parts = CollectorParts {
        functions: kept.store.functions.clone(),
        versions: kept.store.versions.clone(),
        retention: kept.store.retention.clone(),
        artifacts: kept.artifacts.clone(),
        owner: kept.identity.clone(),
    };
    Collector::new(config, parts)
}
