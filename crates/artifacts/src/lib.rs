//! Code artifacts by the digest of their bytes: the seam, a local folder, the one archive extractor and the cache
//! of unpacked code folders.
//!
//! [`store`] is the seam, [`local`] the folder, [`extract`] the only code of the project that unpacks an archive,
//! [`folders`] turns an artifact into the read-only folder that sandboxes see.

pub mod error;
pub mod extract;
pub mod folders;
pub mod local;
pub mod path;
pub mod store;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use error::ArtifactError;
pub use extract::{ArchiveError, ArchiveLimits, extract_zip, read_zip, validate_zip, zip_files};
pub use folders::{CodeFolder, CodeFolders, FolderLayout, Trimmed};
pub use local::{LocalArtifacts, digest_of};
pub use path::{PathError, check_relative_path};
pub use store::{ArtifactStore, Kept, OWNER_BYTES};
