//! The Redis back end keeps every promise of the seam.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use impuls_queue_redis::{RedisQueue, RedisServer};
use impuls_testkit::SomeRedis;

struct Scratch {
    queue: RedisQueue,
    _server: SomeRedis,
}

impl AsRef<RedisQueue> for Scratch {
    fn as_ref(&self) -> &RedisQueue {
        &self.queue
    }
}

async fn open() -> Scratch {
    let server = tokio::task::spawn_blocking(SomeRedis::get).await.unwrap();
    let queue = RedisQueue::start(RedisServer::parse(server.url(), None).unwrap());
    Scratch { queue, _server: server }
}

#[tokio::test]
#[ignore = "needs redis"]
async fn offers_are_kept_as_the_seam_promises() {
    impuls_queue::invocation_queue_conformance!(run open);
}
