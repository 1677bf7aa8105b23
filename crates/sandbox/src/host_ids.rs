//! Ids of users on the host that nobody but one sandbox has, out of ranges that nobody hands out by convention (systemd's
//! UIDS-GIDS document calls them unused).

use std::collections::BTreeSet;

/// Ids of one server.
pub const COUNT: u32 = 65_536;

/// Where the servers of one driver take their ids from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id.
    pub base: u32,
    /// How many servers have ids of their own. They take different parts of the range, most likely.
    pub parts: u32,
    /// Ids of one sandbox; divides [`COUNT`].
    pub step: u32,
}

/// Ids in use. They come back only when their sandbox is verified to be gone, and then rest the longest.
#[derive(Debug)]
pub struct HostIds {
    first: u32,
    step: u32,
    next: u32,
    taken: BTreeSet<u32>,
}

impl HostIds {
    /// None taken; `seed` chooses the part of the range.
    #[must_use]
    pub const fn new(range: IdRange, seed: u32) -> Self {
        let first = range.base + seed % range.parts * COUNT;
        Self { first, step: range.step, next: 0, taken: BTreeSet::new() }
    }

    /// The first of the ids of a sandbox, which no live one has. `None` if all are taken.
    pub fn take(&mut self) -> Option<u32> {
        let all = (0..COUNT).step_by(self.step as usize);
        let free = all.map(|n| (self.next + n) % COUNT).find(|n| !self.taken.contains(n))?;
        self.next = (free + self.step) % COUNT;
        self.taken.insert(free);
        Some(self.first + free)
    }

    /// Gives them back.
    pub fn give_back(&mut self, first: u32) {
        self.taken.remove(&first.wrapping_sub(self.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: IdRange = IdRange { base: 0x7000_0000, parts: 2_048, step: 2 };

    #[test]
    fn ids_are_not_taken_twice_and_rest_after_use() {
        let mut ids = HostIds::new(RANGE, 7);
        let (a, b) = (ids.take().unwrap(), ids.take().unwrap());
        assert_eq!(b - a, RANGE.step);
        ids.give_back(a);
        assert_ne!(ids.take().unwrap(), a);
    }

    #[test]
    fn a_range_is_bounded_and_comes_back() {
        for step in [1, 2] {
            let mut ids = HostIds::new(IdRange { step, ..RANGE }, u32::MAX);
            let all: Vec<u32> = std::iter::from_fn(|| ids.take()).collect();
            assert_eq!(all.len(), (COUNT / step) as usize);
            assert!(all.iter().all(|id| (RANGE.base..RANGE.base + RANGE.parts * COUNT).contains(id)));
            ids.give_back(all[9]);
            assert_eq!(ids.take(), Some(all[9]));
        }
    }
}
