//! One lock per function, so that deploys of one function queue up instead of running into each other.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use impuls_domain::FunctionId;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// How many entries may lie unused before they are swept out.
const SWEEP_ABOVE: usize = 64;

/// Proof that nobody else in this process changes the function. Clones are the same proof.
pub(crate) type FunctionGuard = Arc<OwnedMutexGuard<()>>;

/// The locks of functions that are being changed now.
#[derive(Debug, Default)]
pub(crate) struct FunctionLocks {
    live: Mutex<HashMap<FunctionId, Weak<tokio::sync::Mutex<()>>>>,
}

impl FunctionLocks {
    /// Waits until nobody else in this process changes the function.
    pub(crate) async fn lock(&self, id: FunctionId) -> FunctionGuard {
        let lock = self.entry(id);
        Arc::new(lock.lock_owned().await)
    }

    fn entry(&self, id: FunctionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut live = self.live.lock();
        if let Some(lock) = live.get(&id).and_then(Weak::upgrade) {
            return lock;
        }
        if live.len() > SWEEP_ABOVE {
            live.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        live.insert(id, Arc::downgrade(&lock));
        lock
    }
}
