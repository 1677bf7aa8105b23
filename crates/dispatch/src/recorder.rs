//! Records of invocations on their way to the store: bounded, in groups, never on the path of a call.
//!
//! Every function keeps its newest records in memory until the next flush. A function's log holds its newest
//! [`RecorderConfig::keep`] records anyway, so older ones that would be dropped from the store at once are
//! dropped here, before they cost a write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use impuls_domain::{FunctionId, Invocation, Logs};
use impuls_store::{InvocationPage, InvocationStore, StoreError};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::table::Entry;

/// Records that one commit takes.
const BATCH: usize = 1_000;
/// Records that wait for a store that does not answer, over all functions; of one more the oldest is lost.
const UNSAVED: usize = 10_000;

/// Bounds of the records.
#[derive(Clone, Copy, Debug)]
pub struct RecorderConfig {
    /// Records that are kept of each function. Default 1,000.
    pub keep: u32,
    /// Time between two flushes. Default 500 ms.
    pub interval: Duration,
    /// Log text, events and responses of records that wait for a flush, in bytes, over all functions; beyond it records
    /// are kept without, with the length of the log counted as dropped. Default 64 MiB.
    pub pending_log_bytes: usize,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self { keep: 1_000, interval: Duration::from_millis(500), pending_log_bytes: 64 << 20 }
    }
}

/// The newest records of one function that are not stored yet.
#[derive(Default)]
pub(crate) struct Recent {
    records: VecDeque<Invocation>,
}

/// The writer of records; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    config: RecorderConfig,
    store: Arc<dyn InvocationStore>,
    dirty: Mutex<Vec<Arc<Entry>>>,
    log_bytes: AtomicUsize,
    failures: AtomicU64,
    /// The store refused the last time.
    is_waiting: AtomicBool,
    /// What the store did not take, oldest first; held by whoever flushes.
    unsaved: tokio::sync::Mutex<VecDeque<Invocation>>,
    stop: Notify,
}

fn log_bytes(record: &Invocation) -> usize {
    record.logs.lines().iter().map(|line| line.text.len()).sum()
}

fn text_bytes(record: &Invocation) -> usize {
    log_bytes(record) + record.exchange.as_ref().map_or(0, |exchange| exchange.kept_bytes())
}

fn has_text(record: &Invocation) -> bool {
    !record.logs.is_empty() || record.exchange.is_some()
}

