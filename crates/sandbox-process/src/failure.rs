//! An operation of the kernel that failed, and what it was for.

use std::borrow::Cow;
use std::fmt;
use std::io;

use impuls_sandbox::SandboxError;

/// A step of setting something up that the kernel refused.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Cow<'static, str>,
    pub(crate) source: io::Error,
}

impl Failure {
    pub(crate) fn new(step: impl Into<Cow<'static, str>>, source: impl Into<io::Error>) -> Self {
        Self { step: step.into(), source: source.into() }
    }

    /// The kernel's error number; `EIO` for an error that did not come from the kernel.
    pub(crate) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        Self::Setup { step: failure.step.into_owned(), source: failure.source }
    }
}

/// Names the step that a result belongs to.
pub(crate) trait Step<T> {
    /// Names the step.
    fn step(self, step: &'static str) -> Result<T, Failure>;
    /// Names the step with a text that is only made in the case of failure.
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }

    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step(), error))
    }
}
