//! What `serve` takes about Redis.

use std::path::PathBuf;

use clap::Args;

use super::parsers::path;

/// A Redis server that speeds the delivery of asynchronous calls up.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisArgs {
    /// A Redis server by which servers that share a database tell each other of asynchronous calls:
    /// redis://:password@host:port/number, or rediss://… for TLS. Other users of the machine see flags, but not variables.
    #[arg(long, value_name = "URL", env = "IMPULS_REDIS", hide_env_values = true)]
    pub redis: Option<String>,
    /// The certificates (PEM) of the authorities that a Redis server with TLS may be from [default: those that this machine
    /// trusts].
    #[arg(long, value_name = "FILE", env = "IMPULS_REDIS_CA", value_parser = path())]
    pub redis_ca: Option<PathBuf>,
}
