//! What every measurement needs: the options, folders, the registry of processes, the programs to start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::options::Options;
use crate::processes::{Process, Processes};

/// The whole environment of interpreters that run bare and of peers.
pub(crate) const BARE_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The small event that warm calls carry.
pub(crate) const EVENT: &str = r#"{"name":"Ada","count":42,"tags":["a","b"],"nested":{"ok":true}}"#;

/// One run of the benchmarks.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) processes: Processes,
    scratch: TempDir,
    root: PathBuf,
}

impl Bench {
    pub(crate) fn new(options: Options, processes: Processes) -> anyhow::Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository around this package")?;
        // Short, because sockets below it have paths of at most 107 bytes.
        let scratch = tempfile::Builder::new().prefix("impuls-bench-").tempdir()?;
        Ok(Self { options, processes, scratch, root: root.to_owned() })
    }

    /// A path in the folder that goes when the run ends.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The folder that goes when the run ends.
    pub(crate) fn scratch_dir(&self) -> &Path {
        self.scratch.path()
    }

    /// A path in the repository.
    pub(crate) fn repository(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The server's program.
    pub(crate) fn server(&self) -> anyhow::Result<PathBuf> {
        let path = self.options.server.clone().unwrap_or_else(|| self.repository("build/impuls"));
        if !path.is_file() {
            bail!("{} is missing; `make build` makes it", path.display());
        }
        Ok(path)
    }

    /// Starts a program that prints `listening on http://ADDRESS`.
    pub(crate) fn listener(
        &self,
        name: &str,
        command: &mut Command,
    ) -> anyhow::Result<(Process, SocketAddr)> {
        let process = self.processes.start(command, &self.scratch(&format!("{name}.log")))?;
        let address = process.listening().with_context(|| format!("cannot start {name}"))?;
        Ok((process, address))
    }

    /// Starts one of this program's own bare servers.
    pub(crate) fn bare(&self, part: &str) -> anyhow::Result<(Process, SocketAddr)> {
        self.listener(part, Command::new(std::env::current_exe()?).arg(part))
    }
}
