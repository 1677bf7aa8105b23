//! Host user ids of containers.

use std::collections::BTreeSet;

/// The second half of a range that nobody hands out by convention; the process driver takes from the first.
const BASE: u32 = 0x7800_0000;
/// Ids of one server.
const COUNT: u32 = 65_536;
/// Ids of one container: its root, who is nobody once it runs, and its user.
const STEP: u32 = 2;
/// Servers on one machine take different parts of the range, most likely.
const PARTS: u32 = 2_047;

/// Ids in use. They come back only when their container is gone, and then rest the longest.
#[derive(Debug)]
pub(crate) struct HostIds {
    first: u32,
    next: u32,
    taken: BTreeSet<u32>,
}

impl HostIds {
    /// None taken; `seed` chooses the part of the range.
    pub(crate) fn new(seed: u32) -> Self {
        Self { first: BASE + seed % PARTS * COUNT, next: 0, taken: BTreeSet::new() }
    }

    /// The first of two ids that no container has.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let all = (0..COUNT).step_by(STEP as usize);
        let free = all.map(|n| (self.next + n) % COUNT).find(|n| !self.taken.contains(n))?;
        self.next = (free + STEP) % COUNT;
        self.taken.insert(free);
        Some(self.first + free)
    }

    /// Gives them back.
    pub(crate) fn give_back(&mut self, first: u32) {
        self.taken.remove(&first.wrapping_sub(self.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_taken_twice_and_rest_after_use() {
        let mut ids = HostIds::new(7);
        let (a, b) = (ids.take().unwrap(), ids.take().unwrap());
        assert_eq!(b - a, 2);
        ids.give_back(a);
        assert_ne!(ids.take().unwrap(), a);
    }

    #[test]
    fn the_range_is_bounded_and_comes_back() {
        let mut ids = HostIds::new(u32::MAX);
        let all: Vec<u32> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(all.len(), (COUNT / STEP) as usize);
        assert!(all.iter().all(|id| (BASE..0x8000_0000).contains(id)));
        ids.give_back(all[9]);
        assert_eq!(ids.take(), Some(all[9]));
    }
}
