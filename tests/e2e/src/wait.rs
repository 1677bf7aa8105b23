//! Waiting for what will be true soon, with a bound.

use std::time::Duration;

use tokio::time::Instant;

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `probe` finds something; panics with `what` when it has found nothing in time.
pub async fn eventually<T>(what: &str, time: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "after {time:?} still not so: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The value of a future that must be ready in time; panics with `what` otherwise.
pub async fn within<T>(what: &str, time: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {time:?}: {what}"),
    }
}
