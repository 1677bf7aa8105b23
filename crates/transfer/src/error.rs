//! Why something was not transferred.

use std::io;
use std::path::PathBuf;

use impuls_artifacts::ArtifactError;
use impuls_domain::ArtifactDigest;
use impuls_store::StoreError;
use time::OffsetDateTime;

/// Why something was not transferred. The source is never changed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An artifact store failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// There is something in the target.
    #[error(
        "the target is not empty: it has {count} {table}; give an empty database and a new folder, or delete what is there"
    )]
    NotEmpty {
        /// The first table that has rows.
        table: &'static str,
        /// How many.
        count: u64,
    },
    /// There are functions as files in the target.
    #[error(
        "there are functions as files in {path}, which would be written over, or would win over what comes; move that folder away or give an empty one"
    )]
    Files {
        /// The folder.
        path: PathBuf,
    },
    /// The code at the target is another store's.
    #[error(
        "the code at the target belongs to another store ({owner}, and the target is {target}), which would remove what it does \
         not need itself; give the target a place of its own for code, or, if nobody uses the other any more, remove \
         `owner` there"
    )]
    ForeignCode {
        /// The other.
        owner: String,
        /// The target.
        target: String,
    },
    /// Somebody else is filling the target.
    #[error(
        "the target is being filled from {source_name} and not from here; finish that with the command that began it, or take another target"
    )]
    OtherSource {
        /// What fills it.
        source_name: String,
    },
    /// This was done already, and something was changed since: here, or there.
    #[error(
        "the target was filled from here before, and complete at {at}, but now {table} are not the same: {found} there, \
         {expected} at the source; to move them again empty the target first"
    )]
    ChangedSince {
        /// When it was complete.
        at: OffsetDateTime,
        /// What.
        table: &'static str,
        /// How many there are, with their digest.
        found: String,
        /// How many there should be.
        expected: String,
    },
    /// Servers use the target.
    #[error("{0} servers use the target; stop them first")]
    InUse(u64),
    /// Another transfer has the target, or had it in between.
    #[error(
        "another `impuls migrate` or `impuls restore` fills the target, or has filled it meanwhile; wait until it has ended, and run this again if something is missing then"
    )]
    Overtaken,
    /// Code that a function needs is not there.
    #[error(
        "the code of a function is lost at the source (artifact {0}); deploy it again or delete it, or say --allow-missing-code"
    )]
    MissingCode(ArtifactDigest),
    /// The target does not have what the source had.
    #[error(
        "after the transfer {table} are not the same at the target: {found} there, {expected} at the source; the source was \
         changed in between, so empty the target and begin again"
    )]
    Different {
        /// What.
        table: &'static str,
        /// How many there are, with their digest.
        found: String,
        /// How many there should be.
        expected: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no backup, or a damaged one.
    #[error("{path} is no whole backup: {reason}")]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A backup of a newer Impuls.
    #[error("the backup has format {found}, and this Impuls reads format {known}; use the newer Impuls")]
    Format {
        /// The backup's.
        found: u64,
        /// Ours.
        known: u64,
    },
}
