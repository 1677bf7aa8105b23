//! Those who wait for the end of an asynchronous invocation. Whoever stores an end wakes them; nobody asks the store
//! again and again.

use std::collections::HashMap;
use std::sync::Arc;

use impuls_domain::InvocationId;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Waiting at once, all together.
const MAX_WAITERS: usize = 10_000;

type Ends = Mutex<HashMap<InvocationId, watch::Sender<()>>>;

/// Who waits for what.
#[derive(Default)]
pub(crate) struct Waiters(Arc<Ends>);

/// One that waits; dropped, it does not any more.
pub(crate) struct Waiter {
    ends: Arc<Ends>,
    id: InvocationId,
    end: Option<watch::Receiver<()>>,
}

impl Waiters {
    /// Waits from now on, so that no end after this is missed; `None` if too many do.
    pub(crate) fn watch(&self, id: InvocationId) -> Option<Waiter> {
        let mut ends = self.0.lock();
        if ends.len() >= MAX_WAITERS && !ends.contains_key(&id) {
            return None;
        }
        let end = ends.entry(id).or_insert_with(|| watch::channel(()).0).subscribe();
        Some(Waiter { ends: self.0.clone(), id, end: Some(end) })
    }

    /// Tells all who wait for this one to look.
    pub(crate) fn wake(&self, id: InvocationId) {
        self.0.lock().remove(&id);
    }

    /// Tells all to look.
    pub(crate) fn wake_all(&self) {
        self.0.lock().clear();
    }
}

impl Waiter {
    /// Returns when it is time to look.
    pub(crate) async fn woken(&mut self) {
        if let Some(end) = &mut self.end {
            // Nothing is ever sent: the sender goes.
            while end.changed().await.is_ok() {}
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut ends = self.ends.lock();
        self.end = None;
        if ends.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            ends.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_wakes_all_who_wait_for_it_and_nobody_else() {
        let waiters = Waiters::default();
        let (one, other) = (InvocationId::new(), InvocationId::new());
        let mut waiting = [waiters.watch(one), waiters.watch(one)].map(Option::unwrap);
        let mut elsewhere = waiters.watch(other).unwrap();
        waiters.wake(one);
        for waiter in &mut waiting {
            waiter.woken().await;
        }
        assert!(tokio::time::timeout(std::time::Duration::ZERO, elsewhere.woken()).await.is_err());
        drop((waiting, elsewhere));
        assert!(waiters.0.lock().is_empty());
    }
}
