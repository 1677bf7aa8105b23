//! What `controller` and `worker` were told. Both are servers with a database that they share, so this is the
//! configuration of `serve` with other defaults, and what only they have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{ArtifactsConfig, ConfigError, FileConfig, ServeConfig, Variables, artifacts, resolve, text};
use crate::args::{ClusterArgs, ControllerArgs, NodeArgs, ServeArgs, WorkerArgs};

/// The port of a worker's internal listener when none is given.
const WORKER_PORT: u16 = 7070;
/// The one storage that several nodes can share.
const SHARED: &str = "postgres";

/// The secret that controllers and workers share, as it was written. Not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClusterSecret(pub Option<String>);

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecret").field("is_given", &self.0.is_some()).finish()
    }
}

/// Where a node's certificates are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTls {
    /// The authorities that every node's certificate must be from.
    pub authority: PathBuf,
    /// This node's own certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How nodes know each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTrust {
    /// The secret that all share.
    pub token: ClusterSecret,
    /// What they show each other at every connection; `None` is no TLS.
    pub tls: Option<ClusterTls>,
}

/// What a controller was told, complete with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// What a server is told. Nothing of it that is about sandboxes is of any meaning.
    pub serve: ServeConfig,
    /// What it shows to workers.
    pub trust: ClusterTrust,
}

/// What a worker was told, complete with defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// What a server is told. Its addresses are those of the internal listener: by default 127.0.0.1:7070.
    pub serve: ServeConfig,
    /// What must be shown to it; never nothing if other machines can reach it.
    pub trust: ClusterTrust,
    /// Where it is reached; `None` is the address that it listens on.
    pub advertise: Option<String>,
    /// Its name; `None` is one that it keeps in its data folder.
    pub worker_id: Option<String>,
}

fn file_of(args: &NodeArgs) -> Result<FileConfig, ConfigError> {
    match &args.place.config {
        Some(path) if !path.as_os_str().is_empty() => FileConfig::read(path),
        _ => Ok(FileConfig::default()),
    }
}

impl ControllerArgs {
    /// Reads the configuration file, if one is named, and resolves everything.
    pub fn load(self) -> Result<ControllerConfig, ConfigError> {
        resolve_controller(file_of(&self.node)?, &Variables::of_this_process(), self)
    }
}

impl WorkerArgs {
    /// Reads the configuration file, if one is named, and resolves everything.
    pub fn load(self) -> Result<WorkerConfig, ConfigError> {
        resolve_worker(file_of(&self.serve.node)?, &Variables::of_this_process(), self)
    }
}

/// The configuration of a controller from file, variables and flags.
pub fn resolve_controller(
    mut file: FileConfig,
    variables: &Variables,
    args: ControllerArgs,
) -> Result<ControllerConfig, ConfigError> {
    let ControllerArgs { node, cluster } = args;
    let trust = trust(cluster, &mut file)?;
    let mut serve = shared(file, (variables, variables.for_role(false)), node.into())?;
    // Nobody looks for a controller on the ports of other servers.
    serve.listen_if_free = Vec::new();
    Ok(ControllerConfig { serve, trust })
}

/// The configuration of a worker from file, variables and flags.
pub fn resolve_worker(
    mut file: FileConfig,
    variables: &Variables,
    args: WorkerArgs,
) -> Result<WorkerConfig, ConfigError> {
    let WorkerArgs { mut serve, cluster, advertise, worker_id } = args;
    let trust = trust(cluster, &mut file)?;
    let advertise = text([advertise, file.advertise.take()]);
    let worker_id = text([worker_id, variables.worker_id(), file.worker_id.take()]);
    // What nodes show is what lets anybody in.
    serve.node.insecure_no_auth = Some(true);
    let own = variables.for_role(true);
    let has_address = !serve.node.listen.is_empty()
        || serve.node.port.is_some()
        || !own.addresses(true)?.listen.is_empty()
        || !file.listen.is_empty()
        || file.port.is_some();
    if !has_address {
        serve.node.listen = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), WORKER_PORT)];
    }
    let serve = shared(file, (variables, own), serve)?;
    let exposed = serve.listen.iter().find(|address| !address.ip().is_loopback());
    if let (Some(exposed), None, None) = (exposed, &trust.token.0, &trust.tls) {
        return Err(ConfigError::NoToken(*exposed));
    }
    Ok(WorkerConfig { serve, trust, advertise, worker_id })
}

fn trust(args: ClusterArgs, file: &mut FileConfig) -> Result<ClusterTrust, ConfigError> {
    let token = ClusterSecret(text([args.cluster_token, file.cluster_token.take()]));
    // An empty path is as good as none.
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    let authority = args.cluster_ca.filter(given).or(file.cluster_ca.take().filter(given));
    let certificate = args.cluster_cert.filter(given).or(file.cluster_cert.take().filter(given));
    let key = args.cluster_key.filter(given).or(file.cluster_key.take().filter(given));
    let tls = match (authority, certificate, key) {
        (None, None, None) => None,
        (Some(authority), Some(certificate), Some(key)) => Some(ClusterTls { authority, certificate, key }),
        _ => return Err(ConfigError::PartialTls),
    };
    Ok(ClusterTrust { token, tls })
}

