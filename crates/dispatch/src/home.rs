//! Reserved concurrency where calls come from several servers: decided in one place, the function's home.
//!
//! The servers in front bound how many calls of a function each of them sends and lets wait; that adds up to more than
//! the function may run. So its home, which all of them agree on, admits each call once more.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use impuls_domain::{Deadline, FunctionId};
use parking_lot::Mutex;

use crate::admission::{Admission, AdmissionConfig, Permit};
use crate::error::DispatchError;

/// Functions whose bounds are kept; of more, those that nobody calls are forgotten.
const FUNCTIONS: usize = 10_000;

/// The bounds of the functions that have their home here.
#[derive(Default)]
pub struct Home {
    gates: Mutex<HashMap<FunctionId, Arc<Admission>>>,
}

/// The right to run one call; given back by drop.
pub struct HomePermit(#[expect(dead_code, reason = "held for its drop")] Option<Permit>);

impl Home {
    /// Waits for the right to run a call of this function, until the deadline. A function without a bound has it at once.
    pub async fn admit(
        &self,
        function: FunctionId,
        limit: Option<NonZeroU32>,
        by: Deadline,
    ) -> Result<HomePermit, DispatchError> {
        let Some(limit) = limit else { return Ok(HomePermit(None)) };
        let gate = self.gate(function, limit);
        gate.admit(by).await.map(|permit| HomePermit(Some(permit)))
    }

    fn gate(&self, function: FunctionId, limit: NonZeroU32) -> Arc<Admission> {
        let limit = Some(limit.get());
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.get(&function) {
            // A deploy may have changed it.
            gate.resize(limit);
            return gate.clone();
        }
        if gates.len() >= FUNCTIONS {
            // Whoever runs or waits holds one more.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let config = AdmissionConfig::default();
        gates.entry(function).or_insert_with(|| Admission::new(config, limit)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_bound_holds_and_a_new_one_takes_effect() {
        let (home, function) = (Home::default(), FunctionId::new());
        let by = Deadline::at(Instant::now() + Duration::from_secs(1));
        let limit = |most| NonZeroU32::new(most);
        let first = home.admit(function, limit(1), by).await.unwrap();
        assert!(matches!(home.admit(function, limit(1), by).await, Err(DispatchError::Throttled { .. })));
        let by = Deadline::at(Instant::now() + Duration::from_secs(60));
        let second = home.admit(function, limit(2), by).await.unwrap();
        drop((first, second));
        assert!(home.admit(function, limit(1), by).await.is_ok());
        assert!(home.admit(function, None, by).await.is_ok());
    }
}
