//! How a deploy becomes effective: worker and dispatch as `control` sees them.

use std::sync::Arc;

use async_trait::async_trait;
use impuls_control::{BuildLog, BuildUnavailable, Checked, Rollout, RuntimeRefusal};
use impuls_dispatch::{Dispatch, Target};
use impuls_domain::{Built, Contract, Deadline, FunctionId, FunctionName, Revision, RuntimeName};
use impuls_runtimes::{Catalogue, RuntimeError};
use impuls_store::FunctionSnapshot;
use impuls_store_postgres::Change;
use impuls_worker::LocalWorker;
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::builds::Builds;
use crate::feed::{Follow, Tell};

/// How long a deploy waits for the new revision to be warm before calls take it anyway.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The worker and the dispatch of this process.
pub(crate) struct LocalRollout {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) worker: Arc<LocalWorker>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) builds: Arc<Builds>,
    /// Functions whose new revisions are being warmed; calls still take the old ones.
    pub(crate) activating: Mutex<Vec<FunctionId>>,
    /// Where others change functions as well: who looks at them.
    pub(crate) feed: Option<Tell>,
    /// Whether this process keeps sandboxes of a function that nobody calls.
    pub(crate) keeps: Keeps,
}

/// Whether sandboxes of a target are kept here although nobody calls it.
pub(crate) type Keeps = Arc<dyn Fn(&Target) -> bool + Send + Sync>;

impl Follow for LocalRollout {
    /// Makes what the store says of a function effective here. Calls may meet a cold revision: the server that deployed it
    /// has warmed its own.
    fn follow(&self, snapshot: &FunctionSnapshot) {
        if self.activating.lock().contains(&snapshot.function.id) {
            // Looked at again when that is over.
            return;
        }
        let replaced = self.switch(snapshot);
        let after = Arc::new(newest(snapshot));
        let warm = replaced.as_ref().map_or(0, |before| self.worker.size(before.revision.id).min(1));
        self.worker.warm_up(&after, warm.max(self.min_warm(&after)));
        self.retire(snapshot, replaced);
    }

    /// Takes a function that is gone out of the table, and its sandboxes with it.
    fn forget(&self, id: FunctionId) {
        for revision in self.dispatch.remove_function(id) {
            self.worker.retire(revision);
        }
    }
}

impl LocalRollout {
    fn min_warm(&self, target: &Target) -> usize {
        if (self.keeps)(target) { target.revision.config.limits.min_warm() as usize } else { 0 }
    }

    /// Has calls take what the snapshot says; returns what they took before, if that was another revision.
    fn switch(&self, snapshot: &FunctionSnapshot) -> Option<Arc<Target>> {
        let before = self.dispatch.latest(snapshot.function.id);
        self.dispatch.put_function(snapshot);
        before.filter(|before| before.revision.id != snapshot.latest.id)
    }

    fn retire(&self, snapshot: &FunctionSnapshot, replaced: Option<Arc<Target>>) {
        if let Some(replaced) = replaced
            && !self.dispatch.is_aliased(snapshot.function.id, replaced.version)
        {
            self.worker.retire(replaced.revision.id);
        }
    }
}

/// What calls of a function's newest revision run.
pub(crate) fn newest(snapshot: &FunctionSnapshot) -> Target {
    Target {
        function_name: snapshot.function.name.clone(),
        version: snapshot.function.latest_version,
        revision: snapshot.latest.clone(),
    }
}

/// Holds off whoever follows the store while a revision is warmed. Dropped, also because nobody waits any more, it has
/// the function looked at again.
struct Activating<'r>(&'r LocalRollout, FunctionId);

impl<'r> Activating<'r> {
    fn of(rollout: &'r LocalRollout, id: FunctionId) -> Self {
        rollout.activating.lock().push(id);
        Self(rollout, id)
    }
}

impl Drop for Activating<'_> {
    fn drop(&mut self) {
        let mut activating = self.0.activating.lock();
        if let Some(place) = activating.iter().position(|id| *id == self.1) {
            activating.swap_remove(place);
        }
        if let Some(feed) = self.0.feed.clone() {
            let again = Change::Function(self.1);
            // It fails when the server ends.
            tokio::spawn(async move { feed.send(again).await });
        }
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
        let wanted = warm.max(self.min_warm(&after));
        let _activating = Activating::of(self, id);
        self.worker.warm_up(&after, wanted);
        if warm > 0 {
            let by = Deadline::at((Instant::now() + WARM_UP_TIMEOUT).into_std());
            self.worker.wait_until_warm(&after, by).await;
        }
        let switched = self.switch(snapshot);
        self.retire(snapshot, switched.or(replaced));
    }

    async fn remove(&self, id: FunctionId) {
        self.forget(id);
    }
}
