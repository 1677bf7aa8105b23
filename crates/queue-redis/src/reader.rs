//! Reads offers from the stream as one consumer of the group, when somebody wants some; on a connection of its own, because it
//! waits there. What a consumer that has died did not settle is taken over.

use std::sync::Arc;
use std::time::Duration;

use impuls_domain::{FunctionId, InvocationId};
use impuls_queue::{Offer, Receipt};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamInfoConsumersReply, StreamReadReply};
use redis::{FromRedisValue, RedisResult};
use tokio::time::Instant;

use crate::link::{GROUP, Link, STREAM, make_group};
use crate::queue::Shared;
use crate::writer::{FUNCTION, INVOCATION};

/// How long a read waits in the server.
const BLOCK: Duration = Duration::from_secs(1);
/// How long an answer may take, that wait included.
const ANSWER: Duration = Duration::from_secs(6);
/// How often it is looked for what others left.
const RECLAIM: Duration = Duration::from_secs(10);
/// How long an entry is its consumer's: longer than a claim in the store takes.
const LEFT_AFTER: Duration = Duration::from_secs(60);
/// After how long a consumer that holds nothing is gone.
const GONE_AFTER: Duration = Duration::from_secs(3_600);

/// Reads until it is dropped.
pub(crate) async fn read(shared: Arc<Shared>) {
    let mut link = Link::new(&shared.server, &shared.health, ANSWER);
    let mut reclaimed: Option<Instant> = None;
    loop {
        let wanted = shared.wanted().await;
        let Some(connection) = link.connection().await else {
            // Whoever waits looks at the store meanwhile.
            shared.lose();
            link.rest().await;
            continue;
        };
        // What others left is taken over by whoever has room for it, and only as much as that.
        let is_due = reclaimed.is_none_or(|last| last.elapsed() >= RECLAIM);
        let read = match is_due {
            true => left_behind(&shared, connection, wanted).await,
            false => offered(&shared, connection, wanted).await,
        };
        match read {
            Ok(entries) if is_due && entries.is_empty() => {
                reclaimed = Some(Instant::now());
                shared.want(wanted);
            }
            Ok(entries) => deliver(&shared, entries),
            // Somebody has emptied the database, maybe while this waited.
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => {
                shared.lose();
                if let Err(error) = make_group(connection).await {
                    link.lost(&error);
                }
            }
            Err(error) => {
                link.lost(&error);
                shared.lose();
            }
        }
    }
}

async fn offered(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    wanted: usize,
) -> RedisResult<Vec<StreamId>> {
    let reply: Option<StreamReadReply> = redis::cmd("XREADGROUP")
        .arg(&["GROUP", GROUP, &shared.consumer, "COUNT"])
        .arg(wanted)
        .arg("BLOCK")
        .arg(BLOCK.as_millis() as u64)
        .arg(&["STREAMS", STREAM, ">"])
        .query_async(connection)
        .await?;
    Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids).collect())
}

/// What others did not settle; and consumers that hold nothing and have not been seen for long go.
async fn left_behind(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    wanted: usize,
) -> RedisResult<Vec<StreamId>> {
    let reply: StreamAutoClaimReply = redis::cmd("XAUTOCLAIM")
        .arg(&[STREAM, GROUP, &shared.consumer])
        .arg(LEFT_AFTER.as_millis() as u64)
        .arg("0-0")
        .arg("COUNT")
        .arg(wanted)
        .query_async(connection)
        .await?;
    let consumers: StreamInfoConsumersReply =
        redis::cmd("XINFO").arg(&["CONSUMERS", STREAM, GROUP]).query_async(connection).await?;
    for consumer in consumers.consumers {
        let is_gone = consumer.pending == 0 && consumer.idle as u128 > GONE_AFTER.as_millis();
        if is_gone && consumer.name != shared.consumer {
            let _: u64 = redis::cmd("XGROUP")
                .arg(&["DELCONSUMER", STREAM, GROUP, &consumer.name])
                .query_async(connection)
                .await?;
        }
    }
    Ok(reply.claimed)
}

fn deliver(shared: &Shared, entries: Vec<StreamId>) {
    let mut nonsense = Vec::new();
    let mut ready = shared.ready.lock();
    for entry in entries {
        match offer(&entry) {
            Some(offer) => ready.push_back((offer, entry.id)),
            None => nonsense.push(entry.id),
        }
    }
    drop(ready);
    shared.stirred.notify_one();
    // Nobody of ours has written it; taken off, so that nobody reads it again.
    shared.settle(Receipt(nonsense));
}

fn offer(entry: &StreamId) -> Option<Offer> {
    let text = |field: &str| {
        let value = entry.map.get(field)?;
        String::from_redis_value(value.clone()).ok()
    };
    let invocation: InvocationId = text(INVOCATION)?.parse().ok()?;
    let function: FunctionId = text(FUNCTION)?.parse().ok()?;
    Some(Offer { invocation, function })
}
