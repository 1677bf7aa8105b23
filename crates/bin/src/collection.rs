//! What is kept of the past, as the settings say.

use std::sync::Arc;

use impuls_artifacts::ArtifactStore;
use impuls_cli::RetentionSettings;
use impuls_control::{Collector, CollectorParts, RetentionConfig};

use crate::storage::Storage;

/// A collector of everything that this server keeps.
pub(crate) fn collector(
    told: &RetentionSettings,
    store: &Storage,
    artifacts: Arc<dyn ArtifactStore>,
) -> Collector {
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
        functions: store.functions.clone(),
        versions: store.versions.clone(),
        retention: store.retention.clone(),
        artifacts,
    };
    Collector::new(config, parts)
}
