//! Adds offers to the stream and takes off what was settled, many in one round trip.

use std::sync::Arc;
use std::time::Duration;

use impuls_queue::{Offer, Receipt};
use tokio::sync::mpsc;

use crate::link::{GROUP, Link, STREAM};
use crate::queue::Shared;

/// Words that one round trip takes.
const BATCH: usize = 512;
/// How long a round trip may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Entries that the stream holds, about: the oldest go first, and the sweeps find them.
const LONGEST_STREAM: usize = 100_000;
/// The fields of an entry.
pub(crate) const INVOCATION: &str = "invocation";
pub(crate) const FUNCTION: &str = "function";

/// What is to be written.
#[derive(Debug)]
pub(crate) enum Word {
    Offer(Offer),
    Settled(Receipt),
}

/// Writes until nobody is left who could say anything.
pub(crate) async fn write(shared: Arc<Shared>, mut words: mpsc::Receiver<Word>) {
    let mut link = Link::new(&shared.server, &shared.health, ANSWER);
    let mut batch = Vec::with_capacity(BATCH);
    while words.recv_many(&mut batch, BATCH).await > 0 {
        let written = match link.connection().await {
            None => false,
            Some(connection) => {
                let written: redis::RedisResult<()> = pipeline(&batch).query_async(connection).await;
                written.map_err(|error| link.lost(&error)).is_ok()
            }
        };
        if !written && batch.iter().any(|word| matches!(word, Word::Offer(_))) {
            shared.lose();
        }
        batch.clear();
    }
}

fn pipeline(batch: &[Word]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for word in batch {
        match word {
            Word::Offer(Offer { invocation, function }) => {
                pipeline.cmd("XADD").arg(STREAM).arg("MAXLEN").arg("~").arg(LONGEST_STREAM).arg("*");
                pipeline.arg(INVOCATION).arg(invocation.to_string());
                pipeline.arg(FUNCTION).arg(function.to_string()).ignore();
            }
            Word::Settled(Receipt(entries)) if entries.is_empty() => {}
            Word::Settled(Receipt(entries)) => {
                pipeline.cmd("XACK").arg(STREAM).arg(GROUP).arg(entries).ignore();
                pipeline.cmd("XDEL").arg(STREAM).arg(entries).ignore();
            }
        }
    }
    pipeline
}
