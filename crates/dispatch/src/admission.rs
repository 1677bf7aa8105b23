//! Reserved concurrency: how many calls of one function run at once and how many may wait.
//!
//! `Gate` decides and is pure; `Admission` is its shell: a lock that belongs to one function, and a channel
//! for each call that waits.
//!
//! ```text
//!   arrive ──┬─ running < limit ────> Admitted ──(leave)──> the oldest waiting call is admitted
//!            ├─ waiting < queue ────> Queued ──(deadline or hang-up: abandon)
//!            └─ else ───────────────> Refused
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use impuls_domain::Deadline;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::DispatchError;

/// Bounds of every function.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionConfig {
    /// Calls of one function that may run at once when it sets no bound of its own. Default 10,000.
    pub default_limit: u32,
    /// Calls of one function that may wait when its bound is reached. Default 1,000.
    pub queue_limit: usize,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { default_limit: 10_000, queue_limit: 1_000 }
    }
}

/// What a refused caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Names a waiting call.
pub(crate) type Ticket = u64;

/// What becomes of a call that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Admitted,
    Queued(Ticket),
    Refused,
}

/// The decision, without time and threads.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: u32,
    queue_limit: usize,
    running: u32,
    waiting: VecDeque<Ticket>,
    next: Ticket,
}

impl Gate {
    pub(crate) const fn new(limit: u32, queue_limit: usize) -> Self {
        Self { limit, queue_limit, running: 0, waiting: VecDeque::new(), next: 0 }
    }

    pub(crate) fn arrive(&mut self) -> Arrival {
        if self.running < self.limit && self.waiting.is_empty() {
            self.running += 1;
            return Arrival::Admitted;
        }
        if self.waiting.len() >= self.queue_limit {
            return Arrival::Refused;
        }
        self.next += 1;
        self.waiting.push_back(self.next);
        Arrival::Queued(self.next)
    }

    /// A running call has ended; the tickets returned are admitted.
    pub(crate) fn leave(&mut self) -> Vec<Ticket> {
        self.running = self.running.saturating_sub(1);
        self.admit_waiting()
    }

    /// A waiting call does not wait any more; false if it had been admitted meanwhile (and must leave).
    pub(crate) fn abandon(&mut self, ticket: Ticket) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != ticket);
        self.waiting.len() < before
    }

    /// The bound has changed; the tickets returned are admitted.
    pub(crate) fn resize(&mut self, limit: u32) -> Vec<Ticket> {
        self.limit = limit;
        self.admit_waiting()
    }

    fn admit_waiting(&mut self) -> Vec<Ticket> {
        let mut admitted = Vec::new();
        while self.running < self.limit
            && let Some(ticket) = self.waiting.pop_front()
        {
            self.running += 1;
            admitted.push(ticket);
        }
        admitted
    }
}

struct State {
    gate: Gate,
    wakers: HashMap<Ticket, oneshot::Sender<Permit>>,
}

/// The admission of one function.
pub(crate) struct Admission {
    state: Mutex<State>,
    default_limit: u32,
}

/// The right to run one call; given back by drop.
pub(crate) struct Permit(Arc<Admission>);

impl Drop for Permit {
    fn drop(&mut self) {
        let admitted = self.0.state.lock().gate.leave();
        Admission::hand_over(&self.0, admitted);
    }
}

/// A place in the queue; given up by drop.
struct Place {
    admission: Arc<Admission>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        state.gate.abandon(self.ticket);
        state.wakers.remove(&self.ticket);
    }
}

impl Admission {
    pub(crate) fn new(config: AdmissionConfig, limit: Option<u32>) -> Arc<Self> {
        let gate = Gate::new(limit.unwrap_or(config.default_limit), config.queue_limit);
        let state = Mutex::new(State { gate, wakers: HashMap::new() });
        Arc::new(Self { state, default_limit: config.default_limit })
    }

    /// Takes effect for calls that arrive or wait; running ones go on.
    pub(crate) fn resize(self: &Arc<Self>, limit: Option<u32>) {
        let admitted = self.state.lock().gate.resize(limit.unwrap_or(self.default_limit));
        Self::hand_over(self, admitted);
    }

