//! What Impuls is measured beside. The versions are those of `peers/package-lock.json`.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bench::{BARE_PATH, Bench};
use crate::processes::Process;

/// How long the installation may take.
const INSTALL: Duration = Duration::from_secs(600);

/// The installed peers.
pub(crate) struct Peers {
    folder: PathBuf,
    node: PathBuf,
}

impl Peers {
    /// Installs the peers into `build/bench-peers` unless these very versions are there. `node` runs those that need
    /// an interpreter.
    pub(crate) fn install(bench: &Bench, node: PathBuf) -> anyhow::Result<Self> {
        let (source, folder) = (bench.repository("benches/peers"), bench.repository("build/bench-peers"));
        copy(&source, &folder).with_context(|| format!("cannot copy the peers to {}", folder.display()))?;
        let (lock, stamp) = (folder.join("package-lock.json"), folder.join("installed.json"));
        let wanted = fs::read(&lock)?;
        if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
            let mut npm = Command::new("npm");
            let npm = npm.args(["ci", "--ignore-scripts"]).current_dir(&folder);
            let installing = bench.processes.start(npm, &bench.scratch("npm.log"));
            let installing =
                installing.context("npm installs the peers; it comes with Node, or as Debian package npm")?;
            installing.finished(INSTALL).context("cannot install the peers with npm")?;
            fs::write(&stamp, wanted)?;
        }
        Ok(Self { folder, node })
    }

    /// Node's own `http` server.
    pub(crate) fn node_http(&self, bench: &Bench) -> anyhow::Result<(Process, SocketAddr)> {
        bench.listener("node-http", &mut self.node("node-http.js"))
    }

    /// Google's functions-framework.
    pub(crate) fn functions_framework(&self, bench: &Bench) -> anyhow::Result<(Process, SocketAddr)> {
        let mut command = self.node("functions-framework.js");
        bench.listener("functions-framework", command.env("NODE_ENV", "production"))
    }

    /// A script that Node runs with nothing in its environment.
    fn node(&self, script: &str) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(self.folder.join(script)).env_clear().env("PATH", BARE_PATH);
        command
    }

    /// Cloudflare's workerd.
    pub(crate) fn workerd(&self, bench: &Bench) -> anyhow::Result<(Process, SocketAddr)> {
        let packages = self.folder.join("node_modules/@cloudflare");
        let program =
            ["workerd-linux-64", "workerd-linux-arm64"].map(|name| packages.join(name).join("bin/workerd"));
        let Some(program) = program.iter().find(|path| path.is_file()) else {
            bail!("there is no workerd for this kind of processor")
        };
        // It does not say which port it took, so it gets one that is free now.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program);
        command.arg("serve").arg(self.folder.join("workerd/config.capnp"));
        command.arg(format!("--socket-addr=http={address}")).env_clear().env("PATH", BARE_PATH);
        let process = bench.processes.start(&mut command, &bench.scratch("workerd.log"))?;
        let address = process.accepting(address).context("cannot start workerd")?;
        Ok((process, address))
    }

    /// Names and versions of the peers that are not Node itself.
    pub(crate) fn versions(&self) -> anyhow::Result<Vec<(String, String)>> {
        let package: Value = serde_json::from_slice(&fs::read(self.folder.join("package.json"))?)?;
        let tables = ["dependencies", "optionalDependencies"]
            .into_iter()
            .filter_map(|name| package.get(name)?.as_object());
        let entries =
            tables.flatten().filter_map(|(name, version)| Some((name.clone(), version.as_str()?.to_owned())));
        Ok(entries.collect())
    }
}

/// Copies a folder into another one; files that are there are replaced.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            fs::copy(entry.path(), target)?;
        } else if entry.file_name() != OsStr::new("node_modules") {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}
