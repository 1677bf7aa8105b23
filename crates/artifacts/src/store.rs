//! The seam.

use async_trait::async_trait;
use bytes::Bytes;
use impuls_domain::ArtifactDigest;

use crate::error::ArtifactError;

/// Where artifacts are kept, by the SHA-256 of their bytes. What returned `Ok` is durable; every call is atomic,
/// repeatable and may be dropped half-way.
#[async_trait]
pub trait ArtifactStore: Send + Sync + 'static {
    /// Keeps the bytes and returns their digest; keeping the same bytes again changes nothing.
    async fn put(&self, bytes: Bytes) -> Result<ArtifactDigest, ArtifactError>;

    /// The bytes, checked against the digest: [`ArtifactError::Damaged`] if they differ,
    /// [`ArtifactError::NotFound`] if there are none.
    async fn get(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError>;

    /// Removes the bytes; false if there were none.
    async fn delete(&self, digest: &ArtifactDigest) -> Result<bool, ArtifactError>;
}
