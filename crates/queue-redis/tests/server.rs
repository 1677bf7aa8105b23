//! Several servers on one Redis, which goes and comes back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use impuls_queue::conformance::{offers, take_all};
use impuls_queue::{InvocationQueue as _, Offer};
use impuls_queue_redis::{RedisQueue, RedisServer};
use impuls_testkit::{Redis, RedisOptions};

/// How long a queue may take to notice that Redis is back.
const RECOVERY: Duration = Duration::from_secs(30);

async fn start(options: RedisOptions) -> Redis {
    tokio::task::spawn_blocking(move || Redis::start(options)).await.unwrap()
}

async fn changed(mut redis: Redis, change: fn(&mut Redis)) -> Redis {
    let changed = tokio::task::spawn_blocking(move || {
        change(&mut redis);
        redis
    });
    changed.await.unwrap()
}

fn queue(redis: &Redis) -> RedisQueue {
    RedisQueue::start(RedisServer::parse(&redis.url(), None).unwrap())
}

/// Offers again and again until one comes through, as new calls would.
async fn recovers(queue: &RedisQueue) {
    let again = async {
        loop {
            queue.push(offers(1)[0]);
            let taken = tokio::time::timeout(Duration::from_secs(1), queue.take(9)).await;
            if taken.is_ok_and(|taken| !taken.offers.is_empty()) {
                return;
            }
        }
    };
    tokio::time::timeout(RECOVERY, again).await.unwrap();
}

#[tokio::test]
#[ignore = "needs redis"]
async fn what_one_server_offers_another_takes() {
    let redis = start(RedisOptions::default()).await;
    let (one, other) = (queue(&redis), queue(&redis));
    let all = offers(300);
    all.iter().for_each(|offer| one.push(*offer));
    assert_eq!(take_all(&other, 300, 64).await, all);
    // Settled offers are in nobody's way.
    let emptied = async {
        while redis.command(&["XLEN", "impuls:invocations"]) != "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(RECOVERY, emptied).await.unwrap();
}

#[tokio::test]
#[ignore = "needs redis"]
async fn a_queue_outlives_its_redis_and_says_that_offers_are_lost() {
    let redis = start(RedisOptions::default()).await;
    let queue = queue(&redis);
    recovers(&queue).await;
    let redis = changed(redis, Redis::kill).await;
    queue.push(offers(1)[0]);
    let told = async { while !queue.take(9).await.lost {} };
    tokio::time::timeout(RECOVERY, told).await.unwrap();
    let redis = changed(redis, Redis::resume).await;
    recovers(&queue).await;
    redis.command(&["FLUSHALL"]);
    recovers(&queue).await;
}

#[tokio::test]
#[ignore = "needs redis"]
async fn a_queue_may_start_before_its_redis() {
    let redis = changed(start(RedisOptions::default()).await, Redis::kill).await;
    let queue = queue(&redis);
    assert!(tokio::time::timeout(RECOVERY, queue.take(9)).await.unwrap().lost);
    let _redis = changed(redis, Redis::resume).await;
    recovers(&queue).await;
}

#[tokio::test]
#[ignore = "needs redis, openssl"]
async fn tls_is_checked_against_the_authority_that_is_named() {
    let redis = start(RedisOptions { tls: true }).await;
    let authority = std::fs::read(redis.authority()).unwrap();
    let trusting = RedisQueue::start(RedisServer::parse(&redis.url(), Some(authority)).unwrap());
    let all: Vec<Offer> = offers(3);
    all.iter().for_each(|offer| trusting.push(*offer));
    assert_eq!(take_all(&trusting, 3, 9).await, all);
    let doubting = queue(&redis);
    trusting.push(all[0]);
    let taken = tokio::time::timeout(RECOVERY, doubting.take(9)).await.unwrap();
    assert!(taken.lost && taken.offers.is_empty(), "{taken:?}");
}
