//! Why the tree cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use impuls_artifacts::ArtifactError;
use impuls_store::StoreError;

/// Why the tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk failed, or the folder belongs to somebody else.
    #[error("cannot use {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The code of a function cannot be had, or its archive not be unpacked.
    #[error("cannot have the code of a function")]
    Code(#[from] ArtifactError),
    /// The other store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A metadata file cannot be written as JSON.
    #[error("cannot write a metadata file")]
    Encode(#[from] serde_json::Error),
}

impl FileError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// The seam's form of the error.
    pub(crate) fn during(self, action: &'static str) -> StoreError {
        match self {
            Self::Store(error) => error,
            other => StoreError::Backend { action, source: Box::new(other) },
        }
    }
}
