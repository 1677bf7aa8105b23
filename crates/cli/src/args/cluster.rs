//! What `controller` and `worker` take.

use std::path::PathBuf;

use clap::Args;

use super::node::NodeArgs;
use super::parsers::path;
use super::serve::ServeArgs;

/// What all nodes of a cluster take.
#[derive(Args, Clone, Default, PartialEq, Eq)]
pub struct ClusterArgs {
    /// The secret that all controllers and workers share, at least 16 characters. Other users of the machine see flags,
    /// but not variables.
    #[arg(long, value_name = "TOKEN", env = "IMPULS_CLUSTER_TOKEN", hide_env_values = true)]
    pub cluster_token: Option<String>,
    /// The authorities (PEM) that the certificates of all controllers and workers are from. With it they speak TLS to each
    /// other, and to nobody without such a certificate.
    #[arg(long, value_name = "FILE", env = "IMPULS_CLUSTER_CA", value_parser = path())]
    pub cluster_ca: Option<PathBuf>,
    /// This node's certificate (PEM), for servers and clients; a worker's is for the host under which it is reached.
    #[arg(long, value_name = "FILE", env = "IMPULS_CLUSTER_CERT", value_parser = path())]
    pub cluster_cert: Option<PathBuf>,
    /// The key of this node's certificate (PEM, not encrypted).
    #[arg(long, value_name = "FILE", env = "IMPULS_CLUSTER_KEY", value_parser = path())]
    pub cluster_key: Option<PathBuf>,
}

/// Without the secret.
impl std::fmt::Debug for ClusterArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterArgs").finish_non_exhaustive()
    }
}

/// What `worker` takes: all that `serve` takes, which runs functions as well, and what others must know of it.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerArgs {
    /// What a server takes.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// What all nodes take.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Where controllers and other workers reach this worker [default: the address that it listens on].
    #[arg(long, value_name = "HOST:PORT", env = "IMPULS_ADVERTISE")]
    pub advertise: Option<String>,
    /// The name of this worker, another for each [default: one that is made up and kept in the data folder]
    /// [env: also WORKER_ID].
    #[arg(long, value_name = "NAME", env = "IMPULS_WORKER_ID")]
    pub worker_id: Option<String>,
}

/// What `controller` takes: of what `serve` takes all but what is about sandboxes.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerArgs {
    /// What every server takes.
    #[command(flatten)]
    pub node: NodeArgs,
    /// What all nodes of a cluster take.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
