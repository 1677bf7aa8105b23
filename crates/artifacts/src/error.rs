//! Why artifacts cannot be kept or had.

use impuls_domain::ArtifactDigest;

use crate::extract::ArchiveError;
use crate::path::PathError;

/// Why an artifact could not be kept, read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is no artifact of this digest.
    #[error("there is no artifact {0}")]
    NotFound(ArtifactDigest),
    /// The stored bytes are not those of the digest.
    #[error("artifact {0} is damaged: its bytes have another digest")]
    Damaged(ArtifactDigest),
    /// The archive is refused.
    #[error("archive is refused")]
    Archive(#[source] ArchiveError),
    /// A single file cannot be laid out under this name.
    #[error("code cannot be laid out as {name:?}")]
    Layout {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// What keeps artifacts for several machines does not answer, or not in time. The same may succeed later.
    #[error("the artifact store is not available for {action}")]
    Unavailable {
        /// What was being done.
        action: &'static str,
        /// What it said, or why it said nothing.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk, or what plays it, failed.
    #[error("artifact store failed while it was {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ArtifactError {
    /// Whether the same may succeed later, without anybody having changed anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::NotFound(_)
            | Self::Damaged(_)
            | Self::Archive(_)
            | Self::Layout { .. }
            | Self::Io { .. } => false,
        }
    }
}

impl From<ArchiveError> for ArtifactError {
    /// A disk that failed while an archive was unpacked is no fault of the archive.
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io { action, source } => Self::Io { action, source },
            refused => Self::Archive(refused),
        }
    }
}
