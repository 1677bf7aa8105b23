//! The use cases' common ground: what they stand on, who may call them, the clock.

use std::future::Future;
use std::sync::Arc;

use impuls_artifacts::ArtifactStore;
use impuls_domain::{Caller, NetworkPolicy, RuntimeName};
use impuls_store::{
    AsyncInvocationStore, ClockStore, FunctionKey, FunctionSnapshot, FunctionStore, InvocationStore,
    ScheduleStore, VersionStore,
};
use time::OffsetDateTime;

use crate::error::ControlError;
use crate::input::FunctionRef;
use crate::lock::FunctionLocks;
use crate::rollout::Rollout;

/// The metadata stores.
#[derive(Clone)]
pub struct Stores {
    /// Functions and their revisions.
    pub functions: Arc<dyn FunctionStore>,
    /// Versions and aliases.
    pub versions: Arc<dyn VersionStore>,
    /// Records of invocations.
    pub invocations: Arc<dyn InvocationStore>,
    /// Asynchronous invocations.
    pub queue: Arc<dyn AsyncInvocationStore>,
    /// Schedules.
    pub schedules: Arc<dyn ScheduleStore>,
    /// The clock that schedules go by.
    pub clock: Arc<dyn ClockStore>,
}

/// Every use case on functions, versions and aliases. Deploys of one function through one `Control` run one after
/// the other; several servers on one store are kept apart by the store.
pub struct Control {
    pub(crate) stores: Stores,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) rollout: Arc<dyn Rollout>,
    pub(crate) locks: FunctionLocks,
    pub(crate) default_network: Box<dyn Fn() -> NetworkPolicy + Send + Sync>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// The use cases over these stores.
    #[must_use]
    pub fn new(stores: Stores, artifacts: Arc<dyn ArtifactStore>, rollout: Arc<dyn Rollout>) -> Self {
        let default_network = Box::new(|| NetworkPolicy::Off);
        Self { stores, artifacts, rollout, locks: FunctionLocks::default(), default_network }
    }

    /// The same, with the network of new functions that do not say which they want; without this, none.
    #[must_use]
    pub fn with_default_network(self, default_network: NetworkPolicy) -> Self {
        self.with_default_network_by(move || default_network.clone())
    }

    /// The same, where it depends on the workers that are there.
    #[must_use]
    pub fn with_default_network_by(
        self,
        network: impl Fn() -> NetworkPolicy + Send + Sync + 'static,
    ) -> Self {
        Self { default_network: Box::new(network), ..self }
    }

    /// The version name of the installed runtime that a name or alias means.
    pub fn resolve_runtime(&self, caller: &Caller, name: &RuntimeName) -> Result<RuntimeName, ControlError> {
        authorise(caller)?;
        Ok(self.rollout.resolve_runtime(name)?)
    }

    pub(crate) async fn find(&self, reference: &FunctionRef) -> Result<FunctionSnapshot, ControlError> {
        let found = self.stores.functions.find_function(&reference.0).await.map_err(ControlError::Store)?;
        if let (None, FunctionKey::Name(_, name)) = (&found, &reference.0) {
            let newest = FunctionKey::NewestNamed(name.clone());
            let newest = self.stores.functions.find_function(&newest).await.map_err(ControlError::Store)?;
            return newest.ok_or_else(|| reference.not_found());
        }
        found.ok_or_else(|| reference.not_found())
    }
}

pub(crate) fn authorise(caller: &Caller) -> Result<(), ControlError> {
    if caller.may_administer() { Ok(()) } else { Err(ControlError::Denied) }
}

/// The wall clock, cut to microseconds so that a value survives every store and every wire unchanged.
pub(crate) fn now() -> OffsetDateTime {
    micros(OffsetDateTime::now_utc())
}

/// An instant cut to microseconds.
pub(crate) fn micros(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_microsecond(at.microsecond()).unwrap_or(at)
}

/// Runs to the end even when nobody waits any more: a change that is stored must also reach calls.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ControlError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ControlError::Stopping),
        },
    }
}
