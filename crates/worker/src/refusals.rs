//! What network policies refused, by function: sandboxes come and go, and what they were refused stays known.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use impuls_domain::{FunctionId, SandboxId};
use impuls_sandbox::{Refusals, Sandbox};
use parking_lot::Mutex;

/// Functions whose past refusals are remembered. Of more, those with the fewest are forgotten.
const FUNCTIONS: usize = 10_000;

/// The book that all pools share.
#[derive(Default)]
pub(crate) struct RefusalBook {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sandboxes with a network that are not known to be gone.
    live: HashMap<SandboxId, (FunctionId, Weak<dyn Sandbox>)>,
    /// Of sandboxes that are gone; only functions to which something was refused.
    past: HashMap<FunctionId, Refusals>,
}

impl RefusalBook {
    /// Notes that a sandbox is about to have a function's network.
    pub(crate) fn enter(&self, function: FunctionId, sandbox: &Arc<dyn Sandbox>) {
        let live = &mut self.state.lock().live;
        // A start that was dropped half-way has told nobody.
        live.retain(|_, (_, sandbox)| sandbox.strong_count() > 0);
        live.insert(sandbox.id(), (function, Arc::downgrade(sandbox)));
    }

    /// Notes that a sandbox has been destroyed. Repeatable.
    pub(crate) fn leave(&self, sandbox: &dyn Sandbox) {
        let mut state = self.state.lock();
        if let Some((function, _)) = state.live.remove(&sandbox.id()) {
            state.keep(function, sandbox.refusals());
        }
    }

    /// What a function was refused, in all.
    pub(crate) fn of(&self, function: FunctionId) -> Refusals {
        let state = self.state.lock();
        let past = state.past.get(&function).copied().unwrap_or_default();
        let own = state.live.values().filter(|(of, _)| *of == function);
        own.filter_map(|(_, sandbox)| sandbox.upgrade()).fold(past, |sum, own| sum.and(own.refusals()))
    }
}

impl State {
    fn keep(&mut self, function: FunctionId, more: Refusals) {
        if more.is_none() {
            return;
        }
        if self.past.len() >= FUNCTIONS && !self.past.contains_key(&function) {
            let fewest = self.past.iter().min_by_key(|(_, of)| of.packets.saturating_add(of.lookups));
            if let Some(function) = fewest.map(|(function, _)| *function) {
                self.past.remove(&function);
            }
        }
        let sum = self.past.entry(function).or_default();
        *sum = sum.and(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_fewest_go_first() {
        let mut state = State::default();
        let (often, once) = (FunctionId::new(), Refusals { packets: 1, lookups: 0 });
        state.keep(often, Refusals { packets: 5, lookups: 5 });
        state.keep(often, once);
        (0..FUNCTIONS * 2).for_each(|_| state.keep(FunctionId::new(), once));
        state.keep(FunctionId::new(), Refusals::default());
        assert_eq!(state.past.len(), FUNCTIONS);
        assert_eq!(state.past[&often], Refusals { packets: 6, lookups: 5 });
    }
}
