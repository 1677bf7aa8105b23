//! How a deploy becomes effective where the sandboxes are on other machines.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use impuls_api::RuntimeInfo;
use impuls_cluster::RemoteWorkers;
use impuls_control::{BuildLog, BuildUnavailable, Checked, Rollout, RuntimeRefusal};
use impuls_dispatch::{Dispatch, OnOutput};
use impuls_domain::{Built, Contract, FunctionId, FunctionName, NetworkPolicy, Revision, RuntimeName};
use impuls_runtimes::RuntimeError;
use impuls_store::FunctionSnapshot;
use impuls_store_postgres::Change;

use crate::feed::{Follow, Tell};

/// The workers and the dispatch of a controller.
pub(super) struct RemoteRollout {
    pub(super) remote: Arc<RemoteWorkers>,
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) feed: Option<Tell>,
}

impl Follow for RemoteRollout {
    fn follow(&self, snapshot: &FunctionSnapshot) {
        self.dispatch.put_function(snapshot);
    }

    fn forget(&self, id: FunctionId) {
        self.dispatch.remove_function(id);
    }
}

#[async_trait]
impl Rollout for RemoteRollout {
    fn resolve_runtime(&self, name: &RuntimeName) -> Result<RuntimeName, RuntimeRefusal> {
        let runtimes = self.remote.members().runtimes();
        if runtimes.is_empty() {
            return Err(RuntimeRefusal::NoWorker);
        }
        runtimes.resolve(name).map_err(|error| match error {
            RuntimeError::Unknown { name, known } => RuntimeRefusal::Unknown { name, known },
            RuntimeError::NotInstalled { name, hint } => RuntimeRefusal::NotInstalled { name, hint },
        })
    }

    fn contracts(&self, runtime: &RuntimeName) -> &'static [Contract] {
        self.remote.members().runtimes().contracts(runtime)
    }

    fn source_file_names(&self, revision: &Revision) -> Vec<String> {
        let config = &revision.config;
        let runtimes = self.remote.members().runtimes();
        runtimes.source_files(&config.runtime, config.contract, &config.handler)
    }

    fn announce(&self, function: &FunctionName, timeout: Duration) -> Box<dyn Send> {
        Box::new(self.dispatch.announce(function, timeout))
    }

    async fn build(
        &self,
        function: &FunctionName,
        revision: &Revision,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable> {
        let log = log.clone();
        let output = OnOutput::new(move |_, text| log.write(text));
        let built = self.remote.build(function, revision, &output).await;
        built.map_err(|error| BuildUnavailable(error.into()))
    }

    async fn check(&self, function: &FunctionName, revision: &Revision) -> Checked {
        match self.remote.check(function, revision).await {
            Ok((sandbox_after, failure)) => Checked { sandbox_after, failure },
            Err(error) => {
                // The call will say the same if it lasts; a deploy is not refused for it.
                let error = &error as &dyn std::error::Error;
                tracing::info!(error, %function, "the check at deploy came to no end");
                Checked::default()
            }
        }
    }

    async fn activate(&self, snapshot: &FunctionSnapshot) {
        let id = snapshot.function.id;
        self.remote.activate(id, snapshot.latest.config.runtime.as_str()).await;
        self.follow(snapshot);
        if let Some(feed) = self.feed.clone() {
            // What the feed was just reading may be older than this. It fails when the server ends.
            tokio::spawn(async move { feed.send(Change::Function(id)).await });
        }
    }

    async fn remove(&self, id: FunctionId) {
        self.forget(id);
    }
}

/// The runtimes that the workers have together.
pub(super) fn runtime_infos(remote: &RemoteWorkers) -> Vec<RuntimeInfo> {
    let runtimes = remote.members().runtimes();
    let infos = runtimes.announced().map(|(announced, aliases)| RuntimeInfo {
        name: announced.name.clone(),
        aliases: aliases.into_iter().map(str::to_owned).collect(),
        version: announced.version.clone(),
        path: announced.path.clone(),
    });
    infos.collect()
}

/// The network of functions that do not say which they want: egress, where every worker can give it.
pub(super) fn default_network(remote: &RemoteWorkers) -> NetworkPolicy {
    let peers = remote.members().peers();
    match !peers.is_empty() && peers.iter().all(|peer| peer.about().network) {
        true => NetworkPolicy::Egress,
        false => NetworkPolicy::Off,
    }
}
