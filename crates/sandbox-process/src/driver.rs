//! The server's side of the driver: starting the spawner, making sandboxes, tidying up after a crash.

mod home;
mod keeper;
mod link;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use impuls_domain::Deadline;
use impuls_sandbox::{
    Sandbox, SandboxDriver, SandboxError, SandboxNetwork, SandboxSpec, StartMethod, instance,
};

use crate::config::Config;
use crate::isolation::{IsolationReport, Layer};
use crate::messages::Create;
use crate::network::{Lent, Network};
use crate::orphans;
use crate::sandbox::ProcessSandbox;
use crate::spawner::ENVIRONMENT;

pub(crate) use self::home::{Core, Station};
pub(crate) use self::link::{Answer, Link, Refused};

/// The driver of process sandboxes.
#[derive(Debug)]
pub struct ProcessDriver {
    core: Arc<Core>,
    report: IsolationReport,
    run_dir: PathBuf,
    /// This driver's part of the run folder.
    folder: Arc<Folder>,
    network: Arc<Network>,
}

/// A folder that goes with its last user.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) handle: std::fs::File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.path);
    }
}

impl ProcessDriver {
    /// Starts the spawner and finds out what isolates sandboxes here. To be called in the runtime for background
    /// work, which from then on serves everything but [`Sandbox::connect`]. Fails, naming them, when layers are
    /// missing that this kind of user normally has, unless [`Config::allow_weaker`].
    pub async fn start(config: Config) -> Result<Arc<Self>, SandboxError> {
        let failed = |source| SandboxError::Setup {
            step: format!("use run folder {}", config.run_dir.display()),
            source,
        };
        let instance = instance::name().map_err(failed)?;
        let path = config.run_dir.join(&instance);
        orphans::private_folder(&path).map_err(failed)?;
        let handle = std::fs::File::open(&path).map_err(failed)?;
        let folder = Arc::new(Folder { path, handle });
        let (core, report) = Core::start(&config.exe, &instance).await?;
        orphans::note_groups(&folder.path, &core.cgroups).map_err(failed)?;
        let missing: Vec<String> = report.unexpectedly_missing().map(named).collect();
        if !missing.is_empty() && !config.allow_weaker {
            core.close().await;
            return Err(SandboxError::Setup {
                step: format!("isolate sandboxes without {}", missing.join(", ")),
                source: io::Error::from(io::ErrorKind::Unsupported),
            });
        }
        let network = Arc::new(Network::prepare(&config.network, &report, &instance, &folder));
        Ok(Arc::new(Self { core, report, run_dir: config.run_dir, folder, network }))
    }

    /// What isolates the sandboxes of this driver.
    #[must_use]
    pub const fn isolation(&self) -> &IsolationReport {
        &self.report
    }

    /// How many packets of sandboxes the network policies have refused, by reason; empty as long as no sandbox has
    /// had a network. Costs some milliseconds.
    pub async fn refused_packets(&self) -> io::Result<BTreeMap<String, u64>> {
        self.network.refused_packets().await
    }

    /// The network of this driver's sandboxes, for namespaces of other drivers, which the server can enter only with root.
    /// It ends with [`shutdown`](Self::shutdown).
    #[must_use]
    pub fn network(&self) -> Arc<dyn SandboxNetwork> {
        Arc::new(Lent::new(self.core.clone(), self.network.clone()))
    }

    /// Kills every sandbox, ends the spawner and waits until all of it is gone. The driver is of no further use.
    pub async fn shutdown(&self) {
        self.core.close().await;
        self.network.close().await;
    }
}

/// A missing layer, as whoever started the server should read of it.
fn named(layer: &Layer) -> String {
    format!("{} ({}; to repair: {})", layer.name, layer.detail, layer.fix)
}

/// What works here, found out by a spawner that lives for that only.
pub(crate) async fn examine(exe: &std::path::Path) -> Result<IsolationReport, SandboxError> {
    let failed = |source| SandboxError::Setup { step: "read when this process started".to_owned(), source };
    let (core, report) = Core::start(exe, &instance::name().map_err(failed)?).await?;
    core.close().await;
    Ok(report)
}

fn environment(own: &BTreeMap<String, String>) -> Vec<String> {
    let fixed = ENVIRONMENT.iter().map(|&text| text.to_owned());
    let is_own = |text: &String| text.split_once('=').is_some_and(|(name, _)| own.contains_key(name));
    fixed
        .filter(|text| !is_own(text))
        .chain(own.iter().map(|(name, value)| format!("{name}={value}")))
        .collect()
}

impl ProcessDriver {
    async fn make(&self, spec: SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let station = self.core.station()?;
        let image = station.image(&spec.image, self.network.resolver()).await?;
        let steered = !spec.interpreter_environment.is_empty();
        let mut arguments = if steered { &spec.image.steered_argv } else { &spec.image.argv }.clone();
        if spec.prewarm && !spec.image.warm_argument.is_empty() {
            arguments.push(spec.image.warm_argument.to_owned());
        }
        let zygote = matches!(spec.image.start, StartMethod::Zygote(_));
        let mut create = Create {
            key: spec.id.as_uuid().as_u128(),
            image,
            arguments,
            environment: environment(&spec.interpreter_environment),
            fork: zygote && spec.interpreter_environment.is_empty(),
            limits: spec.limits.into(),
            tmp_mib: spec.image.tmp_mib,
        };
        loop {
            let (sandbox, fds) =
                ProcessSandbox::prepare(&self.core, &station, (&self.folder, &self.network), &spec)?;
            match sandbox.build(create.clone(), fds).await {
                Err(Refused::Refusal(crate::messages::Refusal::Zygote)) if create.fork => {
                    tracing::warn!(image = %spec.image.name, "zygote ended; executing the runtime instead");
                    create.fork = false;
                }
                other => {
                    other?;
                    sandbox.await_ready().await?;
                    return Ok(sandbox);
                }
            }
        }
    }
}

#[async_trait]
impl SandboxDriver for ProcessDriver {
    async fn create(&self, spec: SandboxSpec, by: Deadline) -> Result<Arc<dyn Sandbox>, SandboxError> {
        // Dropped at the deadline, a sandbox that is half made is destroyed like any other.
        let made = tokio::time::timeout_at(by.instant().into(), self.make(spec)).await;
        made.unwrap_or(Err(SandboxError::DeadlineExceeded))
    }

    async fn reap_orphans(&self) -> Result<usize, SandboxError> {
        let (run_dir, core, network) = (self.run_dir.clone(), self.core.clone(), self.network.clone());
        let reap = move || orphans::reap(&run_dir, &core.cgroups, (core.instance(), network.table()));
        let reaped = tokio::task::spawn_blocking(reap).await;
        let failed =
            |source| SandboxError::Setup { step: "remove what dead servers left".to_owned(), source };
        reaped.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
    }
}
