//! Why a store refused or failed.

/// Why a store did not do what it was asked. After every error nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A function of that name exists in that scope.
    #[error("a function of this name exists")]
    NameTaken,
    /// There is no such function or version.
    #[error("there is no such function or version")]
    NotFound,
    /// Somebody else deployed in between: read again and decide again.
    #[error("the function was changed by somebody else at the same time")]
    Conflict,
    /// There are as many of its kind as there may be.
    #[error("there are as many as there may be")]
    Full,
    /// The back end failed.
    #[error("metadata store failed while it was {action}")]
    Backend {
        /// What was being done.
        action: &'static str,
        /// What the back end said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored row does not hold what it must; somebody else wrote it, or the disk is damaged.
    #[error("metadata store holds a damaged row: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict | Self::Backend { .. } => true,
            Self::NameTaken | Self::NotFound | Self::Full | Self::Damaged(_) => false,
        }
    }
}
