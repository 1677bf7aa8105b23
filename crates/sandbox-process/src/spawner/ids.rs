//! Host user ids of sandboxes.

use std::collections::BTreeSet;

/// The first of a range that nobody hands out by convention (systemd's UIDS-GIDS document calls it unused).
const BASE: u32 = 0x7000_0000;
/// Ids of one server.
pub(crate) const COUNT: u32 = 65_536;
/// Servers on one machine take different parts of the range, most likely.
const PARTS: u32 = 2_048;

/// Ids in use. An id comes back only when its sandbox is verified to be gone, and then rests the longest.
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

    /// An id that no live sandbox has.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let free = (0..COUNT).map(|n| (self.next + n) % COUNT).find(|n| !self.taken.contains(n))?;
        self.next = (free + 1) % COUNT;
        self.taken.insert(free);
        Some(self.first + free)
    }

    /// Gives an id back.
    pub(crate) fn give_back(&mut self, id: u32) {
        self.taken.remove(&id.wrapping_sub(self.first));
    }
}

/// Whether a map of ids (user_namespaces(7): first id inside, first outside, how many) has the whole range.
pub(crate) fn are_mapped(map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        first <= u64::from(BASE) && u64::from(BASE) + u64::from(PARTS) * u64::from(COUNT) <= first + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_maps_every_id_and_a_container_may_map_few() {
        assert!(are_mapped("         0          0 4294967295\n"));
        assert!(!are_mapped("         0     100000      65536\n"));
        assert!(!are_mapped(""));
    }

    #[test]
    fn an_id_is_not_taken_twice_and_rests_after_use() {
        let mut ids = HostIds::new(7);
        let (a, b) = (ids.take().unwrap(), ids.take().unwrap());
        assert_ne!(a, b);
        ids.give_back(a);
        assert_ne!(ids.take().unwrap(), a);
    }

    #[test]
    fn the_range_is_bounded_and_comes_back() {
        let mut ids = HostIds::new(u32::MAX);
        let all: Vec<u32> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(all.len(), COUNT as usize);
        assert!(all.iter().all(|id| (BASE..0x7fff_0000).contains(id)));
        ids.give_back(all[9]);
        assert_eq!(ids.take(), Some(all[9]));
    }
}
