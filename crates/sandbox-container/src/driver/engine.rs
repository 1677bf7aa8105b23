//! Calling the OCI runtime, as its command line of the runtime-tools kind has it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::ground::Ground;
use crate::oci::{OciRuntime, PATH};
use crate::sys;

/// How long one call of the runtime may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest piece of the runtime's own log in an error, in characters.
const LAST_WORDS: usize = 1_000;
/// Files of a container's folder.
const CONFIG: &str = "config.json";
const LOG: &str = "log";
const PID: &str = "pid";
const RESOURCES: &str = "resources.json";

/// A runtime, the folder of its state and the namespace in which it is executed.
#[derive(Debug)]
pub(crate) struct Engine {
    runtime: OciRuntime,
    state: PathBuf,
    ground: Arc<Ground>,
}

/// What a container's first process gets: listening socket and the socket to the server; standard output and error.
pub(crate) struct Handed {
    pub(crate) sockets: [OwnedFd; 2],
    pub(crate) output: [OwnedFd; 2],
}

impl Engine {
    pub(crate) const fn new(runtime: OciRuntime, state: PathBuf, ground: Arc<Ground>) -> Self {
        Self { runtime, state, ground }
    }

    pub(crate) const fn runtime(&self) -> &OciRuntime {
        &self.runtime
    }

    /// Makes and starts a container in a folder of its own; returns the number of its first process.
    pub(crate) async fn run(
        &self,
        folder: &Path,
        config: &serde_json::Value,
        handed: Handed,
    ) -> io::Result<i32> {
        fs::write(folder.join(CONFIG), serde_json::to_vec(config)?)?;
        let mut command = self.command(folder, "run")?;
        command.arg("--detach").arg("--bundle").arg(folder).arg("--pid-file").arg(folder.join(PID));
        command.arg(format!("--preserve-fds={}", handed.sockets.len())).arg(name_of(folder)?);
        sys::hand_over(&mut command, &handed.sockets.each_ref().map(AsFd::as_fd))?;
        let [stdout, stderr] = handed.output;
        command.stdout(stdout).stderr(stderr);
        self.perform(folder, command).await?;
        // The container's are its own; ours were closed with the command.
        drop(handed.sockets);
        let pid = fs::read_to_string(folder.join(PID))?;
        pid.trim().parse().map_err(|_| io::Error::other(format!("{} wrote no process id", self.runtime.name)))
    }

    /// Sets other limits.
    pub(crate) async fn update(&self, folder: &Path, resources: &serde_json::Value) -> io::Result<()> {
        let file = folder.join(RESOURCES);
        fs::write(&file, serde_json::to_vec(resources)?)?;
        let mut command = self.command(folder, "update")?;
        command.arg("--resources").arg(file).arg(name_of(folder)?);
        self.perform(folder, quiet(command)).await
    }

    /// Removes what is left of a container, and kills it if it lives.
    pub(crate) async fn delete(&self, folder: &Path) -> io::Result<()> {
        let mut command = self.command(folder, "delete")?;
        command.arg("--force").arg(name_of(folder)?);
        self.perform(folder, quiet(command)).await
    }

    fn command(&self, folder: &Path, verb: &str) -> io::Result<Command> {
        // One log for each call, so that an error has only its own words.
        fs::write(folder.join(LOG), "")?;
        let mut command = Command::new(&self.runtime.path);
        command.env_clear().env("PATH", PATH).current_dir("/").stdin(Stdio::null());
        command.arg("--root").arg(&self.state).arg("--log").arg(folder.join(LOG)).arg(verb);
        Ok(command)
    }

    /// Executes it on the ground and waits for its end.
    async fn perform(&self, folder: &Path, command: Command) -> io::Result<()> {
        let runtime = Handle::current();
        let started = self.ground.run(move || {
            let _entered = runtime.enter();
            // Spawned by the thread of the ground, the runtime is in its namespace.
            tokio::process::Command::from(command).kill_on_drop(true).spawn()
        });
        let mut child = started.await?;
        let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
        let skipped = log.chars().count().saturating_sub(LAST_WORDS);
        let words: String = log.chars().skip(skipped).collect();
        Err(io::Error::other(format!("{} ends with {status}: {}", self.runtime.name, words.trim())))
    }
}

fn quiet(mut command: Command) -> Command {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A container is called after its folder.
fn name_of(folder: &Path) -> io::Result<&std::ffi::OsStr> {
    folder.file_name().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
