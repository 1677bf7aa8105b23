//! Records of invocations on their way to the store: bounded, in groups, never on the path of a call.
//!
//! Every function keeps its newest records in memory until the next flush. A function's log holds its newest
//! [`RecorderConfig::keep`] records anyway, so older ones that would be dropped from the store at once are
//! dropped here, before they cost a write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use impuls_domain::{FunctionId, Invocation, Logs};
use impuls_store::{InvocationPage, InvocationStore, StoreError};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::table::Entry;

/// Records that one commit takes.
const BATCH: usize = 1_000;

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
    flushing: tokio::sync::Mutex<()>,
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
                flushing: tokio::sync::Mutex::default(),
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

    /// Stores what has been noted before the call. A failure is logged and counted; the records are lost.
    pub async fn flush(&self) {
        let shared = &*self.shared;
        let _one_at_a_time = shared.flushing.lock().await;
        let dirty = std::mem::take(&mut *shared.dirty.lock());
        let mut batch = Vec::new();
        for entry in dirty {
            let records = std::mem::take(&mut entry.recent.lock().records);
            batch.extend(records);
            if batch.len() >= BATCH {
                self.store(&mut batch).await;
            }
        }
        self.store(&mut batch).await;
    }

    /// Stores what has been noted of one function before the call, as [`Recorder::flush`] does of all.
    async fn flush_function(&self, id: FunctionId) {
        let shared = &*self.shared;
        let _one_at_a_time = shared.flushing.lock().await;
        let entry = {
            let mut dirty = shared.dirty.lock();
            let at = dirty.iter().position(|entry| entry.id == id);
            at.map(|at| dirty.swap_remove(at))
        };
        let Some(entry) = entry else { return };
        let mut batch = Vec::from(std::mem::take(&mut entry.recent.lock().records));
        self.store(&mut batch).await;
    }

    async fn store(&self, batch: &mut Vec<Invocation>) {
        let shared = &*self.shared;
        for records in batch.chunks(BATCH) {
            if let Err(error) = shared.store.append_invocations(records, shared.config.keep).await {
                let lost =
                    shared.failures.fetch_add(records.len() as u64, Ordering::Relaxed) + records.len() as u64;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    lost,
                    "invocation records are lost"
                );
            }
        }
        let bytes: usize = batch.iter().map(text_bytes).sum();
        shared.log_bytes.fetch_sub(bytes, Ordering::Relaxed);
        batch.clear();
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
                return;
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
