//! From what the server was told to what its parts are told.

use std::time::Duration;

use anyhow::{Context as _, bail};
use impuls_cli::{BuildConfig, DefaultNetwork, ServeConfig};
use impuls_domain::{AllowEntry, Cidr, NetworkPolicy};
use impuls_sandbox_process::{IsolationReport, LayerName, NetworkConfig};
use impuls_worker::BuildSettings;

use crate::fronts;

/// How often a wait for an asynchronous invocation looks whether another server has ended it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The most entries that builds may be allowed: a list, less what stands for everything public.
const BUILD_ALLOW_LIMIT: usize = 62;

/// What the operator says about the network of sandboxes.
pub(crate) fn network(config: &ServeConfig) -> anyhow::Result<NetworkConfig> {
    let range = |text: &String| -> anyhow::Result<Cidr> {
        text.parse().with_context(|| format!("--network-allow {text:?} is no address and no range"))
    };
    let allow = config.network_allow.iter().map(range).collect::<anyhow::Result<_>>()?;
    Ok(NetworkConfig { allow, ..NetworkConfig::default() })
}

/// Whether functions can have a network here.
pub(crate) fn has_network(report: &IsolationReport) -> bool {
    report.layer(LayerName::FunctionNetwork).is_some_and(|layer| layer.works)
}

/// The network of functions that do not say which they want.
pub(crate) fn default_network(config: &ServeConfig, report: &IsolationReport) -> NetworkPolicy {
    match config.default_network {
        Some(DefaultNetwork::Off) => NetworkPolicy::Off,
        Some(DefaultNetwork::Egress) => NetworkPolicy::Egress,
        None if has_network(report) => NetworkPolicy::Egress,
        None => NetworkPolicy::Off,
    }
}

/// Bounds of builds.
pub(crate) fn builds(config: &BuildConfig) -> anyhow::Result<BuildSettings> {
    let entry = |text: &String| -> anyhow::Result<AllowEntry> {
        text.parse().with_context(|| format!("--build-allow {text:?} is no host, address or range"))
    };
    let allow = config.allow.iter().map(entry).collect::<anyhow::Result<Vec<_>>>()?;
    if allow.len() > BUILD_ALLOW_LIMIT {
        bail!("--build-allow has {} entries; at most {BUILD_ALLOW_LIMIT} are allowed", allow.len());
    }
    let default = BuildSettings::default();
    Ok(BuildSettings {
        memory_mib: config.memory_mib.unwrap_or(default.memory_mib),
        timeout: config.timeout.unwrap_or(default.timeout),
        environment: config.environment.clone(),
        allow,
        ..default
    })
}

/// Bounds of dispatch. Only where others use the store as well does anybody have to look what they ended.
pub(crate) fn dispatch(is_shared: bool) -> impuls_dispatch::Config {
    let look_again = is_shared.then_some(LOOK_AGAIN);
    impuls_dispatch::Config { look_again, ..impuls_dispatch::Config::default() }
}

/// Bounds of the worker.
pub(crate) fn worker(config: &ServeConfig, command_network: NetworkPolicy) -> impuls_worker::Config {
    let default = impuls_worker::Config::default();
    impuls_worker::Config {
        fronts: fronts::count(),
        max_sandboxes: config.max_sandboxes.map_or(default.max_sandboxes, |max| max as usize),
        prewarm: config.prewarm.map_or(default.prewarm, |size| size as usize),
        unpacked_limit: config.retention.unpacked_bytes.unwrap_or(default.unpacked_limit),
        command_network,
        ..default
    }
}
