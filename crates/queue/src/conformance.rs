//! What every queue does. A back end names a function that opens an empty queue:
//!
//! ```ignore
//! async fn open() -> Scratch; // `impl AsRef<MyQueue> for Scratch`
//! impuls_queue::invocation_queue_conformance!(open);
//! ```
#![expect(clippy::expect_used, reason = "a case that cannot go on panics")]

use std::collections::HashSet;
use std::time::Duration;

use impuls_domain::{FunctionId, InvocationId};

use crate::{InvocationQueue, Offer};

/// How long anything may take before something is wrong.
const WITHIN: Duration = Duration::from_secs(20);

/// Makes a test of each case; a back end cannot leave one out. With the word `run` all cases run where the macro stands.
#[macro_export]
macro_rules! invocation_queue_conformance {
    (@cases run $open:path: $($case:ident),+ $(,)?) => {$(
        $crate::conformance::$case($open().await.as_ref()).await;
    )+};
    (@cases $open:path: $($case:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $case() {
            let queue = $open().await;
            $crate::conformance::$case(queue.as_ref()).await;
        }
    )+};
    ($($open:tt)+) => {
        $crate::invocation_queue_conformance!(
            @cases $($open)+: offers_are_taken_once_and_in_order, a_taker_waits_for_an_offer,
            a_taker_that_goes_takes_nothing_along, several_takers_share_the_offers
        );
    };
}

/// Offers that nobody has made before.
#[must_use]
pub fn offers(count: usize) -> Vec<Offer> {
    (0..count).map(|_| Offer { invocation: InvocationId::new(), function: FunctionId::new() }).collect()
}

/// Takes and settles until so many have come.
pub async fn take_all(queue: &impl InvocationQueue, count: usize, limit: usize) -> Vec<Offer> {
    let taking = async {
        let mut all = Vec::new();
        while all.len() < count {
            let taken = queue.take(limit).await;
            assert!(taken.offers.len() <= limit, "more than was asked for");
            all.extend(taken.offers);
            queue.settle(taken.receipt);
        }
        all
    };
    tokio::time::timeout(WITHIN, taking).await.expect("the offers come")
}

/// First in, first out, and no more at once than was asked for.
pub async fn offers_are_taken_once_and_in_order(queue: &impl InvocationQueue) {
    let all = offers(50);
    all.iter().for_each(|offer| queue.push(*offer));
    assert_eq!(take_all(queue, 50, 7).await, all);
}

/// Who takes before there is anything gets what comes.
pub async fn a_taker_waits_for_an_offer(queue: &impl InvocationQueue) {
    let all = offers(1);
    let (taken, ()) = tokio::join!(take_all(queue, 1, 9), async {
        tokio::task::yield_now().await;
        queue.push(all.first().copied().expect("an offer"));
    });
    assert_eq!(taken, all);
}

/// A taker that is dropped while it waits loses nothing.
pub async fn a_taker_that_goes_takes_nothing_along(queue: &impl InvocationQueue) {
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::from_millis(1), queue.take(9)).await.is_err());
    }
    let all = offers(5);
    all.iter().for_each(|offer| queue.push(*offer));
    assert_eq!(take_all(queue, 5, 9).await, all);
}

/// Nothing is handed out twice.
pub async fn several_takers_share_the_offers(queue: &impl InvocationQueue) {
    let all = offers(200);
    all.iter().for_each(|offer| queue.push(*offer));
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let taking = async {
        while left.len() + right.len() < all.len() {
            tokio::select! {
                taken = queue.take(3) => { left.extend(taken.offers); queue.settle(taken.receipt); }
                taken = queue.take(5) => { right.extend(taken.offers); queue.settle(taken.receipt); }
            }
        }
    };
    tokio::time::timeout(WITHIN, taking).await.expect("the offers come");
    let distinct: HashSet<Offer> = left.iter().chain(&right).copied().collect();
    assert_eq!((left.len() + right.len(), distinct), (200, all.into_iter().collect()));
}
