//! The isolation technologies of one server: which it has, which is for every function, and which a function can ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use impuls_cli::{ContainerConfig, DefaultNetwork, ServeConfig};
use impuls_domain::{DriverChoice, NetworkPolicy};
use impuls_sandbox::SandboxDriver;
use impuls_sandbox_container::{ContainerDriver, OciRuntime, Safety};
use impuls_sandbox_process::{LayerName, ProcessDriver};

use crate::repair;
use crate::serve::{SPAWNER, search_path};
use crate::settings;

/// What `--driver` can say.
const NAMES: [&str; 3] = ["auto", "process", "container"];

/// The drivers of this server. Process sandboxes are always there: builds run in them, and theirs is the network.
pub(crate) struct Drivers {
    process: Arc<ProcessDriver>,
    container: Option<Arc<ContainerDriver>>,
    standard: DriverChoice,
}

/// Refuses a name that means nothing here.
pub(crate) fn check(name: &str) -> anyhow::Result<()> {
    if !NAMES.contains(&name) {
        bail!("driver {name:?} is not supported yet; those that are: {}", NAMES.join(", "));
    }
    Ok(())
}

impl Drivers {
    /// Starts those that are wanted and removes what an earlier server left.
    pub(crate) async fn start(config: &ServeConfig, data: &Path) -> anyhow::Result<Self> {
        let process = start_process(config, data).await?;
        let standard = match config.driver.as_str() {
            "container" => DriverChoice::Container,
            _ => DriverChoice::Process,
        };
        let wanted = standard == DriverChoice::Container || config.containers.oci_runtime.is_some();
        let container =
            if wanted { Some(start_container((&config.containers, data), &process).await?) } else { None };
        Ok(Self { process, container, standard })
    }

    /// What the worker is told. Where every function is in a container, none can ask for less.
    pub(crate) fn for_worker(&self) -> impuls_worker::Drivers {
        let process: Arc<dyn SandboxDriver> = self.process.clone();
        let container = self.container.clone().map(|driver| driver as Arc<dyn SandboxDriver>);
        let mut named: Vec<(DriverChoice, Arc<dyn SandboxDriver>)> =
            container.clone().map(|driver| (DriverChoice::Container, driver)).into_iter().collect();
        match container {
            Some(container) if self.standard == DriverChoice::Container => {
                impuls_worker::Drivers { standard: container, builds: process, named }
            }
            _ => {
                named.insert(0, (DriverChoice::Process, process.clone()));
                impuls_worker::Drivers { standard: process.clone(), builds: process, named }
            }
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<dyn SandboxDriver>> {
        let process: Arc<dyn SandboxDriver> = self.process.clone();
        let container = self.container.clone().map(|driver| driver as Arc<dyn SandboxDriver>);
        [process].into_iter().chain(container).collect()
    }

    /// Whether functions can have a network here.
    pub(crate) fn has_network(&self) -> bool {
        let layer = self.process.isolation().layer(LayerName::FunctionNetwork);
        layer.is_some_and(|layer| layer.works)
    }

    /// The network of functions that do not say which they want.
    pub(crate) fn default_network(&self, config: &ServeConfig) -> NetworkPolicy {
        match config.default_network {
            Some(DefaultNetwork::Egress) => NetworkPolicy::Egress,
            None if self.has_network() => NetworkPolicy::Egress,
            Some(DefaultNetwork::Off) | None => NetworkPolicy::Off,
        }
    }

    /// Ends every sandbox and what makes them.
    pub(crate) async fn shutdown(&self) {
        if let Some(container) = &self.container {
            container.shutdown().await;
        }
        self.process.shutdown().await;
    }
}

async fn start_process(config: &ServeConfig, data: &Path) -> anyhow::Result<Arc<ProcessDriver>> {
    let driver = ProcessDriver::start(impuls_sandbox_process::Config {
        run_dir: data.join("run"),
        exe: PathBuf::from(SPAWNER),
        allow_weaker: config.allow_weaker_isolation,
        network: settings::network(config)?,
    });
    let driver = driver.await.context("cannot set up sandboxes; `impuls doctor` says more")?;
    for layer in driver.isolation().missing() {
        tracing::warn!(
            "isolation layer missing: {}: {}; without it: {}",
            layer.name,
            layer.detail,
            layer.cost
        );
    }
    repair::once(driver.as_ref()).await?;
    Ok(driver)
}

async fn start_container(
    (config, data): (&ContainerConfig, &Path),
    process: &ProcessDriver,
) -> anyhow::Result<Arc<ContainerDriver>> {
    let runtime = oci_runtime(config).await?;
    tracing::info!("containers are made with {runtime}");
    let init = search_path(None).agent.canonicalize().context("cannot find this program's own file")?;
    let driver = ContainerDriver::start(impuls_sandbox_container::Config {
        run_dir: data.join("containers"),
        runtime,
        init_libraries: impuls_runtimes::closure::libraries(std::slice::from_ref(&init)),
        init,
        network: Some(process.network()),
        allow_unsafe: config.allow_unsafe,
    });
    let driver = driver.await.context("cannot make containers; `impuls doctor` says more")?;
    repair::once(driver.as_ref()).await?;
    Ok(driver)
}

/// The runtime that the operator names, or the first that is safe.
async fn oci_runtime(config: &ContainerConfig) -> anyhow::Result<OciRuntime> {
    let path = search_path(None).path;
    if let Some(named) = &config.oci_runtime {
        let is_name = named.components().count() == 1;
        let found = std::env::split_paths(&path).map(|folder| folder.join(named)).find(|file| file.is_file());
        let program = if is_name { found } else { Some(named.clone()) };
        let program = program.with_context(|| {
            format!("--oci-runtime {}: no such program on PATH; give its whole path", named.display())
        })?;
        let runtime = OciRuntime::examine(&program).await;
        return runtime.with_context(|| format!("--oci-runtime {}: it tells no version", named.display()));
    }
    let found = OciRuntime::find(&path).await;
    let safe = found.iter().find(|runtime| runtime.safety() == Safety::Fine);
    let usable =
        |runtime: &&OciRuntime| config.allow_unsafe && matches!(runtime.safety(), Safety::Escapes(_));
    if let Some(runtime) = safe.or_else(|| found.iter().find(usable)) {
        return Ok(runtime.clone());
    }
    let reasons: BTreeMap<String, &str> =
        found.iter().filter_map(|runtime| Some((runtime.to_string(), refusal(runtime)?))).collect();
    if reasons.is_empty() {
        bail!(
            "driver container needs an OCI runtime, and there is none on PATH; install one (Debian package crun), \
             name one with --oci-runtime, or take --driver process"
        );
    }
    let reasons: Vec<String> = reasons.iter().map(|(runtime, why)| format!("{runtime}: {why}")).collect();
    bail!(
        "no OCI runtime on PATH can be used: {}; install crun, name another with --oci-runtime, or, if your \
         distribution has mended one under its old number, say --allow-unsafe-oci-runtime",
        reasons.join("; ")
    );
}

/// What is known against a runtime.
pub(crate) fn refusal(runtime: &OciRuntime) -> Option<&'static str> {
    match runtime.safety() {
        Safety::Fine => None,
        Safety::Escapes(why) | Safety::Unusable(why) => Some(why),
    }
}
