//! Builds as deploys need them: each made once, and found again afterwards.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use impuls_control::{BuildLog, BuildUnavailable};
use impuls_dispatch::{OnOutput, RunError};
use impuls_domain::{ArtifactDigest, Built, Revision};
use impuls_store::{BuildStore, StoreError};
use impuls_worker::{BuildPlan, LocalWorker, Planned};
use parking_lot::Mutex;
use time::OffsetDateTime;

/// Held while a build is made.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The builds of this server.
pub(crate) struct Builds {
    worker: Arc<LocalWorker>,
    store: Arc<dyn BuildStore>,
    /// Builds that are being made.
    flights: Mutex<HashMap<ArtifactDigest, Turn>>,
}

/// Part in a build. The last that lets go of it, finished or dropped half-way, leaves nothing behind.
struct Flight {
    builds: Arc<Builds>,
    key: ArtifactDigest,
    turn: Turn,
}

impl Flight {
    /// With whoever makes it already.
    fn of(builds: &Arc<Builds>, key: ArtifactDigest) -> Self {
        let turn = builds.flights.lock().entry(key).or_default().clone();
        Self { builds: builds.clone(), key, turn }
    }

    /// None if somebody makes it already.
    fn first(builds: &Arc<Builds>, key: ArtifactDigest) -> Option<Self> {
        let turn = Turn::default();
        match builds.flights.lock().entry(key) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(turn.clone()),
        };
        Some(Self { builds: builds.clone(), key, turn })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = self.builds.flights.lock();
        // One is in the map, one is here.
        if Arc::strong_count(&self.turn) == 2 {
            flights.remove(&self.key);
        }
    }
}

impl Builds {
    pub(crate) fn new(worker: Arc<LocalWorker>, store: Arc<dyn BuildStore>) -> Arc<Self> {
        Arc::new(Self { worker, store, flights: Mutex::default() })
    }

    /// Builds a revision's source unless it runs as it is, or the same was built before.
    pub(crate) async fn build(
        self: &Arc<Self>,
        revision: &Revision,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable> {
        let plan = match self.worker.plan_build(revision).await.map_err(failed)? {
            Planned::Nothing => return Ok(Built::AsIs),
            Planned::Impossible(failure) => return Ok(Built::Failed(failure)),
            Planned::Build(plan) => plan,
        };
        let seed = match &plan.seed {
            Some(seed) => self.seed(seed).await?,
            None => None,
        };
        self.make(&plan, seed.as_ref(), log).await
    }

    /// What builds of a language find prepared, if it is there yet. The first that asks has it made in the background: it would
    /// wait longer for that than its own build takes.
    async fn seed(self: &Arc<Self>, seed: &BuildPlan) -> Result<Option<ArtifactDigest>, BuildUnavailable> {
        let known = self.store.find_build(&seed.key).await.map_err(stored)?;
        if known.is_none()
            && let Some(flight) = Flight::first(self, seed.key)
        {
            let (builds, seed) = (self.clone(), seed.clone());
            tokio::spawn(async move {
                match builds.make_in(&flight, &seed, None, &BuildLog::nobody()).await {
                    Ok(Built::Archive(_)) => {}
                    other => tracing::warn!(
                        ?other,
                        "builds of a language stay slow: nothing could be prepared for them"
                    ),
                }
            });
        }
        Ok(known)
    }

    /// What a build came to, which is made unless it is known. Deploys of the same code at the same time wait for one
    /// build.
    async fn make(
        self: &Arc<Self>,
        plan: &BuildPlan,
        seed: Option<&ArtifactDigest>,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable> {
        self.make_in(&Flight::of(self, plan.key), plan, seed, log).await
    }

    async fn make_in(
        &self,
        flight: &Flight,
        plan: &BuildPlan,
        seed: Option<&ArtifactDigest>,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable> {
        let _making = flight.turn.lock().await;
        self.make_alone(plan, seed, log).await
    }

    async fn make_alone(
        &self,
        plan: &BuildPlan,
        seed: Option<&ArtifactDigest>,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable> {
        if let Some(archive) = self.store.find_build(&plan.key).await.map_err(stored)? {
            // It counts as used now, and so is not collected.
            self.store.put_build(&plan.key, &archive, OffsetDateTime::now_utc()).await.map_err(stored)?;
            return Ok(Built::Archive(archive));
        }
        let log = log.clone();
        let output = OnOutput::new(move |_, text| log.write(text));
        let built = self.worker.build(plan, seed, &output).await.map_err(failed)?;
        if let Built::Archive(archive) = &built {
            self.store.put_build(&plan.key, archive, OffsetDateTime::now_utc()).await.map_err(stored)?;
        }
        Ok(built)
    }
}

fn failed(error: RunError) -> BuildUnavailable {
    BuildUnavailable(error.into())
}

fn stored(error: StoreError) -> BuildUnavailable {
    BuildUnavailable(error.into())
}
