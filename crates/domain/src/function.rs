//! A function: the mutable thing with a name, at whose revisions everything else points.

use time::OffsetDateTime;

use crate::built::LoadFailure;
use crate::id::{FunctionId, RevisionId};
use crate::name::{FunctionName, Scope};
use crate::qualifier::VersionNumber;
use crate::state_log::StateLog;

/// How the last deploy went. It is decided once, when it is made:
///
/// ```text
///   deploy ──> code builds and loads, handler found ──────────> Active
///          └─> compile error, syntax error, missing handler ──> Error ──(next deploy)──> …
///                └─ a version that works was there before: it stays the newest, and serves
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionState {
    /// The newest revision's code was loaded and has the handler.
    Active,
    /// The code that was deployed last cannot be built or loaded.
    Error {
        /// Why.
        failure: LoadFailure,
        /// Whether the newest revision is one from before, which serves; else it is that code, and calls end in
        /// `InitError`.
        serving: bool,
    },
}

impl FunctionState {
    /// Whether calls of the newest revision can succeed.
    #[must_use]
    pub const fn is_serving(&self) -> bool {
        match self {
            Self::Active => true,
            Self::Error { serving, .. } => *serving,
        }
    }
}

/// A function. Only its name, its newest revision and its state ever change; code and settings are the
/// revision's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its key, for life.
    pub id: FunctionId,
    /// What its name is unique within.
    pub scope: Scope,
    /// Its name, unique within the scope.
    pub name: FunctionName,
    /// The newest revision: `$LATEST`.
    pub latest: RevisionId,
    /// The version that the newest published revision has.
    pub latest_version: VersionNumber,
    /// How the last deploy went.
    pub state: FunctionState,
    /// How that and the deploys before went, step by step.
    pub state_log: StateLog,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last deployed or renamed.
    pub updated_at: OffsetDateTime,
}
