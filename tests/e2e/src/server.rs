//! A running server.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::clock;
use crate::data::Data;
use crate::host::Process;
use crate::launch::{Launch, log_file};
use crate::wait::{eventually, within};

/// How long a server may take until it accepts calls.
const START_TIME: Duration = Duration::from_secs(30);
/// How long a server may take to end when nothing runs in it.
const STOP_TIME: Duration = Duration::from_secs(20);
/// How many warnings and errors of a server a test that fails shows.
const COMPLAINTS: usize = 20;

/// A running server. Dropped, it is told to stop and must do so without having logged an unexpected error.
pub struct Server {
    pub(crate) client: reqwest::Client,
    child: Child,
    addresses: Vec<SocketAddr>,
    data: Data,
    expected_errors: Mutex<Vec<String>>,
    /// Ends the server when this process is ended in a way that runs no destructors.
    _guard: Guard,
    /// Kept open: the server may say more.
    _stdout: BufReader<ChildStdout>,
}

struct Guard(Child, Option<ChildStdin>);

impl Guard {
    /// A shell that waits for the end of this process, which closes the pipe, and then kills the server.
    fn of(pid: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "read line; kill -9 \"$0\" 2>&-", &pid.to_string()]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("there is a shell");
        let stdin = child.stdin.take();
        Self(child, stdin)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Before the pipe closes: the server's number may be somebody else's by now.
        let _gone = self.0.kill();
        let _ended = self.0.wait();
        self.1.take();
    }
}

impl Server {
    /// The server that all tests of one file share, for tests that neither change nor count what is not theirs. It
    /// is stopped with the last of them.
    pub async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Server>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Launch::on(&Data::new()).start().await);
        *shared = Arc::downgrade(&server);
        server
    }

    /// A server of one's own.
    pub async fn start() -> Arc<Self> {
        Arc::new(Launch::on(&Data::new()).start().await)
    }

    pub(crate) async fn new(mut child: Child, data: Data, addresses: usize) -> Self {
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let guard = Guard::of(child.id());
        let announced = tokio::task::spawn_blocking(move || announcement(stdout, addresses));
        let announced = within("the server says where it listens", START_TIME, announced).await;
        let (stdout, addresses) = announced.expect("reading does not panic");
        let log = || std::fs::read_to_string(log_file(&data)).unwrap_or_default();
        assert!(!addresses.is_empty(), "the server did not start:\n{}", log());
        // Nothing is kept alive: a test's connections end with its own runtime.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        let client = client.expect("a client needs nothing");
        Self {
            client,
            child,
            addresses,
            data,
            expected_errors: Mutex::default(),
            _guard: guard,
            _stdout: stdout,
        }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Process {
        Process::running(self.pid()).expect("the server runs")
    }

    /// The first address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("a running server listens somewhere")
    }

    /// All addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// What it has logged so far; with servers before it on the same data folder.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(&self.data)).unwrap_or_default()
    }

    /// Lets the log have errors with this text.
    pub fn expect_error(&self, text: &str) {
        self.expected_errors.lock().expect("nobody panics while holding it").push(text.to_owned());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).expect("the server runs");
    }

    /// Waits until it has ended, at most so long.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server has ended", within, async || child.try_wait().ok()?).await
    }

    /// Tells it to stop and waits for that.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(STOP_TIME).await
    }

    /// Kills it without warning and waits until it is gone.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended(STOP_TIME).await;
    }

    /// The last warnings and errors of its log, with the lines of a panic.
    fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let bad = |line: &&str| [" WARN ", " ERROR ", "panicked at"].iter().any(|mark| line.contains(mark));
        let mut last: Vec<String> = log.lines().filter(bad).map(str::to_owned).collect();
        last.split_off(last.len().saturating_sub(COMPLAINTS))
    }

    fn unexpected_errors(&self) -> Vec<String> {
        let expected = self.expected_errors.lock().expect("nobody panics while holding it");
        let log = self.log();
        let errors = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at"));
        errors.filter(|line| !expected.iter().any(|text| line.contains(text))).map(str::to_owned).collect()
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a test that fails says so there")]
    fn drop(&mut self) {
        let in_time = matches!(self.child.try_wait(), Ok(Some(_))) || {
            let _ended_meanwhile = kill_process(pid(&self.child), Signal::TERM);
            wait_for_end(&self.child)
        };
        let _killed = self.child.kill();
        let _ended = self.child.wait();
        clock::forget(self.child.id());
        if std::thread::panicking() {
            // What the test itself saw is often only that something failed.
            eprintln!("the server's log has warnings and errors:\n{}", self.complaints().join("\n"));
            return;
        }
        assert!(in_time, "the server did not stop within {STOP_TIME:?}; its log:\n{}", self.log());
        let errors = self.unexpected_errors();
        assert!(errors.is_empty(), "the server logged errors:\n{}", errors.join("\n"));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Whether the process ends in time.
fn wait_for_end(child: &Child) -> bool {
    let Ok(process) = pidfd_open(pid(child), PidfdFlags::empty()) else { return true };
    let time = Timespec { tv_sec: i64::try_from(STOP_TIME.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut events = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    poll(&mut events, Some(&time)).is_ok_and(|count| count > 0)
}

/// Reads standard output until the server has named so many addresses; fewer if it ends before.
fn announcement(
    mut stdout: BufReader<ChildStdout>,
    count: usize,
) -> (BufReader<ChildStdout>, Vec<SocketAddr>) {
    let mut addresses = Vec::new();
    let mut line = String::new();
    while addresses.len() < count {
        line.clear();
        if stdout.read_line(&mut line).is_ok_and(|length| length == 0) {
            break;
        }
        if let Some(address) = line.trim().strip_prefix("listening on http://") {
            addresses.push(address.parse().expect("an address is printed"));
        }
    }
    (stdout, addresses)
}
