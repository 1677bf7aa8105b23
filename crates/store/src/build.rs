//! Which builds have been made.

use async_trait::async_trait;
use impuls_domain::ArtifactDigest;
use time::OffsetDateTime;

use crate::error::StoreError;

/// What builds made, by the digest of everything that decided it: source, toolchain, commands.
#[async_trait]
pub trait BuildStore: Send + Sync + 'static {
    /// The archive that a build of this key made, if one is known.
    async fn find_build(&self, key: &ArtifactDigest) -> Result<Option<ArtifactDigest>, StoreError>;

    /// Notes what a build made. Of several builds of one key the last counts. Durable when it returns; repeatable.
    async fn put_build(
        &self,
        key: &ArtifactDigest,
        archive: &ArtifactDigest,
        at: OffsetDateTime,
    ) -> Result<(), StoreError>;
}
