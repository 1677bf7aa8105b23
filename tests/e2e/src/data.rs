//! A server's data folder, which outlives the server so that a test can start another one on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

/// A scratch folder that is removed with its last clone.
#[derive(Clone, Debug)]
pub struct Data(Arc<TempDir>);

impl Data {
    /// A new, empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(tempfile::Builder::new().prefix("impuls-e2e-").tempdir().expect("a scratch folder")))
    }

    /// The folder for the server; it does not exist before the first server starts.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// A place beside it for other files of the test.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.0.path()
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}
