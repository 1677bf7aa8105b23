//! One read for all who ask for the same at the same time.
//!
//! Whoever asks while a read is on its way waits for the next one, which answers all who have come until it begins. So an answer is
//! never older than the question, as if each had read by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A value that is read somewhere else.
pub(crate) struct Shared<T> {
    /// How often it was asked for.
    asked: AtomicU64,
    /// How often it had been when the last read began, and what came of that; `None` if it failed.
    last: Mutex<Option<(u64, Option<T>)>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), last: Mutex::new(None) }
    }
}

impl<T: Clone> Shared<T> {
    /// What a read gives that begins after this: `read`, which begins when it is polled, or that of somebody else who asks
    /// for the same. May be dropped at any time.
    pub(crate) async fn get<E, F: Future<Output = Result<T, E>>>(&self, read: F) -> Result<T, E> {
        let place = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        match &*last {
            Some((until, Some(value))) if *until > place => return Ok(value.clone()),
            Some((until, None)) if *until > place => {
                // Why it failed is not for sharing, and who waits for one failure after the other waits for long.
                drop(last);
                return read.await;
            }
            _ => {}
        }
        let until = self.asked.load(Ordering::SeqCst);
        let found = read.await;
        *last = Some((until, found.as_ref().ok().cloned()));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    /// Reads that end when they are let; each gives its number.
    #[derive(Default)]
    struct Source {
        begun: AtomicU64,
        let_through: Option<Arc<Semaphore>>,
        fails: bool,
    }

    impl Source {
        async fn read(&self) -> Result<u64, u64> {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(gate) = &self.let_through {
                gate.acquire().await.unwrap().forget();
            }
            if self.fails { Err(number) } else { Ok(number) }
        }
    }

    #[tokio::test]
    async fn who_asks_one_after_the_other_reads_each_time() {
        let (shared, source) = (Shared::default(), Source::default());
        for number in 1..4 {
            assert_eq!(shared.get(source.read()).await, Ok(number));
        }
    }

    /// Five ask while a read is on its way, which then ends, as does the next; what the five are told.
    async fn five(fails: bool) -> (Vec<Result<u64, u64>>, u64) {
        let gate = Arc::new(Semaphore::new(0));
        let source = Arc::new(Source { let_through: Some(gate.clone()), fails, ..Source::default() });
        let shared = Arc::new(Shared::default());
        let ask = || {
            let (shared, source) = (shared.clone(), source.clone());
            tokio::spawn(async move { shared.get(source.read()).await })
        };
        let first = ask();
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..5).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(9);
        assert!(matches!(first.await.unwrap(), Ok(1) | Err(1)));
        let mut told = Vec::new();
        for other in others {
            told.push(other.await.unwrap());
        }
        (told, source.begun.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn who_asks_during_a_read_shares_the_next_one() {
        assert_eq!(five(false).await, (vec![Ok(2); 5], 2));
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_own() {
        let (told, begun) = five(true).await;
        assert!(told.iter().all(Result::is_err) && begun == 6, "{told:?}");
    }
}
