//! The seam.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_domain::ArtifactDigest;

use crate::error::ArtifactError;

/// What is known of a stored artifact without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its digest.
    pub digest: ArtifactDigest,
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was last put, by the clock of whoever keeps it.
    pub at: SystemTime,
}

/// The most bytes of an owner's name.
pub const OWNER_BYTES: usize = 64;

/// Where artifacts are kept, by the SHA-256 of their bytes. What returned `Ok` is durable; every call is atomic,
/// repeatable and may be dropped half-way.
#[async_trait]
pub trait ArtifactStore: Send + Sync + 'static {
    /// Keeps the bytes and returns their digest. Keeping the same bytes again changes nothing but when they were put.
    async fn put(&self, bytes: Bytes) -> Result<ArtifactDigest, ArtifactError>;

    /// The bytes, checked against the digest: [`ArtifactError::Damaged`] if they differ,
    /// [`ArtifactError::NotFound`] if there are none.
    async fn get(&self, digest: &ArtifactDigest) -> Result<Bytes, ArtifactError>;

    /// Removes the bytes; false if there were none.
    async fn delete(&self, digest: &ArtifactDigest) -> Result<bool, ArtifactError>;

    /// At most `limit` artifacts in the order of their digests, from the first after `after` on. What is put meanwhile
    /// may be missing.
    async fn list(&self, after: Option<ArtifactDigest>, limit: usize) -> Result<Vec<Kept>, ArtifactError>;

    /// Removes the bytes unless they were put after `since`, also by another server a moment ago; false if they are
    /// still there or were not.
    async fn discard(&self, digest: &ArtifactDigest, since: SystemTime) -> Result<bool, ArtifactError>;

    /// Writes down whose artifacts these are, unless somebody has; returns what is written, at most [`OWNER_BYTES`] of
    /// it. Nobody else may collect what is not needed.
    async fn claim(&self, owner: &str) -> Result<String, ArtifactError>;
}
