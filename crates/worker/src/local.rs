//! The worker of this machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use impuls_artifacts::{ArtifactStore, CodeFolders, Trimmed};
use impuls_dispatch::Target;
use impuls_domain::{Contract, Deadline, LoadFailure, RevisionId, RuntimeName};
use impuls_runtimes::Catalogue;
use impuls_sandbox::{InitErrorKind, InitFailure};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::build::{BuildSettings, Builder};
use crate::capacity::Capacity;
use crate::config::Config;
use crate::drivers::Drivers;
use crate::pool::Pool;
use crate::prewarm::Prewarm;
use crate::start::{StartContext, StartError};

/// How often unused sandboxes are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The pools of all revisions that have been called.
pub(crate) type Pools = papaya::HashMap<RevisionId, Arc<Pool>>;

/// Sandboxes on this machine; implements `dispatch::Worker`.
pub struct LocalWorker {
    pub(crate) context: Arc<StartContext>,
    pub(crate) pools: Arc<Pools>,
    /// Serialises making and forgetting pools; never taken on the path of a warm call.
    making: Mutex<()>,
    pub(crate) builder: Builder,
}

/// What a worker is made from.
pub struct Parts {
    /// Make the sandboxes.
    pub drivers: Drivers,
    /// The runtimes of this machine.
    pub catalogue: Arc<Catalogue>,
    /// Where code is unpacked.
    pub folders: Arc<CodeFolders>,
    /// Where code is kept, and what builds make of it.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Bounds of builds.
    pub builds: BuildSettings,
    /// Runs everything that nobody waits for.
    pub background: Handle,
}

impl LocalWorker {
    /// A worker without sandboxes; somebody must [`LocalWorker::run`] it.
    #[must_use]
    pub fn new(config: Config, parts: Parts) -> Arc<Self> {
        let pools = Arc::new(Pools::new());
        let evict = {
            let pools = Arc::downgrade(&pools);
            Box::new(move || evict_longest_idle(&pools))
        };
        let capacity = Capacity::new(&config);
        let context = StartContext {
            prewarm: Prewarm::new(config.clone(), parts.drivers.standard.clone(), capacity.clone()),
            config,
            drivers: parts.drivers,
            catalogue: parts.catalogue,
            folders: parts.folders,
            mounted: Arc::default(),
            capacity,
            refusals: Arc::default(),
            background: parts.background,
            tasks: TaskTracker::new(),
            live: AtomicUsize::new(0),
            starting: AtomicUsize::new(0),
            executing: AtomicUsize::new(0),
            evict,
        };
        let builder = Builder::new(parts.builds, parts.artifacts);
        Arc::new(Self { context: Arc::new(context), pools, making: Mutex::default(), builder })
    }

    pub(crate) fn pool(&self, target: &Arc<Target>) -> Arc<Pool> {
        let id = target.revision.id;
        if let Some(pool) = self.pools.pin().get(&id) {
            return pool.clone();
        }
        let _making = self.making.lock();
        let pools = self.pools.pin();
        pools.get_or_insert_with(id, || Pool::new(target.clone(), self.context.clone())).clone()
    }

    /// Keeps prewarmed sandboxes of a runtime for a contract ready: of every runtime that functions use, and of those that a new
    /// user is likely to ask for.
    pub fn prewarm(&self, runtime: &RuntimeName, contract: Contract) {
        if let Ok(installed) = self.context.catalogue.resolve(runtime) {
            self.context.prewarm.enable(installed.image_for(contract));
        }
    }

    /// Loads a target's code in a sandbox that is thrown away, and gone before this returns. Only what makes every call fail before the top
    /// level runs to its end is an error: code that does not parse, and a missing file or handler. Also says after how long
    /// there was a sandbox to load it in, if there ever was. Goes on to its end when dropped.
    pub async fn check(&self, target: &Target) -> (Option<Duration>, Result<(), LoadFailure>) {
        let (context, target) = (self.context.clone(), target.clone());
        // A sandbox that is loading has a place, which only its end gives back.
        let checking = async move {
            let sandbox_after = OnceLock::new();
            let checked = load_once(&context, &target, &sandbox_after).await;
            (sandbox_after.into_inner(), checked)
        };
        let checked = self.context.tasks.spawn_on(checking, &self.context.background).await;
        checked.unwrap_or_else(|error| {
            tracing::error!(%error, "the check at deploy is lost");
            (None, Ok(()))
        })
    }

    /// Makes sure that a target has at least `count` sandboxes, and its runtime prewarmed ones.
    pub fn warm_up(&self, target: &Arc<Target>, count: usize) {
        let config = &target.revision.config;
        self.prewarm(&config.runtime, config.contract);
        if count == 0 {
            return;
        }
        let pool = self.pool(target);
        pool.revive();
        let by = Deadline::at((Instant::now() + self.context.config.init_timeout).into_std());
        for _ in pool.size()..count {
            pool.warm_up(by);
        }
    }

