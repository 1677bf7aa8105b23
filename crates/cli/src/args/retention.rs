//! What is kept of the past, as `serve` takes it.

use std::time::Duration;

use clap::Args;

use super::parsers::duration;

/// What `serve` takes about retention.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionArgs {
    /// Keep so many newest versions of each function, however old [default: 50].
    #[arg(long, value_name = "N", env = "IMPULS_KEEP_VERSIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_versions: Option<u32>,
    /// Keep versions for so long, however many there are [default: 90d].
    #[arg(long, value_name = "TIME", env = "IMPULS_KEEP_VERSIONS_FOR", value_parser = duration)]
    pub keep_versions_for: Option<Duration>,
    /// Keep what was built for so long after the last deploy that used it [default: 30d].
    #[arg(long, value_name = "TIME", env = "IMPULS_KEEP_BUILDS_FOR", value_parser = duration)]
    pub keep_builds_for: Option<Duration>,
    /// Keep at most so many MiB of what was built and no version runs any more; what was used longest ago goes first
    /// [default: 10240].
    #[arg(long, value_name = "MIB", env = "IMPULS_KEEP_BUILT")]
    pub keep_built: Option<u32>,
    /// Keep at most so many MiB of unpacked code on a machine that runs functions; what was used longest ago goes first, and
    /// what is in use stays [default: 10240].
    #[arg(long, value_name = "MIB", env = "IMPULS_KEEP_UNPACKED")]
    pub keep_unpacked: Option<u32>,
    /// Keep code that nothing names any more for so long; no deploy may take longer [default: 1h].
    #[arg(long, value_name = "TIME", env = "IMPULS_KEEP_ARTIFACTS_FOR", value_parser = duration)]
    pub keep_artifacts_for: Option<Duration>,
    /// How often is looked what can go [default: 1h].
    #[arg(long, value_name = "TIME", env = "IMPULS_COLLECT_EVERY", value_parser = duration)]
    pub collect_every: Option<Duration>,
}
