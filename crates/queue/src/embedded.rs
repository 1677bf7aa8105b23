//! The queue of one server: in its memory.

use std::collections::VecDeque;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::queue::{InvocationQueue, Offer, Receipt, Taken};

/// Offers that wait at most.
const WAITING: usize = 10_000;

/// Holds the newest offers in memory, for one server. What is one too many is lost, and so is everything when the server ends.
#[derive(Debug)]
pub struct EmbeddedQueue {
    state: Mutex<State>,
    stirred: Notify,
    bound: usize,
}

#[derive(Debug, Default)]
struct State {
    offers: VecDeque<Offer>,
    lost: bool,
}

impl Default for EmbeddedQueue {
    fn default() -> Self {
        Self::bounded(WAITING)
    }
}

impl EmbeddedQueue {
    /// A queue in which at most so many offers wait.
    #[must_use]
    pub fn bounded(bound: usize) -> Self {
        Self { state: Mutex::default(), stirred: Notify::new(), bound }
    }

    fn take_now(&self, limit: usize) -> Option<Taken> {
        let mut state = self.state.lock();
        let count = limit.min(state.offers.len());
        let offers: Vec<Offer> = state.offers.drain(..count).collect();
        let lost = std::mem::take(&mut state.lost);
        if !state.offers.is_empty() {
            self.stirred.notify_one();
        }
        (lost || !offers.is_empty()).then_some(Taken { offers, receipt: Receipt::default(), lost })
    }
}

#[async_trait]
impl InvocationQueue for EmbeddedQueue {
    fn push(&self, offer: Offer) {
        let mut state = self.state.lock();
        if state.offers.len() < self.bound {
            state.offers.push_back(offer);
        } else {
            state.lost = true;
        }
        self.stirred.notify_one();
    }

    async fn take(&self, limit: usize) -> Taken {
        loop {
            if let Some(taken) = self.take_now(limit) {
                return taken;
            }
            self.stirred.notified().await;
        }
    }

    fn settle(&self, _: Receipt) {}
}

#[cfg(test)]
mod tests {
    use impuls_domain::{FunctionId, InvocationId};

    use super::*;

    #[tokio::test]
    async fn what_is_one_too_many_is_lost_and_the_taker_is_told() {
        let queue = EmbeddedQueue::bounded(2);
        let offers: Vec<Offer> =
            (0..3).map(|_| Offer { invocation: InvocationId::new(), function: FunctionId::new() }).collect();
        offers.iter().for_each(|offer| queue.push(*offer));
        let first = queue.take(1).await;
        assert_eq!((first.offers.as_slice(), first.lost), (offers.get(..1).unwrap(), true));
        let second = queue.take(9).await;
        assert_eq!((second.offers.as_slice(), second.lost), (offers.get(1..2).unwrap(), false));
    }
}
