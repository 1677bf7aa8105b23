//! `impuls store apply`: the tables of a database, made or brought up to date without a server.

use std::io::Write as _;
use std::path::Path;

use anyhow::bail;
use impuls_cli::ServeConfig;

use crate::storage::{self, Storage};

/// Opens the store as a server does, which makes what is missing, and closes it. Repeatable; servers may run meanwhile,
/// since the back end takes its lock.
pub(crate) fn apply(config: &ServeConfig) -> anyhow::Result<()> {
    storage::check(config)?;
    if config.storage != storage::POSTGRES {
        bail!("storage {} needs no such step: `impuls serve` makes its tables", config.storage);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A database server keeps nothing in a folder of ours.
    runtime.block_on(async { Storage::open(config, Path::new("")).await?.close().await })?;
    writeln!(std::io::stdout(), "the tables are up to date")?;
    Ok(())
}