    /// Waits for the right to run, until the deadline.
    pub(crate) async fn admit(self: &Arc<Self>, by: Deadline) -> Result<Permit, DispatchError> {
        let throttled = || DispatchError::Throttled { retry_after: RETRY_AFTER };
        let (ticket, receiver) = {
            let mut state = self.state.lock();
            match state.gate.arrive() {
                Arrival::Admitted => return Ok(Permit(self.clone())),
                Arrival::Refused => return Err(throttled()),
                Arrival::Queued(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    state.wakers.insert(ticket, sender);
                    (ticket, receiver)
                }
            }
        };
        let _place = Place { admission: self.clone(), ticket };
        match tokio::time::timeout_at(by.instant().into(), receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(throttled()),
        }
    }

    /// Wakes admitted calls. One whose caller has gone meanwhile gives its permit straight back, which may
    /// admit the next.
    fn hand_over(this: &Arc<Self>, admitted: Vec<Ticket>) {
        for ticket in admitted {
            let permit = Permit(this.clone());
            let sender = this.state.lock().wakers.remove(&ticket);
            if let Some(sender) = sender {
                // A permit that cannot be delivered is dropped here, outside the lock, and so given back.
                drop(sender.send(permit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::time::Instant;

    #[derive(Clone, Debug)]
    enum Step {
        Arrive,
        Leave,
        AbandonOldest,
        Resize(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Arrive),
            3 => Just(Step::Leave),
            1 => Just(Step::AbandonOldest),
            1 => (1u32..6).prop_map(Step::Resize),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_nobody_waits_while_there_is_room(steps in steps()) {
            let (mut gate, mut limit) = (Gate::new(3, 5), 3);
            let (mut running, mut waiting) = (0u32, VecDeque::new());
            for step in steps {
                let admitted = match step {
                    Step::Arrive => {
                        match gate.arrive() {
                            Arrival::Admitted => { running += 1; prop_assert!(running <= limit); }
                            Arrival::Queued(ticket) => waiting.push_back(ticket),
                            Arrival::Refused => prop_assert_eq!(waiting.len(), 5),
                        }
                        Vec::new()
                    }
                    Step::Leave if running > 0 => { running -= 1; gate.leave() }
                    Step::Leave => Vec::new(),
                    Step::AbandonOldest => {
                        if let Some(ticket) = waiting.pop_front() { prop_assert!(gate.abandon(ticket)); }
                        Vec::new()
                    }
                    Step::Resize(new) => { limit = new; gate.resize(new) }
                };
                for ticket in admitted {
                    prop_assert_eq!(waiting.pop_front(), Some(ticket), "oldest first");
                    running += 1;
                    prop_assert!(running <= limit);
                }
                prop_assert!(waiting.is_empty() || running >= limit, "a call waits beside a free place");
                let distinct: HashSet<_> = waiting.iter().collect();
                prop_assert_eq!(distinct.len(), waiting.len());
            }
        }
    }

    fn soon() -> Deadline {
        Deadline::at(Instant::now() + Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_past_its_deadline_is_throttled_and_leaves_no_trace() {
        let admission = Admission::new(AdmissionConfig::default(), Some(1));
        let running = admission.admit(soon()).await.unwrap();
        let error = admission.admit(soon()).await.err().unwrap();
        assert!(matches!(error, DispatchError::Throttled { .. }));
        assert!(admission.state.lock().wakers.is_empty());
        drop(running);
        assert!(admission.admit(soon()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_caller_that_hangs_up_frees_its_place() {
        let admission = Admission::new(AdmissionConfig { default_limit: 1, queue_limit: 1 }, None);
        let running = admission.admit(soon()).await.unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit(soon()).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(
            matches!(admission.admit(soon()).await, Err(DispatchError::Throttled { .. })),
            "queue is full"
        );
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        drop(running);
        assert!(admission.admit(soon()).await.is_ok());
    }
}
