//! Sandboxes whose runtime is loaded and whose shim has made a dummy call, waiting for code.

use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use impuls_domain::{Deadline, RuntimeName};
use impuls_sandbox::{RuntimeImage, Sandbox, SandboxDriver, SandboxError, SandboxSpec};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::capacity::Capacity;
use crate::config::Config;
use crate::start::{unassigned, unassigned_limits};

/// Cold starts are remembered for so long when the size of a pool is decided.
const WINDOW: Duration = Duration::from_secs(10);
/// How long making one prewarmed sandbox may take.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refill waits for cold starts at a time, and how often.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSES: u32 = 10;
/// Pause after a failure to make one, doubled up to [`BACKOFF_MAX`] while failures go on.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How many prewarmed sandboxes of one runtime to keep: the base, and as many as were lately taken, within the
/// maximum. Pure.
#[derive(Debug, Default)]
struct Sizer {
    taken: VecDeque<Instant>,
}

impl Sizer {
    fn note_taken(&mut self, now: Instant, max: usize) {
        self.taken.push_back(now);
        if self.taken.len() > max {
            self.taken.pop_front();
        }
    }

    fn target(&mut self, now: Instant, base: usize, max: usize) -> usize {
        while self.taken.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.taken.pop_front();
        }
        (base + self.taken.len()).min(max)
    }
}

struct Ready {
    image: Arc<RuntimeImage>,
    sandboxes: Vec<Arc<dyn Sandbox>>,
    sizer: Sizer,
    /// What somebody asked to have ready, beyond the base.
    asked: usize,
}

impl Ready {
    fn target(&mut self, config: &Config) -> usize {
        let base = config.prewarm.max(self.asked.min(config.prewarm_max));
        self.sizer.target(Instant::now(), base, config.prewarm_max)
    }
}

/// The prewarmed sandboxes of every runtime that is in use.
pub(crate) struct Prewarm {
    config: Config,
    driver: Arc<dyn SandboxDriver>,
    capacity: Arc<Capacity>,
    ready: Mutex<HashMap<RuntimeName, Ready>>,
    /// Those that ended while they waited, to be destroyed.
    ended: Mutex<Vec<Arc<dyn Sandbox>>>,
    refill: Notify,
}

impl Prewarm {
    pub(crate) fn new(config: Config, driver: Arc<dyn SandboxDriver>, capacity: Arc<Capacity>) -> Self {
        Self {
            config,
            driver,
            capacity,
            ready: Mutex::default(),
            ended: Mutex::default(),
            refill: Notify::new(),
        }
    }

    /// Keeps sandboxes of this runtime ready from now on.
    pub(crate) fn enable(&self, image: &Arc<RuntimeImage>) {
        self.with(image, |_| ());
        self.refill.notify_one();
    }

    fn with<T>(&self, image: &Arc<RuntimeImage>, act: impl FnOnce(&mut Ready) -> T) -> T {
        let mut ready = self.ready.lock();
        let entry = ready.entry(image.name.clone());
        let new = || Ready { image: image.clone(), sandboxes: Vec::new(), sizer: Sizer::default(), asked: 0 };
        act(entry.or_insert_with(new))
    }

    /// A prewarmed sandbox, if there is one that is not known to have ended while it waited.
    pub(crate) fn take(&self, image: &Arc<RuntimeImage>) -> Option<Arc<dyn Sandbox>> {
        if self.config.prewarm == 0 {
            return None;
        }
        let (taken, ended) = self.with(image, |ready| {
            ready.sizer.note_taken(Instant::now(), self.config.prewarm_max);
            let mut ended = Vec::new();
            loop {
                match ready.sandboxes.pop() {
                    Some(sandbox) if has_ended(sandbox.as_ref()) => ended.push(sandbox),
                    other => break (other, ended),
                }
            }
        });
        self.ended.lock().extend(ended);
        self.refill.notify_one();
        taken
    }

    /// Keeps at least so many ready from now on, up to the maximum; nothing where prewarming is off.
    pub(crate) fn ask(&self, image: &Arc<RuntimeImage>, count: usize) {
        if self.config.prewarm > 0 {
            self.with(image, |ready| ready.asked = count);
            self.refill.notify_one();
        }
    }

