//! A function: the mutable thing with a name, at whose revisions everything else points.

use time::OffsetDateTime;

use crate::id::{FunctionId, RevisionId};
use crate::name::{FunctionName, Scope};
use crate::qualifier::VersionNumber;

/// Why the newest revision's code cannot be loaded, as found at deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// The language's own name of the error, such as `SyntaxError`.
    pub class: String,
    /// One sentence for a person.
    pub message: String,
    /// The file, relative to the code's folder, if one is to blame.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

/// Whether the newest revision can be called. It is decided once, when the revision is deployed:
///
/// ```text
///   deploy ──> code loads, handler found ──────> Active
///          └─> syntax error or missing handler ─> Error ──(next deploy)──> …
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionState {
    /// The code was loaded and has the handler.
    Active,
    /// The code cannot be loaded; calls end in `InitError`.
    Error(LoadFailure),
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
    /// Whether the newest revision can be called.
    pub state: FunctionState,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last deployed or renamed.
    pub updated_at: OffsetDateTime,
}
