//! How many sandboxes this worker has room for.
//!
//! Every sandbox that there is, and every one that is being made for a call, has a place: many starts at the same time are
//! together what each would be alone. Where memory is short, what starts will need is counted against what the kernel says is
//! left. The one sandbox that a pool may be making is no start, and gets its place when it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::Config;
use crate::memory::MemoryGauge;

/// The places of one worker.
pub(crate) struct Capacity {
    places: usize,
    reserved_memory_mib: u64,
    memory: MemoryGauge,
    taken: AtomicUsize,
    /// What the sandboxes that are being made will need.
    starting_mib: AtomicU64,
}

/// A place for one sandbox that is being made; given back by drop.
pub(crate) struct Claim {
    capacity: Arc<Capacity>,
    mib: u32,
    kept: bool,
}

impl Capacity {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            places: config.max_sandboxes,
            reserved_memory_mib: config.reserved_memory_mib,
            memory: MemoryGauge::default(),
            taken: AtomicUsize::new(0),
            starting_mib: AtomicU64::new(0),
        })
    }

    /// A place for a sandbox that needs about `mib`, whatever memory is left.
    pub(crate) fn claim_place(self: &Arc<Self>, mib: u32) -> Option<Claim> {
        let free = |taken: usize| (taken < self.places).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok()?;
        self.starting_mib.fetch_add(u64::from(mib), Ordering::AcqRel);
        Some(Claim { capacity: self.clone(), mib, kept: false })
    }

    /// The same if the sandbox, and all that are being made, leave the reserve of memory untouched.
    pub(crate) fn claim(self: &Arc<Self>, mib: u32) -> Option<Claim> {
        let claim = self.claim_place(mib)?;
        let starting = self.starting_mib.load(Ordering::Acquire);
        self.memory.has_room(starting, self.reserved_memory_mib).then_some(claim)
    }

    /// Whether there is a place for a luxury, and twice the reserve of memory is left beside it.
    pub(crate) fn has_plenty(&self, mib: u32) -> bool {
        let needed = self.starting_mib.load(Ordering::Acquire) + u64::from(mib);
        self.taken.load(Ordering::Acquire) < self.places
            && self.memory.has_room(needed, self.reserved_memory_mib * 2)
    }

    /// Gives back the place of a sandbox that is being destroyed.
    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Claim {
    /// The sandbox has been made: its place is its own until [`Capacity::give_back`].
    pub(crate) fn keep(mut self) {
        self.kept = true;
        // What it uses now is in no reading yet.
        self.capacity.memory.forget();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.capacity.starting_mib.fetch_sub(u64::from(self.mib), Ordering::AcqRel);
        if !self.kept {
            self.capacity.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(max_sandboxes: usize, reserved_memory_mib: u64) -> Arc<Capacity> {
        Capacity::new(&Config { max_sandboxes, reserved_memory_mib, ..Config::default() })
    }

    #[test]
    fn a_place_is_given_back_unless_its_sandbox_was_made() {
        let capacity = capacity(2, 0);
        let (first, second) = (capacity.claim_place(1).unwrap(), capacity.claim_place(1).unwrap());
        assert!(capacity.claim_place(1).is_none());
        drop(first);
        second.keep();
        let third = capacity.claim_place(1).unwrap();
        assert!(capacity.claim_place(1).is_none());
        third.keep();
        capacity.give_back();
        assert!(capacity.claim_place(1).is_some());
    }

    #[test]
    fn what_is_being_made_counts_against_the_memory_that_is_left() {
        let left = MemoryGauge::default().available_mib().unwrap();
        let half = u32::try_from(left / 2).unwrap();
        let capacity = capacity(9, left / 8);
        let first = capacity.claim(half);
        assert!(first.is_some());
        assert!(capacity.claim(half).is_none(), "both at once");
        drop(first);
        assert!(capacity.claim(half).is_some());
    }
}
