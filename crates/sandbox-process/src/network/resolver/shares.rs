//! What keeps one function's sandboxes from taking the resolver from all others, however many they are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::{SHARE_IN_FLIGHT, SHARE_STREAMS};

/// What all sandboxes of one function may use at once.
#[derive(Debug)]
pub(in crate::network) struct Share {
    pub(super) in_flight: Semaphore,
    pub(super) streams: Arc<Semaphore>,
}

/// The shares of all functions that have sandboxes with a network.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: Mutex<HashMap<String, Weak<Share>>>,
}

impl Shares {
    /// That of a function, which lasts as long as one of its sandboxes.
    pub(super) fn of(&self, function_id: &str) -> Arc<Share> {
        let mut all = self.of.lock();
        if let Some(share) = all.get(function_id).and_then(Weak::upgrade) {
            return share;
        }
        all.retain(|_, share| share.strong_count() > 0);
        let streams = Arc::new(Semaphore::new(SHARE_STREAMS));
        let share = Arc::new(Share { in_flight: Semaphore::new(SHARE_IN_FLIGHT), streams });
        all.insert(function_id.to_owned(), Arc::downgrade(&share));
        share
    }
}

/// The connections that are silent, by how long.
#[derive(Debug, Default)]
pub(super) struct Idle {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_age: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One of them, until it is dropped.
pub(super) struct Silent<'a> {
    idle: &'a Idle,
    number: u64,
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        self.idle.waiting.lock().by_age.remove(&self.number);
    }
}

impl Idle {
    /// A connection is silent from now on; it is to end when the receiver resolves.
    pub(super) fn enter(&self) -> (Silent<'_>, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_age.insert(number, end);
        (Silent { idle: self, number }, ended)
    }

    /// Ends the one that has been silent longest; false if none is.
    pub(super) fn end_longest(&self) -> bool {
        let longest = self.waiting.lock().by_age.pop_first();
        longest.is_some_and(|(_, end)| end.send(()).is_ok())
    }
}
