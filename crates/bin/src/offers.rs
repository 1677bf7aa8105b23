//! The queue that tells servers of asynchronous calls, where the settings name one.

use std::sync::Arc;

use anyhow::Context as _;
use impuls_cli::RedisConfig;
use impuls_queue::InvocationQueue;
use impuls_queue_redis::{RedisQueue, RedisServer};

/// The queue in Redis; `None` is the one in this server's memory. Redis may be away: calls are delivered without it.
pub(crate) fn open(config: &RedisConfig) -> anyhow::Result<Option<Arc<dyn InvocationQueue>>> {
    let Some(server) = server(config)? else { return Ok(None) };
    tracing::info!("asynchronous calls are offered through Redis at {}", server.place());
    Ok(Some(Arc::new(RedisQueue::start(server))))
}

/// Refuses a server that cannot be reached with what was said; before anything is started.
pub(crate) fn check(config: &RedisConfig) -> anyhow::Result<()> {
    server(config).map(drop)
}

fn server(config: &RedisConfig) -> anyhow::Result<Option<RedisServer>> {
    let Some(text) = &config.server else { return Ok(None) };
    let authorities = config.authorities.as_ref().map(|path| {
        std::fs::read(path).with_context(|| format!("cannot read --redis-ca {}", path.display()))
    });
    let server = RedisServer::parse(text, authorities.transpose()?);
    server.map(Some).context("--redis, or the variable that stands for it, is not valid")
}
