//! What of the past can go, and what names code.

use async_trait::async_trait;
use impuls_domain::{ArtifactDigest, FunctionId, VersionNumber};
use time::OffsetDateTime;

use crate::error::StoreError;

/// A build that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedBuild {
    /// Its key.
    pub key: ArtifactDigest,
    /// What it made.
    pub archive: ArtifactDigest,
    /// When it was noted last.
    pub noted_at: OffsetDateTime,
    /// Whether a revision runs what it made, which is kept for as long as that is.
    pub is_deployed: bool,
}

/// Removing what nothing needs any more; the same guarantees as [`FunctionStore`](crate::FunctionStore). Several servers
/// may do so at the same time.
#[async_trait]
pub trait RetentionStore: Send + Sync + 'static {
    /// Removes these versions with their revisions, and says how many. Those that anything names are left: the newest, the
    /// targets of aliases, and what an asynchronous invocation (ended or not), a schedule or a destination asks for by its
    /// number. Repeatable.
    async fn delete_versions(
        &self,
        function: FunctionId,
        numbers: &[VersionNumber],
    ) -> Result<u64, StoreError>;

    /// Forgets at most `limit` builds that were noted last before this instant, and says how many. Repeatable.
    async fn delete_builds(&self, noted_before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;

    /// The builds that are known, at most `limit` in the order of their keys from the first after `after` on.
    async fn list_builds(
        &self,
        after: Option<ArtifactDigest>,
        limit: u32,
    ) -> Result<Vec<NotedBuild>, StoreError>;

    /// The artifacts that a revision or a build names, each once, at most `limit` in the order of their digests from the
    /// first after `after` on.
    async fn list_artifacts(
        &self,
        after: Option<ArtifactDigest>,
        limit: u32,
    ) -> Result<Vec<ArtifactDigest>, StoreError>;
}
