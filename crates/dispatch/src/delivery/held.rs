//! The attempts that this server holds: what it renews, and what can be stopped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use impuls_domain::{AsyncInvocation, InvocationId, Tally};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// The attempts that this server holds.
#[derive(Default)]
pub(crate) struct Held(Mutex<HashMap<InvocationId, Attempt>>);

pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) tally: Tally,
    pub(super) task: Option<AbortHandle>,
}

impl Held {
    /// Holds what was claimed.
    ///
    /// An earlier attempt whose lease ran out here is stopped: its end would be refused, and it must not run beside this one.
    pub(super) fn take(&self, claimed: &[AsyncInvocation]) {
        let mut held = self.0.lock();
        for AsyncInvocation { id, attempt, tally, .. } in claimed {
            let attempt = Attempt { number: *attempt, tally: *tally, task: None };
            if let Some(task) = held.insert(*id, attempt).and_then(|earlier| earlier.task) {
                task.abort();
            }
        }
    }

    /// Whether it still holds this attempt.
    pub(super) fn has(&self, attempt: &AsyncInvocation) -> bool {
        self.0.lock().get(&attempt.id).is_some_and(|held| held.number == attempt.attempt)
    }

    /// Makes a task stoppable, unless it has ended.
    pub(super) fn begun(&self, id: InvocationId, task: AbortHandle) {
        if let Some(attempt) = self.0.lock().get_mut(&id) {
            attempt.task = Some(task);
        }
    }

    /// Stops what this server does for an invocation; nothing if it does nothing.
    pub(crate) fn stop(&self, id: InvocationId) {
        let attempt = self.0.lock().remove(&id);
        if let Some(task) = attempt.and_then(|attempt| attempt.task) {
            task.abort();
        }
    }

    /// Stops these attempts, but no later ones.
    pub(super) fn stop_attempts(&self, attempts: impl Iterator<Item = (InvocationId, u32)>) {
        let mut held = self.0.lock();
        for (id, number) in attempts {
            if let Entry::Occupied(attempt) = held.entry(id)
                && attempt.get().number == number
                && let Some(task) = attempt.remove().task
            {
                task.abort();
            }
        }
    }

    /// Takes all of them, for whoever gives them back.
    pub(super) fn take_all(&self) -> Vec<(InvocationId, Attempt)> {
        self.0.lock().drain().collect()
    }

    /// Forgets an attempt, but no later one.
    pub(super) fn ended(&self, of: &AsyncInvocation) {
        let mut held = self.0.lock();
        if held.get(&of.id).is_some_and(|attempt| attempt.number == of.attempt) {
            held.remove(&of.id);
        }
    }

    /// All of them, with their numbers.
    pub(super) fn numbers(&self) -> Vec<(InvocationId, u32)> {
        self.0.lock().iter().map(|(id, attempt)| (*id, attempt.number)).collect()
    }
}
