//! How an invocation ends.

use std::fmt;

use crate::logs::Logs;
use crate::usage::Usage;

/// Whose fault a failed invocation is, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The handler threw, rejected or called back with an error.
    FunctionError,
    /// The module's top level failed, or there is no such handler.
    InitError,
    /// The deadline passed; the sandbox was killed.
    Timeout,
    /// The sandbox reached its memory limit and was killed.
    OutOfMemory,
    /// The function's process ended before it answered.
    Exited,
    /// The handler returned what cannot be sent: not JSON, or too large.
    BadResponse,
    /// The platform could not run an accepted invocation and gave up.
    PlatformError,
    /// Somebody cancelled an accepted invocation.
    Cancelled,
    /// An HTTP hook did not take what it was sent.
    HookError,
}

impl ErrorType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::FunctionError,
        Self::InitError,
        Self::Timeout,
        Self::OutOfMemory,
        Self::Exited,
        Self::BadResponse,
        Self::PlatformError,
        Self::Cancelled,
        Self::HookError,
    ];

    /// The name on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FunctionError => "FunctionError",
            Self::InitError => "InitError",
            Self::Timeout => "Timeout",
            Self::OutOfMemory => "OutOfMemory",
            Self::Exited => "Exited",
            Self::BadResponse => "BadResponse",
            Self::PlatformError => "PlatformError",
            Self::Cancelled => "Cancelled",
            Self::HookError => "HookError",
        }
    }

    /// The type of a stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an invocation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub error_type: ErrorType,
    /// The language's own name of the error, such as `TypeError`; empty when there is none.
    pub class: String,
    /// One sentence for a person.
    pub message: String,
    /// The language's stack trace, if it has one.
    pub stack: Option<String>,
}

/// How an invocation ended. A function's failure is an outcome, never an error of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<Body> {
    /// The handler's result as JSON text, or why there is none.
    pub result: Result<Body, Failure>,
    /// What it wrote meanwhile.
    pub logs: Logs,
    /// What it cost.
    pub usage: Usage,
}
