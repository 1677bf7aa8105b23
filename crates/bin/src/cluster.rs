//! `impuls controller` and `impuls worker`: the server's parts on different machines.
//!
//! A controller is a server whose worker is all workers (`controller`); a worker has the sandboxes and delivers
//! asynchronous invocations (`worker`), and does for others what `host` says.

mod controller;
mod host;
mod rollout;
mod worker;

use std::sync::Arc;

use anyhow::Context as _;
use impuls_cli::{ClusterTrust, ControllerConfig, WorkerConfig};
use impuls_cluster::{Tls, TlsFiles, Token, Trust};
use impuls_dispatch::Dispatch;
use impuls_store::{FunctionStore, NodeStore};

use crate::functions;
use crate::serve::prepare;
use crate::storage::Storage;

/// Runs a controller until it is told to stop.
pub(crate) fn controller(config: ControllerConfig) -> anyhow::Result<()> {
    let runtime = prepare(&config.serve)?;
    let served = runtime.block_on(controller::run(config));
    runtime.shutdown_background();
    served
}

/// Runs a worker until it is told to stop.
pub(crate) fn worker(config: WorkerConfig) -> anyhow::Result<()> {
    let runtime = prepare(&config.serve)?;
    let served = runtime.block_on(worker::run(config));
    runtime.shutdown_background();
    served
}

/// What this node shows others and wants to be shown.
fn trust(config: ClusterTrust) -> anyhow::Result<Trust> {
    let token = config.token.0.as_deref().map(Token::new).transpose();
    let token = token.context("--cluster-token, or IMPULS_CLUSTER_TOKEN")?;
    let files = config.tls.map(|files| TlsFiles {
        authority: files.authority,
        certificate: files.certificate,
        key: files.key,
    });
    let tls = files.map(Tls::open).transpose();
    let tls = tls.context("--cluster-ca, --cluster-cert and --cluster-key")?;
    Ok(Trust { token, tls })
}

fn nodes(store: &Storage) -> anyhow::Result<Arc<dyn NodeStore>> {
    store.nodes().context("controllers and workers need storage postgres")
}

/// Goes by the store's clock, and makes every stored function callable.
async fn load_functions(store: &dyn FunctionStore, dispatch: &Dispatch) -> anyhow::Result<()> {
    dispatch.read_clock().await.context("cannot read the clock of the metadata store")?;
    let loaded = functions::each(store, |snapshot| dispatch.put_function(snapshot)).await;
    loaded.map(drop).context("cannot read the functions")
}
