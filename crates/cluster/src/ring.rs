//! Which worker runs a call: pure.
//!
//! Every function has an order of all workers, the same for whoever computes it (rendezvous hashing: each worker draws a
//! number for each key, and the highest comes first). The first is the key's *home*. When a worker joins, only keys move
//! whose home it becomes; when one leaves, only its own. Compared to points on a circle the shares are even without
//! hundreds of points for each worker, and there is nothing to keep.
//!
//! A call goes to its home unless that has more than its share of all calls (*bounded load*), and then to the next
//! worker of the order that has not.

/// How much more than its even share a worker may have before calls go to the next: a quarter.
const EXCESS: (usize, usize) = (5, 4);

/// A worker, as far as placing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// [`hash`] of its id.
    pub hash: u64,
    /// Calls that it has now.
    pub load: usize,
    /// Calls below which it is never too loaded: as many as it runs side by side without them being felt.
    pub ease: usize,
}

/// A number that every program computes from the same bytes (FNV-1a, with a finish that spreads it).
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    spread(fnv)
}

/// The finish of SplitMix64: every bit of the result depends on every bit given.
const fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const fn drawn(candidate: &Candidate, key: u64) -> u64 {
    spread(candidate.hash ^ spread(key.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The home of a key: the index of a candidate, or `None` if there is none.
#[must_use]
pub fn home(candidates: &[Candidate], key: u64) -> Option<usize> {
    let numbered = candidates.iter().enumerate();
    numbered.max_by_key(|(_, candidate)| (drawn(candidate, key), candidate.hash)).map(|(index, _)| index)
}

/// The most calls that a worker may have once one more call has been placed.
#[must_use]
pub fn bound(candidates: &[Candidate]) -> usize {
    let calls = candidates.iter().map(|candidate| candidate.load).sum::<usize>() + 1;
    (calls * EXCESS.0).div_ceil(EXCESS.1 * candidates.len().max(1))
}

/// Where one more call of a key goes: to the first in the key's order whose load stays within [`bound`] or its own ease.
#[must_use]
pub fn place(candidates: &[Candidate], key: u64) -> Option<usize> {
    let home = home(candidates, key)?;
    let bound = bound(candidates);
    let has_room = |candidate: &Candidate| candidate.load < bound.max(candidate.ease);
    if candidates.get(home).is_some_and(has_room) {
        return Some(home);
    }
    let numbered = candidates.iter().enumerate().filter(|(_, candidate)| has_room(candidate));
    let next = numbered.max_by_key(|(_, candidate)| (drawn(candidate, key), candidate.hash));
    // Somebody is always below the average.
    next.map(|(index, _)| index).or(Some(home))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn worker(name: usize, load: usize) -> Candidate {
        Candidate { hash: hash(format!("worker-{name}").as_bytes()), load, ease: 0 }
    }

    fn workers(count: usize) -> Vec<Candidate> {
        (0..count).map(|name| worker(name, 0)).collect()
    }

    fn home_of(candidates: &[Candidate], key: u64) -> u64 {
        candidates[home(candidates, key).unwrap()].hash
    }

    #[test]
    fn nobody_is_the_home_where_nobody_is() {
        assert_eq!(home(&[], 1), None);
        assert_eq!(place(&[], 1), None);
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        // Controllers of two releases must agree.
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"worker-1"), hash("worker-1".as_bytes()));
    }

    proptest! {
        #[test]
        fn shares_are_even(count in 1usize..12, seed: u64) {
            let (candidates, keys) = (workers(count), 4_000u64);
            let mut shares = vec![0usize; count];
            for key in 0..keys {
                shares[home(&candidates, hash(&(key ^ seed).to_le_bytes())).unwrap()] += 1;
            }
            let even = keys as usize / count;
            prop_assert!(shares.iter().all(|share| share * 2 > even && *share < even * 2), "{shares:?}");
        }

        #[test]
        fn only_the_keys_of_who_joins_or_leaves_move(count in 2usize..12, keys in prop::collection::vec(any::<u64>(), 50)) {
            let all = workers(count);
            let without = &all[..count - 1];
            let newest = all[count - 1].hash;
            for key in keys {
                let (before, after) = (home_of(without, key), home_of(&all, key));
                prop_assert!(before == after || after == newest);
            }
        }

        #[test]
        fn the_order_of_the_list_is_of_no_meaning(count in 1usize..12, key: u64, turn in 0usize..12) {
            let all = workers(count);
            let mut turned = all.clone();
            turned.rotate_left(turn % count);
            prop_assert_eq!(home_of(&all, key), home_of(&turned, key));
        }

        #[test]
        fn the_bound_is_kept(count in 1usize..8, keys in prop::collection::vec(0u64..3, 1..300)) {
            let mut candidates = workers(count);
            for key in keys {
                let bound = bound(&candidates);
                let placed = place(&candidates, key).unwrap();
                candidates[placed].load += 1;
                prop_assert!(candidates[placed].load <= bound);
            }
        }

        #[test]
        fn a_home_at_ease_has_its_calls(count in 1usize..8, key: u64, load in 0usize..10) {
            let mut candidates = workers(count);
            let home = home(&candidates, key).unwrap();
            candidates[home] = Candidate { load, ease: 10, ..candidates[home] };
            prop_assert_eq!(place(&candidates, key), Some(home));
        }
    }
}
