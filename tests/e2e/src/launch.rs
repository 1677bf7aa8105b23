//! Starting the program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::data::Data;
use crate::server::Server;
use crate::wait::eventually;

/// How long a server that must refuse to start may take to say so.
const REFUSAL_TIME: Duration = Duration::from_secs(20);
/// A variable of the server's environment that nothing in a sandbox may see.
pub const SECRET: (&str, &str) = ("E2E_SECRET_OF_THE_SERVER", "open sesame");

/// The program under test.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "`make test` names the program in the environment")]
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("IMPULS_E2E_PROGRAM") {
        return PathBuf::from(named);
    }
    let test = std::env::current_exe().expect("a test knows its own file");
    let beside = test.ancestors().nth(2).map(|folder| folder.join("impuls")).unwrap_or_default();
    assert!(beside.is_file(), "{} is missing; run `cargo build -p impuls` first", beside.display());
    beside
}

#[expect(clippy::disallowed_methods, reason = "interpreters are found on the PATH of whoever runs the tests")]
pub(crate) fn inherited(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_default()
}

/// A server that is about to start: on 127.0.0.1, port 0, unless arguments say otherwise.
pub struct Launch {
    data: Data,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// A server that did not start.
#[derive(Debug)]
pub struct Refused {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub message: String,
}

impl Launch {
    /// With `impuls serve --listen 127.0.0.1:0 --data-dir …`.
    #[must_use]
    pub fn on(data: &Data) -> Self {
        let launch = Self::bare(data, program());
        launch.arguments(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).argument(data.folder())
    }

    /// With another program file and no arguments at all.
    #[must_use]
    pub fn bare(data: &Data, program: PathBuf) -> Self {
        Self { data: data.clone(), program, arguments: Vec::new(), environment: Vec::new() }
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn arguments<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(OsString::from));
        self
    }

    /// With a variable in the server's own environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The running server; panics if it does not start.
    pub async fn start(self) -> Server {
        let child = self.spawn();
        let addresses = self.arguments.iter().filter(|argument| *argument == "--listen").count().max(1);
        Server::new(child, self.data, addresses).await
    }

    /// Waits until the program has ended by itself, which it must.
    pub async fn refused(self) -> Refused {
        let mut child = self.spawn();
        let ended =
            eventually("the server refuses to start", REFUSAL_TIME, async || child.try_wait().ok()?).await;
        Refused {
            code: ended.code(),
            message: std::fs::read_to_string(log_file(&self.data)).unwrap_or_default(),
        }
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(log_file(&self.data)).expect("a log file");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command.env("PATH", inherited("PATH")).env("HOME", inherited("HOME")).env(SECRET.0, SECRET.1);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.spawn().expect("the program starts")
    }
}

/// Where the servers of a data folder write their own log.
pub(crate) fn log_file(data: &Data) -> PathBuf {
    data.scratch().join("server.log")
}