    /// How many sandboxes of a runtime are waiting, and how many are kept.
    pub(crate) fn counts(&self, image: &RuntimeImage) -> (usize, usize) {
        let mut all = self.ready.lock();
        all.get_mut(&image.name).map_or((0, 0), |ready| (ready.sandboxes.len(), ready.target(&self.config)))
    }

    /// Takes every waiting sandbox out, for shutdown or when memory is short.
    pub(crate) fn take_all(&self) -> Vec<Arc<dyn Sandbox>> {
        let mut all = std::mem::take(&mut *self.ended.lock());
        all.extend(self.ready.lock().values_mut().flat_map(|ready| std::mem::take(&mut ready.sandboxes)));
        all
    }

    fn next_to_make(&self) -> Option<Arc<RuntimeImage>> {
        let config = &self.config;
        let mut ready = self.ready.lock();
        let missing = |ready: &mut Ready| {
            let target = ready.target(config);
            (target.saturating_sub(ready.sandboxes.len()), ready.image.clone())
        };
        let (count, short) = ready.values_mut().map(missing).max_by_key(|(count, _)| *count)?;
        if count == 0 {
            return None;
        }
        // Pools are a luxury: they leave twice the reserve to the sandboxes that calls need.
        self.capacity.has_plenty(short.idle_memory_mib).then_some(short)
    }

    /// Takes out what is beyond the present size, and what has ended.
    fn surplus(&self) -> Vec<Arc<dyn Sandbox>> {
        let config = &self.config;
        let surplus = |ready: &mut Ready| {
            let target = ready.target(config);
            ready.sandboxes.split_off(target.min(ready.sandboxes.len()))
        };
        let mut all = std::mem::take(&mut *self.ended.lock());
        all.extend(self.ready.lock().values_mut().flat_map(surplus));
        all
    }

    /// Has a place only once it is made, if one is left then: a call that starts meanwhile must not be refused for it.
    async fn make_one(&self, image: Arc<RuntimeImage>) -> Result<(), SandboxError> {
        let spec = SandboxSpec { prewarm: true, ..unassigned(&image, unassigned_limits()) };
        let by = Deadline::at((Instant::now() + CREATE_TIMEOUT).into_std());
        let sandbox = self.driver.create(spec, by).await?;
        let Some(place) = self.capacity.claim_place(image.idle_memory_mib) else {
            return sandbox.destroy().await;
        };
        place.keep();
        self.with(&image, |ready| ready.sandboxes.push(sandbox));
        Ok(())
    }

    /// Keeps the pools filled, one sandbox at a time, giving way while `busy` says that calls wait for a start.
    pub(crate) async fn run(&self, busy: impl Fn() -> bool) {
        let mut backoff = BACKOFF;
        loop {
            tokio::select! {
                () = self.refill.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            for sandbox in self.surplus() {
                self.capacity.give_back();
                if let Err(error) = sandbox.destroy().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot destroy a prewarmed sandbox"
                    );
                }
            }
            while let Some(image) = self.next_to_make() {
                give_way(&busy).await;
                match self.make_one(image.clone()).await {
                    Ok(()) => backoff = BACKOFF,
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, runtime = %image.name, "cannot prewarm");
                        tokio::time::sleep(backoff).await;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                    }
                }
            }
        }
    }
}

/// Whether a sandbox's end is known already.
fn has_ended(sandbox: &dyn Sandbox) -> bool {
    let mut exited = std::pin::pin!(sandbox.exited());
    exited.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Waits until cold starts, and the first calls that follow them, are through: a refill costs the machine more than
/// they do. Not for ever, because pools that are never filled would make every start a slow one.
async fn give_way(busy: impl Fn() -> bool) {
    for _ in 0..PAUSES {
        tokio::time::sleep(PAUSE).await;
        if !busy() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_grows_with_recent_cold_starts_and_shrinks_again() {
        let mut sizer = Sizer::default();
        let now = Instant::now();
        assert_eq!(sizer.target(now, 2, 8), 2);
        for _ in 0..3 {
            sizer.note_taken(now, 8);
        }
        assert_eq!(sizer.target(now, 2, 8), 5);
        for _ in 0..100 {
            sizer.note_taken(now, 8);
        }
        assert_eq!(sizer.target(now, 2, 8), 8, "never above the maximum");
        assert_eq!(sizer.target(now + WINDOW * 2, 2, 8), 2);
    }
}
