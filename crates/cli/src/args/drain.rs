//! How `serve` stops.

use std::time::Duration;

use clap::Args;

use super::parsers::duration;

/// What `serve` takes about its end, beside `--shutdown-timeout`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainArgs {
    /// Go on answering new calls for so long after SIGTERM, while /health/ready says 503, so that a balancer can hear of it
    /// first [default: 0s].
    #[arg(long, value_name = "TIME", env = "IMPULS_SHUTDOWN_DELAY", value_parser = duration)]
    pub shutdown_delay: Option<Duration>,
}