impl Recorder {
    /// A recorder over this store; somebody must [`Recorder::run`] it.
    #[must_use]
    pub fn new(config: RecorderConfig, store: Arc<dyn InvocationStore>) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                store,
                dirty: Mutex::default(),
                log_bytes: AtomicUsize::new(0),
                failures: AtomicU64::new(0),
                is_waiting: AtomicBool::new(false),
                unsaved: tokio::sync::Mutex::default(),
                stop: Notify::new(),
            }),
        }
    }

    /// Notes a record; never waits.
    pub(crate) fn push(&self, entry: &Arc<Entry>, mut record: Invocation) {
        let shared = &*self.shared;
        if has_text(&record) {
            let bytes = text_bytes(&record);
            let pending = shared.log_bytes.fetch_add(bytes, Ordering::Relaxed);
            if pending + bytes > shared.config.pending_log_bytes {
                shared.log_bytes.fetch_sub(bytes, Ordering::Relaxed);
                let mut none = Logs::default();
                none.add_dropped(log_bytes(&record) as u64 + record.logs.dropped_bytes());
                record.logs = none;
                record.exchange = None;
            }
        }
        let overwritten = {
            let mut recent = entry.recent.lock();
            if recent.records.is_empty() {
                // Before the lock is free: whoever adds the next record has to find it noted that there are some.
                shared.dirty.lock().push(entry.clone());
            }
            let full = recent.records.len() >= shared.config.keep as usize;
            let overwritten = if full { recent.records.pop_front() } else { None };
            recent.records.push_back(record);
            overwritten
        };
        if let Some(record) = overwritten
            && has_text(&record)
        {
            shared.log_bytes.fetch_sub(text_bytes(&record), Ordering::Relaxed);
        }
    }

    /// Stores what has been noted before the call. What the store does not take waits for the next time, within a bound.
    pub async fn flush(&self) {
        let shared = &*self.shared;
        let mut unsaved = shared.unsaved.lock().await;
        let dirty = std::mem::take(&mut *shared.dirty.lock());
        for entry in dirty {
            unsaved.extend(std::mem::take(&mut entry.recent.lock().records));
            if unsaved.len() >= BATCH {
                self.store(&mut unsaved).await;
            }
        }
        self.store(&mut unsaved).await;
    }

    /// Stores what has been noted of one function before the call, as [`Recorder::flush`] does of all.
    async fn flush_function(&self, id: FunctionId) {
        let shared = &*self.shared;
        let mut unsaved = shared.unsaved.lock().await;
        let entry = {
            let mut dirty = shared.dirty.lock();
            let at = dirty.iter().position(|entry| entry.id == id);
            at.map(|at| dirty.swap_remove(at))
        };
        if let Some(entry) = entry {
            unsaved.extend(std::mem::take(&mut entry.recent.lock().records));
        }
        self.store(&mut unsaved).await;
    }

    /// Stores from the oldest on until the store refuses.
    async fn store(&self, unsaved: &mut VecDeque<Invocation>) {
        let shared = &*self.shared;
        while !unsaved.is_empty() {
            let count = unsaved.len().min(BATCH);
            let batch = unsaved.make_contiguous().get(..count).unwrap_or_default();
            if let Err(error) = shared.store.append_invocations(batch, shared.config.keep).await {
                if !shared.is_waiting.swap(true, Ordering::Relaxed) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot store records of calls; they wait until the store answers");
                }
                return self.lose(unsaved, unsaved.len().saturating_sub(UNSAVED));
            }
            self.forget(unsaved.drain(..count));
            if shared.is_waiting.swap(false, Ordering::Relaxed) {
                tracing::info!("records of calls are stored again");
            }
        }
    }

    fn lose(&self, unsaved: &mut VecDeque<Invocation>, count: usize) {
        if count > 0 {
            let lost = self.shared.failures.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            tracing::error!(lost, "invocation records are lost");
            self.forget(unsaved.drain(..count));
        }
    }

    /// The text of these does not wait any more.
    fn forget(&self, records: impl Iterator<Item = Invocation>) {
        let bytes: usize = records.map(|record| text_bytes(&record)).sum();
        self.shared.log_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The store as whoever lists records must see it: what has been answered is in it.
    #[must_use]
    pub fn up_to_date(&self) -> Arc<dyn InvocationStore> {
        Arc::new(UpToDate(self.clone()))
    }

    /// Flushes at the configured interval until [`Recorder::stop`], then once more.
    pub async fn run(self) {
        loop {
            let stopped = tokio::select! {
                () = tokio::time::sleep(self.shared.config.interval) => false,
                () = self.shared.stop.notified() => true,
            };
            self.flush().await;
            if stopped {
                let mut unsaved = self.shared.unsaved.lock().await;
                let left = unsaved.len();
                return self.lose(&mut unsaved, left);
            }
        }
    }

    /// Ends [`Recorder::run`].
    pub fn stop(&self) {
        self.shared.stop.notify_one();
    }
}

/// The store behind a recorder; a function's records are read only after those that wait have been stored.
struct UpToDate(Recorder);

#[async_trait]
impl InvocationStore for UpToDate {
    async fn append_invocations(&self, batch: &[Invocation], keep: u32) -> Result<(), StoreError> {
        self.0.shared.store.append_invocations(batch, keep).await
    }

    async fn list_invocations(
        &self,
        function: FunctionId,
        page: InvocationPage,
    ) -> Result<Vec<Invocation>, StoreError> {
        self.0.flush_function(function).await;
        self.0.shared.store.list_invocations(function, page).await
    }
}
