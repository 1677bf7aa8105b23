//! What a worker does for others: the local parts behind the cluster's seam.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use impuls_cluster::Host;
use impuls_control::{BuildLog, Rollout as _};
use impuls_dispatch::{Dispatch, OnOutput, OutputStream, RunError, Target, Worker};
use impuls_domain::{Built, FunctionId, FunctionName, LoadFailure, Revision, RevisionId, VersionNumber};
use impuls_store::{FunctionKey, FunctionStore, VersionStore};
use impuls_worker::LocalWorker;
use parking_lot::Mutex;

use crate::builds::Builds;
use crate::rollout::LocalRollout;

/// Versions that are not the newest and that somebody has called.
const OLD_VERSIONS: usize = 1_024;

/// This machine's sandboxes, for the whole cluster.
pub(super) struct LocalHost {
    pub(super) worker: Arc<LocalWorker>,
    pub(super) functions: Arc<dyn FunctionStore>,
    pub(super) versions: Arc<dyn VersionStore>,
    pub(super) builds: Arc<Builds>,
    /// What stands on this worker itself; set before anybody asks.
    pub(super) late: OnceLock<Late>,
    pub(super) old: Mutex<HashMap<RevisionId, Arc<Target>>>,
}

/// Delivery in this process calls through the cluster, of which this is a part.
pub(super) struct Late {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) rollout: Arc<LocalRollout>,
}

/// The revision that was asked for is not what the store has.
#[derive(Debug, thiserror::Error)]
#[error("version {version} of function {function} is not in the store any more")]
struct Unknown {
    function: FunctionId,
    version: VersionNumber,
}

fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RunError {
    RunError::Code(error.into())
}

impl LocalHost {
    fn known(&self, function: FunctionId, revision: RevisionId) -> Option<Arc<Target>> {
        let newest = self.late.get().and_then(|late| late.dispatch.latest(function));
        let newest = newest.filter(|newest| newest.revision.id == revision);
        newest.or_else(|| self.old.lock().get(&revision).cloned())
    }

    /// The name that the function has now.
    async fn name(&self, function: FunctionId) -> Result<Option<FunctionName>, RunError> {
        if let Some(name) = self.late.get().and_then(|late| late.dispatch.function_name(function)) {
            return Ok(Some(name));
        }
        let found = self.functions.find_function(&FunctionKey::Id(function)).await.map_err(unreadable)?;
        Ok(found.map(|snapshot| snapshot.function.name))
    }
}

#[async_trait]
impl Host for LocalHost {
    fn worker(&self) -> &dyn Worker {
        &*self.worker
    }

    async fn target(
        &self,
        function: FunctionId,
        version: VersionNumber,
        revision: RevisionId,
    ) -> Result<Arc<Target>, RunError> {
        if let Some(known) = self.known(function, revision) {
            return Ok(known);
        }
        let unknown = || unreadable(Unknown { function, version });
        let found = self.versions.find_version(function, version).await.map_err(unreadable)?;
        let found = found.filter(|found| found.revision.id == revision).ok_or_else(unknown)?;
        let function_name = self.name(function).await?.ok_or_else(unknown)?;
        let mut old = self.old.lock();
        if old.len() >= OLD_VERSIONS {
            old.clear();
        }
        let target = Target { function_name, version, revision: found.revision };
        Ok(old.entry(revision).or_insert_with(|| Arc::new(target)).clone())
    }

    async fn build(&self, revision: &Revision, log: &OnOutput) -> Result<Built, RunError> {
        let log = log.clone();
        let log = BuildLog::new(move |text| log.call(OutputStream::Stdout, text));
        self.builds.build(revision, &log).await.map_err(unreadable)
    }

    async fn check(
        &self,
        function: &FunctionName,
        revision: &Revision,
    ) -> (Option<Duration>, Option<LoadFailure>) {
        let target = Target {
            function_name: function.clone(),
            version: VersionNumber::FIRST,
            revision: revision.clone(),
        };
        let (sandbox_after, checked) = self.worker.check(&target).await;
        (sandbox_after, checked.err())
    }

    async fn activate(&self, function: FunctionId) -> Result<(), RunError> {
        let Some(late) = self.late.get() else { return Ok(()) };
        let found = self.functions.find_function(&FunctionKey::Id(function)).await.map_err(unreadable)?;
        if let Some(snapshot) = found {
            late.rollout.activate(&snapshot).await;
        }
        Ok(())
    }

    fn wake(&self) {
        if let Some(late) = self.late.get() {
            late.dispatch.look_for_submitted();
        }
    }
}
