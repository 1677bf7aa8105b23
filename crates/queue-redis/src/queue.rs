//! The queue: what callers and the two tasks share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use impuls_queue::{InvocationQueue, Offer, Receipt, Taken};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::link::Health;
use crate::reader::read;
use crate::server::RedisServer;
use crate::writer::{Word, write};

/// When a reader that came back with nothing is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Offers and receipts that may wait to be written; one more is lost.
const WORDS: usize = 10_000;

/// One server's end of the stream that all servers of one Redis database share. A server that has room reads; what it
/// read and did not settle within a minute, because it died, another takes over. The stream holds about the newest 100,000 offers.
///
/// Redis may be away when this starts, and may go and come back, with or without what it held: until then everything is lost,
/// takers are told so, and the log says it once.
#[derive(Debug)]
pub struct RedisQueue {
    shared: Arc<Shared>,
    /// They end with the queue.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: RedisServer,
    pub(crate) health: Health,
    /// How the group knows this server.
    pub(crate) consumer: String,
    /// What was read, with its entry in the stream.
    pub(crate) ready: Mutex<VecDeque<(Offer, String)>>,
    /// There is something for takers.
    pub(crate) stirred: Notify,
    lost: AtomicBool,
    wanted: AtomicUsize,
    asked: Notify,
    words: mpsc::Sender<Word>,
}

impl RedisQueue {
    /// Connects in the background. Must run within a Tokio runtime.
    #[must_use]
    pub fn start(server: RedisServer) -> Self {
        let (words, written) = mpsc::channel(WORDS);
        let shared = Arc::new(Shared {
            server,
            health: Health::default(),
            consumer: uuid::Uuid::now_v7().to_string(),
            ready: Mutex::default(),
            stirred: Notify::new(),
            lost: AtomicBool::new(false),
            wanted: AtomicUsize::new(0),
            asked: Notify::new(),
            words,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(write(shared.clone(), written));
        tasks.spawn(read(shared.clone()));
        Self { shared, _tasks: tasks }
    }
}

impl Shared {
    /// Waits until somebody wants something, and says how much.
    pub(crate) async fn wanted(&self) -> usize {
        loop {
            let wanted = self.wanted.swap(0, Ordering::SeqCst);
            if wanted > 0 {
                return wanted;
            }
            self.asked.notified().await;
        }
    }

    /// Asks for so much.
    pub(crate) fn want(&self, count: usize) {
        self.wanted.store(count, Ordering::SeqCst);
        self.asked.notify_one();
    }

    /// Offers are lost, or may be.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.stirred.notify_one();
    }

    pub(crate) fn settle(&self, receipt: Receipt) {
        if !receipt.0.is_empty() {
            // If there is no room it is not settled, and is offered once more.
            drop(self.words.try_send(Word::Settled(receipt)));
        }
    }

    fn take_now(&self, limit: usize) -> Option<Taken> {
        let mut ready = self.ready.lock();
        let count = limit.min(ready.len());
        let (offers, entries): (Vec<Offer>, Vec<String>) = ready.drain(..count).unzip();
        if !ready.is_empty() {
            self.stirred.notify_one();
        }
        let lost = self.lost.swap(false, Ordering::SeqCst);
        (lost || !offers.is_empty()).then_some(Taken { offers, receipt: Receipt(entries), lost })
    }
}

#[async_trait]
impl InvocationQueue for RedisQueue {
    fn push(&self, offer: Offer) {
        if self.shared.words.try_send(Word::Offer(offer)).is_err() {
            self.shared.lose();
        }
    }

    async fn take(&self, limit: usize) -> Taken {
        loop {
            if let Some(taken) = self.shared.take_now(limit) {
                return taken;
            }
            self.shared.want(limit);
            // The reader may come back with nothing; then it is asked again.
            let _asked_again = tokio::time::timeout(ASK_AGAIN, self.shared.stirred.notified()).await;
        }
    }

    fn settle(&self, receipt: Receipt) {
        self.shared.settle(receipt);
    }
}