    /// How many sandboxes a revision has.
    #[must_use]
    pub fn size(&self, revision: RevisionId) -> usize {
        self.pools.pin().get(&revision).map_or(0, |pool| pool.size())
    }

    /// Live sandboxes of all revisions, without prewarmed ones.
    #[must_use]
    pub fn live(&self) -> usize {
        self.context.live.load(Ordering::Relaxed)
    }

    /// Waits until a target has a sandbox that is ready, or `by` has passed.
    pub async fn wait_until_warm(&self, target: &Arc<Target>, by: Deadline) {
        // A slot that is taken and given straight back: exactly what the next call does.
        drop(self.pool(target).acquire(by).await);
    }

    /// Destroys a revision's sandboxes: unused ones now, the others when their calls have ended.
    pub fn retire(&self, revision: RevisionId) {
        if let Some(pool) = self.pools.pin().get(&revision) {
            pool.drain();
        }
    }

    /// Keeps pools filled and reaps unused sandboxes, until dropped. `kept` names the targets that must keep
    /// their `min_warm` sandboxes.
    pub async fn run(self: Arc<Self>, kept: impl Fn() -> Vec<Arc<Target>> + Send + 'static) {
        let context = self.context.clone();
        let refill = async move {
            let busy = || context.starting.load(Ordering::Relaxed) > 0;
            context.prewarm.run(busy).await;
        };
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                self.sweep(&kept());
            }
        };
        let limit = self.context.config.unpacked_limit;
        let trim = self.context.folders.keep_within(limit, |looked| match looked {
            Ok(Trimmed { folders: 0, .. }) => {}
            Ok(Trimmed { folders, bytes, .. }) => {
                tracing::info!(folders, bytes, "removed unpacked code that nothing has used lately");
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot keep unpacked code within its bound; it is tried again soon"
            ),
        });
        tokio::join!(refill, sweep, trim);
    }

    fn sweep(&self, kept: &[Arc<Target>]) {
        let pools: Vec<Arc<Pool>> = self.pools.pin().values().cloned().collect();
        for pool in pools {
            let (limits, id) = (&pool.target.revision.config.limits, pool.target.revision.id);
            let newest = kept.iter().any(|target| target.revision.id == id);
            let keep = if newest { limits.min_warm() as usize } else { 0 };
            pool.destroy_idle(limits.idle_timeout(), keep);
            if pool.is_unused() {
                let _making = self.making.lock();
                // Held by the map and by this loop alone, so no call is on its way into it.
                if Arc::strong_count(&pool) == 2 {
                    self.pools.pin().remove(&id);
                }
            }
        }
        for target in kept {
            let wanted = target.revision.config.limits.min_warm() as usize;
            if wanted > 0 && self.size(target.revision.id) < wanted {
                self.warm_up(target, wanted);
            }
        }
    }

    /// Destroys every sandbox, in use or not, and waits until all are gone.
    pub async fn shut_down(&self) {
        let pools: Vec<Arc<Pool>> = self.pools.pin().values().cloned().collect();
        for pool in pools {
            pool.destroy_all();
        }
        for sandbox in self.context.prewarm.take_all() {
            let sandbox = self.context.counted(sandbox);
            self.context.destroy(sandbox);
        }
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

/// Loads a target's code in a sandbox that is gone before this returns.
async fn load_once(
    context: &Arc<StartContext>,
    target: &Target,
    sandbox_after: &OnceLock<Duration>,
) -> Result<(), LoadFailure> {
    let by = Deadline::at((Instant::now() + context.config.init_timeout).into_std());
    match context.start(target, Some(sandbox_after), by).await {
        Ok((sandbox, _logs)) => {
            drop(context.destroy(sandbox).await);
            Ok(())
        }
        Err(StartError::Init(InitFailure::Reported(error), _)) if error.kind != InitErrorKind::Init => {
            Err(LoadFailure {
                class: error.class,
                message: error.message,
                file: error.file,
                line: error.line,
            })
        }
        Err(error) => {
            // The call will say the same if it lasts; a deploy is not refused for it.
            tracing::info!(?error, function = %target.function_name, "the check at deploy came to no end");
            Ok(())
        }
    }
}

/// Destroys the sandbox that has been unused longest; false if none is.
fn evict_longest_idle(pools: &Weak<Pools>) -> bool {
    let Some(pools) = pools.upgrade() else { return false };
    let pinned = pools.pin();
    let oldest =
        pinned.values().filter_map(|pool| Some((pool.longest_idle()?, pool))).min_by_key(|(at, _)| *at);
    oldest.is_some_and(|(_, pool)| pool.destroy_longest_idle())
}
