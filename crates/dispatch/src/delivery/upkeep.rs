//! What goes on beside delivery, whatever that waits for: leases are renewed, and what ended long ago is removed.

use std::sync::Arc;

use impuls_store::Pruning;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Delivery;

/// Finished invocations that one commit removes.
const PRUNED: u32 = 500;
/// Renewals of which one must come through within a lease.
const BEATS_PER_LEASE: u32 = 3;

impl Delivery {
    /// Starts both; they end with the set.
    pub(super) fn upkeep(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().beat());
        tasks.spawn(self.clone().prune_again_and_again());
        tasks
    }

    async fn beat(self: Arc<Self>) {
        let beat = self.config.lease / BEATS_PER_LEASE;
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            beats.tick().await;
            // One that hangs must not cost the next.
            if timeout(beat, self.renew()).await.is_err() {
                tracing::warn!("cannot renew leases: the store does not answer in time");
            }
        }
    }

    pub(super) async fn renew(&self) {
        let held = self.dispatch.held.numbers();
        let clock = self.dispatch.clock.steady().await;
        match self.store.renew(&held, clock.now() + self.config.lease).await {
            // Among them is what ended while it was asked; its task may be stopped before it wakes anybody.
            Ok(lost) => {
                // By the time of the answer a later attempt may run here.
                let attempts = held.into_iter().filter(|(id, _)| lost.contains(id));
                self.dispatch.held.stop_attempts(attempts);
                lost.into_iter().for_each(|id| self.dispatch.waiters.wake(id));
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot renew leases");
            }
        }
    }

    async fn prune_again_and_again(self: Arc<Self>) {
        let mut rounds = interval(self.config.pruning);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once.
        rounds.tick().await;
        loop {
            rounds.tick().await;
            self.prune().await;
        }
    }

    async fn prune(&self) {
        for (dead_letters, keep) in [(false, self.config.finished), (true, self.config.dead)] {
            let ended_before = self.dispatch.clock.now() - keep.age;
            let pruning = Pruning { dead_letters, ended_before, keep: keep.count, limit: PRUNED };
            // However many there are: a round that ended before would be overtaken by what is accepted.
            loop {
                match self.dispatch.queue.prune_async_invocations(pruning).await {
                    Ok(removed) if removed < u64::from(PRUNED) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot remove old invocations"
                        );
                        break;
                    }
                }
            }
        }
    }
}
