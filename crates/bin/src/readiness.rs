//! Whether this server is ready, for those who probe it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use impuls_api::{Readiness, Ready};
use impuls_domain::FunctionId;
use impuls_store::{FunctionKey, FunctionStore};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer counts, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of this server. It is asked only once functions are loaded: before, no connection is accepted.
pub(crate) struct ServerReadiness {
    draining: AtomicBool,
    store: Arc<dyn FunctionStore>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl ServerReadiness {
    pub(crate) fn new(store: Arc<dyn FunctionStore>) -> Arc<Self> {
        Arc::new(Self { draining: AtomicBool::new(false), store, last: Mutex::default() })
    }

    /// From now on requests should go elsewhere.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the store answers. Others who ask meanwhile wait for the same answer.
    async fn has_store(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, answered)) = *last
            && at.elapsed() < FRESH
        {
            return answered;
        }
        // A function that nobody has: the cheapest thing that has to be looked up.
        let key = FunctionKey::Id(FunctionId::new());
        let found = tokio::time::timeout(PATIENCE, self.store.find_function(&key)).await;
        let answered = matches!(found, Ok(Ok(_)));
        *last = Some((Instant::now(), answered));
        answered
    }
}

#[async_trait]
impl Ready for ServerReadiness {
    async fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Relaxed) {
            Readiness::Draining
        } else if self.has_store().await {
            Readiness::Ready
        } else {
            Readiness::StoreUnavailable
        }
    }
}
