//! How a deploy becomes effective: worker and dispatch as `control` sees them.

use std::sync::Arc;

use async_trait::async_trait;
use impuls_control::{BuildLog, BuildUnavailable, Checked, Rollout, RuntimeRefusal};
use impuls_dispatch::{Dispatch, Target};
use impuls_domain::{Built, Contract, Deadline, FunctionId, FunctionName, Revision, RuntimeName};
use impuls_runtimes::{Catalogue, RuntimeError};
use impuls_store::FunctionSnapshot;
use impuls_worker::LocalWorker;
use tokio::time::{Duration, Instant};

use crate::builds::Builds;

/// How long a deploy waits for the new revision to be warm before calls take it anyway.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The worker and the dispatch of this process.
pub(crate) struct LocalRollout {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) worker: Arc<LocalWorker>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) builds: Arc<Builds>,
}

/// What calls of a function's newest revision run.
pub(crate) fn newest(snapshot: &FunctionSnapshot) -> Target {
    Target {
        function_name: snapshot.function.name.clone(),
        version: snapshot.function.latest_version,
        revision: snapshot.latest.clone(),
    }
}

#[async_trait]
impl Rollout for LocalRollout {
    fn resolve_runtime(&self, name: &RuntimeName) -> Result<RuntimeName, RuntimeRefusal> {
        match self.catalogue.resolve(name) {
            Ok(installed) => Ok(installed.name.clone()),
            Err(RuntimeError::Unknown { name, known }) => Err(RuntimeRefusal::Unknown { name, known }),
            Err(RuntimeError::NotInstalled { name, hint }) => {
                Err(RuntimeRefusal::NotInstalled { name, hint })
            }
        }
    }

    fn source_file_names(&self, revision: &Revision) -> Vec<String> {
        let config = &revision.config;
        self.catalogue.source_files(&config.runtime, config.contract, &config.handler)
    }

    fn contracts(&self, runtime: &RuntimeName) -> &'static [Contract] {
        self.catalogue.contracts(runtime)
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
        tracing::debug!(%function, revision = %revision.id, "building");
        self.builds.build(revision, log).await
    }

    async fn check(&self, function: &FunctionName, revision: &Revision) -> Checked {
        let target = Target {
            function_name: function.clone(),
            version: impuls_domain::VersionNumber::FIRST,
            revision: revision.clone(),
        };
        let (sandbox_after, checked) = self.worker.check(&target).await;
        Checked { sandbox_after, failure: checked.err() }
    }

    async fn activate(&self, snapshot: &FunctionSnapshot) {
        let id = snapshot.function.id;
        let before = self.dispatch.latest(id);
        let after = Arc::new(newest(snapshot));
        let replaced = before.filter(|before| before.revision.id != after.revision.id);
        let warm = replaced.as_ref().map_or(0, |before| self.worker.size(before.revision.id).min(1));
        let wanted = warm.max(after.revision.config.limits.min_warm() as usize);
        self.worker.warm_up(&after, wanted);
        if warm > 0 {
            let by = Deadline::at((Instant::now() + WARM_UP_TIMEOUT).into_std());
            self.worker.wait_until_warm(&after, by).await;
        }
        self.dispatch.put_function(snapshot);
        if let Some(replaced) = replaced
            && !self.dispatch.is_aliased(id, replaced.version)
        {
            self.worker.retire(replaced.revision.id);
        }
    }

    async fn remove(&self, id: FunctionId) {
        for revision in self.dispatch.remove_function(id) {
            self.worker.retire(revision);
        }
    }
}
