//! What a worker does for the cluster, whoever asks: over the network, or its own delivery loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use impuls_dispatch::{DispatchError, Duplex, ExecuteRequest, Executed, Home, RunError, RunRequest};
use impuls_domain::{ErrorType, Failure, Outcome};
use tokio::sync::Notify;

use crate::server::Host;

/// What a worker does at the moment.
#[derive(Default)]
pub struct Load {
    calls: AtomicUsize,
    draining: AtomicBool,
    cut_off: AtomicBool,
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

    /// To be said before sandboxes are ended that still run calls: what ends with them is no failure of theirs.
    pub fn cut_off(&self) {
        self.cut_off.store(true, Ordering::SeqCst);
    }

    fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::SeqCst)
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
        let ended = self.host.worker().run(request, duplex).await;
        match &ended {
            Ok(Outcome { result: Err(failure), .. }) if self.load.is_cut_off() && ends_so(failure) => {
                Err(lost())
            }
            _ => ended,
        }
    }

    /// Runs a command.
    pub(crate) async fn execute(&self, request: ExecuteRequest) -> Result<Executed, RunError> {
        let executed = self.host.worker().execute(request).await?;
        if self.load.is_cut_off() && executed.exit_code.is_none() {
            return Err(lost());
        }
        Ok(executed)
    }
}

fn lost() -> RunError {
    RunError::WorkerLost("that was stopped".to_owned())
}

/// Whether a call fails so whose sandbox is ended.
const fn ends_so(failure: &Failure) -> bool {
    match failure.error_type {
        ErrorType::Exited | ErrorType::OutOfMemory | ErrorType::InitError | ErrorType::PlatformError => true,
        ErrorType::FunctionError
        | ErrorType::Timeout
        | ErrorType::BadResponse
        | ErrorType::Cancelled
        | ErrorType::HookError => false,
    }
}

/// What a refused caller is told to wait.
fn wait(refusal: &DispatchError) -> Duration {
    match refusal {
        DispatchError::Throttled { retry_after } => *retry_after,
        _ => Duration::from_secs(1),
    }
}
