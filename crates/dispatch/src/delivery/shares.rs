//! What each function may hold of the attempts that run at once. Pure but for [`Share`], which counts by its life.
//!
//! A function holds no more than its share, and no more than it lets run at once (`max_concurrency`): more would only wait for
//! its admission, in the place of others.

use std::collections::HashMap;
use std::sync::Arc;

use impuls_domain::FunctionId;
use parking_lot::Mutex;

/// Who holds how many.
#[derive(Debug)]
pub(super) struct Shares {
    share: u32,
    /// Functions that let fewer run at once than the share.
    narrow: HashMap<FunctionId, u32>,
    held: HashMap<FunctionId, u32>,
    freed: bool,
}

impl Shares {
    /// Nobody holds anything; each may hold so many.
    pub(super) fn new(share: u32) -> Self {
        Self { share, narrow: HashMap::new(), held: HashMap::new(), freed: false }
    }

    /// What a function may hold that is not narrow.
    pub(super) const fn share(&self) -> u32 {
        self.share
    }

    /// From now on these are the narrow ones. What they hold beyond it runs on.
    pub(super) fn limit(&mut self, narrow: HashMap<FunctionId, u32>) {
        self.narrow = narrow;
    }

    /// How many more a function may hold.
    pub(super) fn room(&self, function: FunctionId) -> u32 {
        let most = self.narrow.get(&function).map_or(self.share, |narrow| self.share.min(*narrow));
        most.saturating_sub(self.held.get(&function).copied().unwrap_or_default())
    }

    /// The room of every function that has less than the share.
    pub(super) fn rooms(&self) -> Vec<(FunctionId, u32)> {
        let only_held = self.held.keys().filter(|function| !self.narrow.contains_key(function));
        let rooms = self.narrow.keys().chain(only_held).map(|function| (*function, self.room(*function)));
        rooms.filter(|(_, room)| *room < self.share).collect()
    }

    /// A function holds one more.
    fn begun(&mut self, function: FunctionId) {
        *self.held.entry(function).or_default() += 1;
    }

    /// A function holds one less.
    fn ended(&mut self, function: FunctionId) {
        self.freed |= self.room(function) == 0;
        if let Some(held) = self.held.get_mut(&function) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&function);
            }
        }
    }

    /// Whether a function that had no room has had one end since the last time this was asked: rows of it were passed over.
    pub(super) fn was_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }
}

/// One attempt that a function holds, until it is dropped.
pub(super) struct Share {
    shares: Arc<Mutex<Shares>>,
    function: FunctionId,
}

impl Share {
    /// The function holds one more from now on.
    pub(super) fn begun(shares: &Arc<Mutex<Shares>>, function: FunctionId) -> Self {
        shares.lock().begun(function);
        Self { shares: shares.clone(), function }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.lock().ended(self.function);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_holds_more_than_was_given_and_every_full_function_is_told(
            steps in prop::collection::vec((0usize..4, any::<bool>(), 0u32..5), 0..200)
        ) {
            let functions: Vec<FunctionId> = (0..4).map(|_| FunctionId::new()).collect();
            let shares = Arc::new(Mutex::new(Shares::new(3)));
            let mut held: HashMap<FunctionId, Vec<Share>> = HashMap::new();
            for (which, begins, narrow) in steps {
                let function = functions[which];
                if narrow > 0 {
                    shares.lock().limit([(functions[0], narrow)].into());
                }
                let room = shares.lock().room(function);
                let most = if which == 0 { shares.lock().narrow.get(&function).map_or(3, |n| 3.min(*n)) } else { 3 };
                let mine = held.entry(function).or_default();
                prop_assert_eq!(room, most.saturating_sub(mine.len() as u32));
                let told = shares.lock().rooms().into_iter().find(|(id, _)| *id == function);
                prop_assert_eq!(told.map_or(3, |(_, room)| room), room);
                if begins && room > 0 {
                    mine.push(Share::begun(&shares, function));
                } else if let Some(share) = mine.pop() {
                    shares.lock().was_freed();
                    drop(share);
                    prop_assert_eq!(shares.lock().was_freed(), room == 0);
                }
            }
            held.clear();
            prop_assert!(shares.lock().held.is_empty());
        }
    }
}
