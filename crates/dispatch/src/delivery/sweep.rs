//! When the rows are looked at for what the queue did not offer. While the store cannot be reached, that is said once and tried
//! again after pauses.

use std::time::Duration;

use impuls_store::StoreError;
use tokio::time::Instant;

/// What is waited after a claim that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether and when to sweep.
#[derive(Debug)]
pub(super) struct Sweep {
    /// There may be rows that nobody will offer.
    pub(super) is_due: bool,
    /// Until when the store is left alone.
    failed_until: Option<Instant>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { is_due: true, failed_until: None }
    }
}

impl Sweep {
    /// Whether to look now.
    pub(super) fn may_begin(&self) -> bool {
        self.is_due && self.failed_until.is_none_or(|until| until <= Instant::now())
    }

    /// Whether the store refused the last time.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed_until.is_some()
    }

    /// So many were found; there may be more unless it was none.
    pub(super) fn claimed(&mut self, count: usize) {
        self.is_due = count > 0;
        if self.failed_until.take().is_some() {
            tracing::info!("invocations can be claimed again");
        }
    }

    /// The store refused.
    pub(super) fn failed(&mut self, error: &StoreError) {
        self.is_due = true;
        if self.failed_until.replace(Instant::now() + PAUSE).is_none() {
            tracing::warn!(error = error as &dyn std::error::Error, "cannot claim invocations");
        }
    }
}
