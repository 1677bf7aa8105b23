//! Removes what killed servers left on this machine, also while this one runs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use impuls_sandbox::SandboxDriver;

/// How often is looked. Servers of the same run folder are killed seldom.
const EVERY: Duration = Duration::from_secs(60);

/// Looks once; what cannot be removed is an error.
pub(crate) async fn once(driver: &dyn SandboxDriver) -> anyhow::Result<()> {
    let orphans = driver.reap_orphans().await.context("cannot remove what an earlier server left")?;
    if orphans > 0 {
        tracing::info!(orphans, "removed sandboxes that an earlier server left");
    }
    Ok(())
}

/// Looks again and again, until it is dropped. What cannot be removed now may be later.
pub(crate) async fn run(drivers: Vec<Arc<dyn SandboxDriver>>) {
    loop {
        tokio::time::sleep(EVERY).await;
        for driver in &drivers {
            if let Err(error) = once(driver.as_ref()).await {
                tracing::warn!("{error:#}");
            }
        }
    }
}
