//! Why a subcommand failed, and the program's exit codes.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use http::StatusCode;
use impuls_client::ClientError;

use crate::package::PackageError;

/// The program's exit codes. They are part of its interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything went well.
    Success = 0,
    /// The server ran the function, and the function failed.
    FunctionFailed = 1,
    /// The command line or a local file is wrong.
    Usage = 2,
    /// There is no such function, version or alias.
    NotFound = 3,
    /// The server refused: invalid, in conflict or throttled; or the deployed code does not load.
    Refused = 4,
    /// The server did not answer.
    Unreachable = 5,
    /// The server failed, or answered what the API does not promise.
    Server = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("cannot write the result")]
    Output(#[source] io::Error),
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("--every takes whole seconds, such as 30s or 1h")]
    Interval,
    #[error("--data of a schedule is no JSON")]
    Event(#[source] serde_json::Error),
    #[error("nothing is deleted without an answer; give --yes where nobody can be asked")]
    Unconfirmed,
}

impl CliError {
    /// The exit code that tells this to a script.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => client_exit(error),
            Self::Package(_)
            | Self::Read { .. }
            | Self::Input(_)
            | Self::Interval
            | Self::Event(_)
            | Self::Unconfirmed => Exit::Usage,
            // The reader of a pipe has seen enough: `impuls list | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            Self::Output(_) | Self::Start(_) => Exit::Usage,
        }
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Address { .. }
        | ClientError::Tls(_)
        | ClientError::Name(_)
        | ClientError::Request(_) => Exit::Usage,
        ClientError::Unreachable { .. } | ClientError::TimedOut { .. } | ClientError::Broken { .. } => {
            Exit::Unreachable
        }
        ClientError::Problem(problem) if problem.status == StatusCode::NOT_FOUND => Exit::NotFound,
        ClientError::Problem(problem) if problem.status.is_client_error() => Exit::Refused,
        ClientError::Problem(_) | ClientError::Reply(_) => Exit::Server,
    }
}