/// The configuration of a server that shares its database.
fn shared(
    mut file: FileConfig,
    (all, own): (&Variables, Variables),
    mut args: ServeArgs,
) -> Result<ServeConfig, ConfigError> {
    let named = text([args.node.storage.take(), file.storage.take()]);
    // GoFaas' word for code in a bucket, which says nothing of functions.
    let is_in_bucket = named.is_none() && all.storage().as_deref() == Some(artifacts::S3);
    if let Some(other) = named.filter(|name| ![SHARED, "postgresql"].contains(&name.as_str())) {
        return Err(ConfigError::NotShared(other));
    }
    args.node.storage = Some(SHARED.to_owned());
    let said = text([args.node.db_conn.take(), all.db_conn(), file.db_conn.take()]);
    args.node.db_conn = said.or_else(|| Some(all.db_conn_or_default()));
    let config = resolve(file, &own, args)?;
    if is_in_bucket && !matches!(config.artifacts, ArtifactsConfig::Bucket(_)) {
        return Err(ConfigError::NoBucket);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ArtifactsArgs;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn controller(pairs: &[(&str, &str)], args: ControllerArgs) -> Result<ControllerConfig, ConfigError> {
        resolve_controller(FileConfig::default(), &variables(pairs), args)
    }

    fn worker(pairs: &[(&str, &str)], args: WorkerArgs) -> Result<WorkerConfig, ConfigError> {
        resolve_worker(FileConfig::default(), &variables(pairs), args)
    }

    const SEED: &str = "host='localhost' port='5432' user='postgres' password='postgres' dbname='faas' \
                        sslmode='disable'";

    #[test]
    fn with_nothing_said_both_take_what_gofaas_took() {
        let controller = controller(&[], ControllerArgs::default()).unwrap();
        let worker = worker(&[], WorkerArgs::default()).unwrap();
        for serve in [&controller.serve, &worker.serve] {
            assert_eq!(serve.storage, "postgres");
            assert_eq!(serve.database.connection.as_deref(), Some(SEED));
            assert!(serve.listen_if_free.is_empty());
        }
        assert_eq!(controller.serve.listen, [SocketAddr::from(([127, 0, 0, 1], 8080))]);
        assert_eq!(worker.serve.listen, [SocketAddr::from(([127, 0, 0, 1], 7070))]);
    }

    #[test]
    fn one_environment_serves_both() {
        let pairs = [
            ("SERVER_ADDR", ":9000"),
            ("DB_HOST", "db"),
            ("STORAGE_TYPE", "local"),
            ("WORKER_ID", "worker-7"),
        ];
        let controller = controller(&pairs, ControllerArgs::default()).unwrap();
        let worker = worker(&pairs, WorkerArgs::default()).unwrap();
        assert_eq!(controller.serve.listen, [SocketAddr::from(([127, 0, 0, 1], 9000))]);
        assert_eq!(worker.serve.listen, [SocketAddr::from(([127, 0, 0, 1], 7070))]);
        assert_eq!(worker.worker_id.as_deref(), Some("worker-7"));
        assert!(worker.serve.database.connection.unwrap().starts_with("host='db'"));
    }

    #[test]
    fn a_worker_that_others_can_reach_needs_a_token() {
        let exposed = || WorkerArgs {
            serve: NodeArgs { listen: vec!["0.0.0.0:7070".parse().unwrap()], ..NodeArgs::default() }.into(),
            ..WorkerArgs::default()
        };
        assert!(matches!(worker(&[], exposed()), Err(ConfigError::NoToken(_))));
        let mut args = exposed();
        args.cluster.cluster_token = Some("a secret".to_owned());
        let told = worker(&[], args).unwrap();
        assert!(!format!("{told:?}").contains("a secret"));
    }

    #[test]
    fn code_in_a_bucket_needs_a_bucket() {
        let mut pairs = vec![("STORAGE_TYPE", "s3")];
        assert!(matches!(controller(&pairs, ControllerArgs::default()), Err(ConfigError::NoBucket)));
        assert!(matches!(worker(&pairs, WorkerArgs::default()), Err(ConfigError::NoBucket)));
        let flag = ArtifactsArgs { artifacts: Some("s3://bucket/code".to_owned()) };
        let node = NodeArgs { artifacts: flag, ..NodeArgs::default() };
        let told = ControllerArgs { node, ..ControllerArgs::default() };
        let told = controller(&pairs, told).unwrap();
        assert!(matches!(told.serve.artifacts, ArtifactsConfig::Bucket(_)));
        assert_eq!(told.serve.storage, "postgres");
        pairs.push(("STORAGE_BASE_DIR", "/code"));
        assert!(matches!(worker(&pairs, WorkerArgs::default()), Err(ConfigError::NoBucket)));
    }

    #[test]
    fn certificates_are_told_wholly_or_not_at_all() {
        let mut args = WorkerArgs {
            serve: NodeArgs { listen: vec!["0.0.0.0:7070".parse().unwrap()], ..NodeArgs::default() }.into(),
            cluster: ClusterArgs {
                cluster_ca: Some("ca".into()),
                cluster_cert: Some("cert".into()),
                cluster_key: Some("key".into()),
                cluster_token: None,
            },
            ..WorkerArgs::default()
        };
        let told = worker(&[], args.clone()).unwrap().trust.tls.unwrap();
        assert_eq!([told.authority, told.certificate, told.key], ["ca", "cert", "key"].map(PathBuf::from));
        args.cluster.cluster_key = None;
        assert!(matches!(worker(&[], args.clone()), Err(ConfigError::PartialTls)));
        args.cluster = ClusterArgs {
            cluster_ca: Some(PathBuf::new()),
            cluster_cert: Some(PathBuf::new()),
            cluster_key: Some(PathBuf::new()),
            cluster_token: Some("a secret".to_owned()),
        };
        assert_eq!(worker(&[], args).unwrap().trust.tls, None);
    }

    #[test]
    fn a_storage_that_cannot_be_shared_is_refused() {
        let args = ControllerArgs {
            node: NodeArgs { storage: Some("sqlite".to_owned()), ..NodeArgs::default() },
            ..ControllerArgs::default()
        };
        assert!(matches!(controller(&[], args), Err(ConfigError::NotShared(_))));
    }
}
