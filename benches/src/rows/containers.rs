//! Functions in containers: the first answer of functions that never ran, beside the bare start of the OCI runtime in the
//! same loop, and warm calls.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::Row;
use super::first::{NeverRun, times_of};
use super::latency::call;
use crate::bench::Bench;
use crate::load::Target;
use crate::processes::pause;
use crate::report::{Budget, Figure, Findings};
use crate::server::{Function, Language, Server, invoke_path};
use crate::stats::{Sample, median};

/// The OCI runtime that is measured.
const RUNTIME: &str = "crun";
/// Never-run functions of each language in one round. A start costs a hundred times one of a process sandbox.
const OF_EACH: u32 = 8;
/// The program of the bare container.
const NOTHING: &str = "/bin/true";
/// Starts containers one after the other, each when its name is read, and says how each ended. crun refuses machines that
/// mix both versions of cgroups, so it sees one.
const STARTER: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null
while read -r name; do
  crun --root \"$0/state\" run --bundle \"$0\" \"$name\" </dev/null >/dev/null 2>\"$0/log\"
  echo $?
done";

/// Containers that run a program which does nothing.
struct Bare {
    shell: Child,
    orders: Option<ChildStdin>,
    ends: BufReader<ChildStdout>,
    folder: PathBuf,
    started: u32,
}

impl Bare {
    fn prepare(folder: PathBuf) -> anyhow::Result<Self> {
        copy(Path::new(NOTHING), &folder.join("root"))?;
        let libraries = Command::new("ldd").arg(NOTHING).output().context("ldd does not start")?;
        let libraries = String::from_utf8(libraries.stdout)?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(library), &folder.join("root"))?;
        }
        for place in ["root/proc", "root/dev"] {
            fs::create_dir_all(folder.join(place))?;
        }
        let kinds = ["pid", "ipc", "uts", "mount", "network", "cgroup"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": folder.join("root"), "readonly": true },
            "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": [NOTHING], "env": [] },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": { "namespaces": kinds },
        });
        fs::write(folder.join("config.json"), config.to_string())?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", STARTER]).arg(&folder);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("unshare")?;
        let (orders, ends) = (shell.stdin.take(), shell.stdout.take().context("no output")?);
        Ok(Self { shell, orders, ends: BufReader::new(ends), folder, started: 0 })
    }

    /// Starts one and waits for its end; milliseconds.
    fn start(&mut self) -> anyhow::Result<f64> {
        let orders = self.orders.as_mut().context("the shell is gone")?;
        self.started += 1;
        let (mut end, number, process) = (String::new(), self.started, self.shell.id());
        let started = Instant::now();
        writeln!(orders, "bare-{process}-{number}")?;
        self.ends.read_line(&mut end)?;
        let took = started.elapsed();
        if end.trim() != "0" {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            bail!("{RUNTIME} cannot start {NOTHING} in a container: {}", log.trim());
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It ends when nobody orders any more.
        self.orders = None;
        let _status = self.shell.wait();
    }
}

/// Copies a file to its own place below a folder.
fn copy(file: &Path, root: &Path) -> anyhow::Result<()> {
    let place = root.join(file.strip_prefix("/")?);
    fs::create_dir_all(place.parent().context("a file is in a folder")?)?;
    fs::copy(file, &place).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// A server whose functions are all in containers.
pub(super) struct Containers {
    functions: NeverRun,
    bare: Bare,
    warm: Vec<(Language, Target)>,
    cold_ms: Vec<(Language, f64)>,
    bare_ms: Vec<f64>,
    /// The median and the 99th percentile of each turn.
    warm_ms: Vec<(Language, f64, f64)>,
}

impl Containers {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let bare = Bare::prepare(bench.scratch("bare-container"))?;
        let flags = ["--driver", "container", "--oci-runtime", RUNTIME, "--prewarm", "0"];
        let server = Server::start(bench, "containers", &flags)
            .context("containers need root and the Debian package crun; leave them out with --only")?;
        let mut connection = server.connect()?;
        let mut warm = Vec::new();
        for language in Language::ALL {
            let name = format!("warm-{}", language.runtime());
            Function::of(language, &name, &language.echo()).create(&mut connection)?;
            let (name, path) = (language.name(), invoke_path(&name));
            let target = Target { name, address: server.address, path, in_envelope: true };
            target.check()?;
            warm.push((language, target));
        }
        let functions = NeverRun::prepare(bench, server, OF_EACH)?;
        let (cold_ms, bare_ms, warm_ms) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { functions, bare, warm, cold_ms, bare_ms, warm_ms })
    }
}

impl Row for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        for _ in 0..OF_EACH * 2 {
            self.cold_ms.push(self.functions.call_next(bench)?);
            pause(bench.options.spacing());
            self.bare_ms.push(self.bare.start()?);
        }
        for (language, target) in &self.warm {
            let sample = call(target, bench.options.calls())?;
            self.warm_ms.push((*language, sample.percentile(0.5) / 1e3, sample.percentile(0.99) / 1e3));
        }
        Ok(())
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let bare = Sample::new(self.bare_ms.clone());
        let mut figures = Vec::new();
        let mut samples = serde_json::Map::new();
        samples.insert("bare_ms".to_owned(), json!(self.bare_ms));
        for language in Language::ALL {
            let times = times_of(&self.cold_ms, language);
            samples.insert(format!("cold_{}_ms", language.runtime()), json!(times));
            let times = Sample::new(times);
            let told = |sample: &Sample| {
                let (p50, p99) = (sample.percentile(0.5), sample.percentile(0.99));
                format!("p50 {p50:.0} ms, p99 {p99:.0}, max {:.0} of {}", sample.max(), sample.len())
            };
            let detail = format!("{}; {RUNTIME} and {NOTHING} alone: {}", told(&times), told(&bare));
            let what =
                format!("first answer in a container, {}, beyond the bare start, p50", language.name());
            let beyond = times.percentile(0.5) - bare.percentile(0.5);
            figures.push(Figure::told(9, what, beyond, "ms").within(Budget::AtMost(250.0)).with(detail));
            let warm = self.warm_ms.iter().filter(|(of, ..)| *of == language);
            let (p50, p99): (Vec<f64>, Vec<f64>) = warm.map(|(_, p50, p99)| (*p50, *p99)).unzip();
            let what = format!("warm call in a container, {}, p50", language.name());
            let detail = format!("p99 {:.2} ms", median(p99));
            figures.push(Figure::told(9, what, median(p50), "ms").within(Budget::AtMost(10.0)).with(detail));
        }
        Ok(Findings { name: "containers", figures, samples: samples.into() })
    }
}
