//! Numbers that follow from a seed, so that what a test did by chance can be done again.

use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that repeats a test's numbers.
const VARIABLE: &str = "IMPULS_CHAOS_SEED";

/// SplitMix64.
pub struct Seed(u64);

impl Seed {
    /// A new one, or the one that the variable `IMPULS_CHAOS_SEED` names. It is printed, and so shown when the test fails.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "a seed comes from outside, and goes there"
    )]
    pub fn new(test: &str) -> Self {
        let given = std::env::var(VARIABLE).ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(now.as_nanos() as u64);
        println!("{test}: {VARIABLE}={seed}");
        Self(seed)
    }

    /// The next number below this one.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
