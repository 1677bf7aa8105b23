//! Why a use case was refused or failed.

use impuls_artifacts::{ArchiveError, ArtifactError};
use impuls_domain::{
    AliasError, AliasName, CadenceError, FunctionName, InvocationId, LimitError, ScheduleName, VersionNumber,
};
use impuls_store::StoreError;

use crate::rollout::{BuildUnavailable, RuntimeRefusal};

/// Why a use case did not happen. After every error but [`ControlError::Stopping`] nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The caller may not administer functions.
    #[error("you are not allowed to manage functions")]
    Denied,
    /// No function of this name or id.
    #[error("function {0} not found")]
    FunctionNotFound(String),
    /// The function has no such version.
    #[error("function {function} has no version {version}")]
    VersionNotFound {
        /// The function.
        function: FunctionName,
        /// What was asked for.
        version: VersionNumber,
    },
    /// The function has no such alias.
    #[error("function {function} has no alias {alias}")]
    AliasNotFound {
        /// The function.
        function: FunctionName,
        /// What was asked for.
        alias: AliasName,
    },
    /// No asynchronous invocation of this id, or none any more.
    #[error("invocation {0} not found")]
    InvocationNotFound(InvocationId),
    /// The function has no such schedule.
    #[error("function {function} has no schedule {schedule}")]
    ScheduleNotFound {
        /// The function.
        function: FunctionName,
        /// What was asked for.
        schedule: ScheduleName,
    },
    /// The function has a schedule of that name.
    #[error("function {function} already has a schedule {schedule}; PUT replaces it")]
    ScheduleExists {
        /// The function.
        function: FunctionName,
        /// Its schedule.
        schedule: ScheduleName,
    },
    /// The function has as many schedules as it may have.
    #[error("function {0} has 100 schedules, which is the most; delete one first")]
    TooManySchedules(FunctionName),
    /// The schedule cannot tick like this.
    #[error(transparent)]
    Cadence(#[from] CadenceError),
    /// The event of a schedule is too large.
    #[error("the event of a schedule has at most 262144 bytes")]
    ScheduledEvent,
    /// A function of that name exists.
    #[error("function {0} already exists")]
    NameTaken(FunctionName),
    /// A change gave another name than the function has.
    #[error("the name of function {0} cannot be changed")]
    NameFixed(FunctionName),
    /// There is no version before the newest.
    #[error("function {0} has only one version; there is nothing to roll back to")]
    NothingToRollBack(FunctionName),
    /// Others kept deploying the same function at the same time through another server.
    #[error("function {0} is being changed by somebody else; try again")]
    Contended(FunctionName),
    /// The runtime cannot be used here.
    #[error(transparent)]
    Runtime(#[from] RuntimeRefusal),
    /// A function that runs a command has none.
    #[error("a function with the contract command needs the field command: what to run")]
    NoCommand,
    /// A limit is out of its range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The description is too long.
    #[error("description has {0} characters; at most 1024 are allowed")]
    Description(usize),
    /// There is no code in the code.
    #[error("code is empty")]
    CodeEmpty,
    /// The code is too large.
    #[error("code has {bytes} bytes; at most {limit} are allowed")]
    CodeTooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The archive is refused.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The alias is refused.
    #[error(transparent)]
    Alias(#[from] AliasError),
    /// A page of no or too many entries was asked for.
    #[error("limit is {limit}; 1 to {max} are allowed")]
    PageLimit {
        /// What was asked for.
        limit: u32,
        /// The most that is allowed.
        max: u32,
    },
    /// The server stopped in the middle; the change may or may not have been made.
    #[error("the server is shutting down")]
    Stopping,
    /// The code has to be built and cannot be now.
    #[error(transparent)]
    Build(#[from] BuildUnavailable),
    /// The metadata store failed.
    #[error("metadata cannot be read or written")]
    Store(#[source] StoreError),
    /// The artifact store failed.
    #[error("code cannot be read or written")]
    Artifacts(#[source] ArtifactError),
    /// The code was stored as text and no longer is.
    #[error("the code of function {0} is not the text that was stored")]
    Damaged(FunctionName),
}

impl ControlError {
    /// Whether the same request may succeed later without any change to it.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Contended(_)
            | Self::Stopping
            | Self::Build(_)
            | Self::Runtime(RuntimeRefusal::NoWorker) => true,
            Self::Store(error) => error.is_retryable(),
            Self::Artifacts(error) => error.is_retryable(),
            Self::Denied
            | Self::FunctionNotFound(_)
            | Self::VersionNotFound { .. }
            | Self::AliasNotFound { .. }
            | Self::InvocationNotFound(_)
            | Self::ScheduleNotFound { .. }
            | Self::ScheduleExists { .. }
            | Self::TooManySchedules(_)
            | Self::Cadence(_)
            | Self::ScheduledEvent
            | Self::NameTaken(_)
            | Self::NameFixed(_)
            | Self::NothingToRollBack(_)
            | Self::Runtime(_)
            | Self::Limit(_)
            | Self::Description(_)
            | Self::NoCommand
            | Self::CodeEmpty
            | Self::CodeTooLarge { .. }
            | Self::Archive(_)
            | Self::Alias(_)
            | Self::PageLimit { .. }
            | Self::Damaged(_) => false,
        }
    }
}

impl From<ArtifactError> for ControlError {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Archive(refusal) => refusal.into(),
            other => Self::Artifacts(other),
        }
    }
}

impl From<ArchiveError> for ControlError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io { action, source } => Self::Artifacts(ArtifactError::Io { action, source }),
            refusal => Self::Archive(refusal),
        }
    }
}
