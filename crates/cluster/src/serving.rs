//! What a worker does for the cluster, whoever asks: over the network, or its own delivery loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use impuls_dispatch::{DispatchError, Duplex, Home, RunError, RunRequest};
use impuls_domain::Outcome;
use tokio::sync::Notify;

use crate::server::Host;

/// What a worker does at the moment.
#[derive(Default)]
pub struct Load {
    calls: AtomicUsize,
    draining: AtomicBool,
    ended: Notify,
}

/// One thing that a worker does; ended by drop.
pub(crate) struct Entered(Arc<Load>);

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

impl Load {
    /// How many calls, commands and builds it has.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether it takes nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Takes nothing new from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Waits until it does nothing.
    pub async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.calls() == 0 {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Entered(self.clone())
    }
}

/// A worker as the cluster uses it.
pub(crate) struct Serving {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) load: Arc<Load>,
    home: Home,
}

impl Serving {
    pub(crate) fn new(host: Arc<dyn Host>, load: Arc<Load>) -> Arc<Self> {
        Arc::new(Self { host, load, home: Home::default() })
    }

    /// Runs a call, once its function's own bound admits it.
    pub(crate) async fn run(
        &self,
        request: RunRequest,
        duplex: Option<Duplex>,
    ) -> Result<Outcome<Bytes>, RunError> {
        let function = request.target.revision.function;
        let admitted = self.home.admit(function, request.max_concurrency, request.deadline).await;
        let _permit = admitted.map_err(|refusal| RunError::QueueFull { retry_after: wait(&refusal) })?;
        self.host.worker().run(request, duplex).await
    }
}

/// What a refused caller is told to wait.
fn wait(refusal: &DispatchError) -> Duration {
    match refusal {
        DispatchError::Throttled { retry_after } => *retry_after,
        _ => Duration::from_secs(1),
    }
}
