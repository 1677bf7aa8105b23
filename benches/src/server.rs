//! Impuls itself, started for a measurement and used over HTTP only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::http::{Connection, post};
use crate::proc;
use crate::processes::{Process, pause};

/// Settings that a user's environment could bring; what is measured are the defaults.
const SETTINGS: [&str; 15] = [
    "DATA_DIR",
    "FAAS_DISABLE_PREWARM",
    "FAAS_WARM_POOL_SIZE",
    "IMPULS_CONFIG",
    "IMPULS_DATA_DIR",
    "IMPULS_LISTEN",
    "IMPULS_PORT",
    "IMPULS_STORAGE_TYPE",
    "RUST_LOG",
    "STORAGE_TYPE",
    "IMPULS_DRIVER",
    "IMPULS_MAX_SANDBOXES",
    "IMPULS_PREWARM",
    "IMPULS_LOG_LEVEL",
    "IMPULS_LOG_FORMAT",
];
/// Longer than the pool of prewarmed sandboxes remembers what creating functions took from it.
const SETTLE: Duration = Duration::from_secs(12);
/// How long the server may take to come to rest after that.
const MOST_SETTLE: Duration = Duration::from_secs(60);
/// What a server at rest uses at most, in cores.
const AT_REST: f64 = 0.03;

/// The interpreted languages that are measured. Go has measurements of its own: `rows/go_*.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    Python,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Node, Self::Python];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Python => "Python",
        }
    }

    /// The runtime's alias: the version that users get who do not name one.
    pub(crate) fn runtime(self) -> &'static str {
        match self {
            Self::Node => "nodejs",
            Self::Python => "python",
        }
    }

    /// Arguments with which the interpreter does nothing.
    pub(crate) fn nothing(self) -> [&'static str; 2] {
        match self {
            Self::Node => ["-e", "0"],
            Self::Python => ["-c", "pass"],
        }
    }

    /// Gives the event back.
    pub(crate) fn echo(self) -> String {
        match self {
            Self::Node => "exports.handler = async (event) => event;\n".to_owned(),
            Self::Python => "def handler(event, context):\n    return event\n".to_owned(),
        }
    }

    /// Says when its code was loaded (Unix time in milliseconds) and how many calls it has had. No two numbers have
    /// the same source.
    pub(crate) fn witness(self, number: u32) -> String {
        match self {
            Self::Node => format!(
                "// {number}\nconst loaded = Date.now();\nlet calls = 0;\n\
                 exports.handler = async (event) => ({{ loaded, calls: ++calls, event }});\n"
            ),
            Self::Python => format!(
                "# {number}\nimport time\nloaded = time.time() * 1000\ncalls = 0\n\
                 def handler(event, context):\n    global calls\n    calls += 1\n    \
                 return {{'loaded': loaded, 'calls': calls, 'event': event}}\n"
            ),
        }
    }
}

/// An interpreter that the server uses.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    pub(crate) version: String,
    pub(crate) path: PathBuf,
}

/// A running server.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server with an empty data folder, or the one that an earlier server of this name left.
    pub(crate) fn start(bench: &Bench, name: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(bench.server()?);
        command.arg("serve");
        Self::launch(bench, name, command.args(flags))
    }

    /// Starts what this command begins, likewise.
    pub(crate) fn launch(bench: &Bench, name: &str, command: &mut Command) -> anyhow::Result<Self> {
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(bench.scratch(name));
        for setting in SETTINGS {
            command.env_remove(setting);
        }
        let (process, address) = bench.listener(name, command)?;
        Ok(Self { process, address })
    }

    pub(crate) fn id(&self) -> proc::Id {
        self.process.id()
    }

    pub(crate) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address)
    }

    /// The interpreter behind a runtime's alias.
    pub(crate) fn interpreter(&self, language: Language) -> anyhow::Result<Interpreter> {
        let list = self.connect()?.json("GET", "/api/v1/runtimes", None)?;
        let runtimes = list.get("runtimes").and_then(Value::as_array).context("no list of runtimes")?;
        let has_alias = |runtime: &&Value| {
            let aliases = runtime.get("aliases").and_then(Value::as_array);
            aliases.is_some_and(|aliases| aliases.iter().any(|alias| alias == language.runtime()))
        };
        let found = runtimes.iter().find(has_alias);
        let found = found.with_context(|| format!("the server has no runtime {}", language.runtime()))?;
        let text = |name: &str| {
            found.get(name).and_then(Value::as_str).context("a runtime is described incompletely")
        };
        Ok(Interpreter { version: text("version")?.to_owned(), path: text("path")?.into() })
    }

    /// Waits until the server has done what there is to do after functions were created, and its pool of prewarmed
    /// sandboxes is as large as it is at rest.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        pause(SETTLE);
        let started = Instant::now();
        let mut before = proc::tree_seconds(self.id())?;
        while started.elapsed() < MOST_SETTLE {
            pause(Duration::from_secs(1));
            let now = proc::tree_seconds(self.id())?;
            if now - before <= AT_REST {
                return Ok(());
            }
            before = now;
        }
        bail!("the server does not come to rest within {MOST_SETTLE:?}")
    }
}

/// A function to create.
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    /// The alias of a runtime.
    pub(crate) runtime: &'a str,
    /// The first that the runtime has unless given.
    pub(crate) contract: Option<&'a str>,
    pub(crate) code: &'a str,
    pub(crate) concurrency: u32,
}

impl<'a> Function<'a> {
    /// A handler with one slot in each sandbox.
    pub(crate) fn of(language: Language, name: &'a str, code: &'a str) -> Self {
        Self { name, runtime: language.runtime(), contract: None, code, concurrency: 1 }
    }

    pub(crate) fn create(&self, connection: &mut Connection) -> anyhow::Result<()> {
        let request = json!({
            "name": self.name,
            "runtime": self.runtime,
            "contract": self.contract,
            "handler": "index.handler",
            "code": self.code,
            "concurrency": self.concurrency,
        });
        let created = connection
            .json("POST", "/api/v1/functions", Some(&request))
            .with_context(|| format!("cannot create {}; `impuls doctor` says what is missing", self.name))?;
        match created.get("status").and_then(Value::as_str) {
            Some("error") => bail!("function {} cannot be loaded: {created}", self.name),
            _ => Ok(()),
        }
    }
}

/// The path under which a function is called.
pub(crate) fn invoke_path(name: &str) -> String {
    format!("/api/v1/functions/{name}/invoke")
}

/// What a function of [`Language::witness`] says about itself.
pub(crate) struct Witness {
    /// Unix time in milliseconds.
    pub(crate) loaded: f64,
    pub(crate) calls: u64,
    /// How long the call took.
    pub(crate) took: Duration,
}

/// Calls a function of [`Language::witness`].
pub(crate) fn ask(connection: &mut Connection, name: &str) -> anyhow::Result<Witness> {
    let request = post(&invoke_path(name), EVENT_OF_WITNESS);
    let reply = connection.exchange(&request)?;
    let (status, took) = (reply.status, reply.took);
    if status != 200 {
        bail!("{name} answered with status {status}: {}", String::from_utf8_lossy(reply.body));
    }
    let envelope: Value = serde_json::from_slice(reply.body)?;
    let body = envelope.get("body").context("an envelope without body")?;
    let loaded = body.get("loaded").and_then(Value::as_f64);
    let calls = body.get("calls").and_then(Value::as_u64);
    let (Some(loaded), Some(calls)) = (loaded, calls) else {
        bail!("{name} answered something else: {envelope}")
    };
    Ok(Witness { loaded, calls, took })
}

const EVENT_OF_WITNESS: &[u8] = br#"{"name":"Ada"}"#;
