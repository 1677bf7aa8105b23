//! Which workers there are: said by each in the shared store, read by everybody, kept in memory.
//!
//! A worker says so every second; one that has been silent for [`SILENCE`], by the store's clock, is gone. Everybody reads the list
//! as often, and less often the longer it is, so that what the store has to give grows with the nodes and not with their square.
//! While the store cannot be reached the last list stays in use, and who cannot be connected to is left alone for a while. When the
//! store is back, workers have [`SILENCE`] once more to say that they live: they could not before.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use impuls_runtimes::Elsewhere;
use impuls_store::{NodeRecord, NodeStore, StoreError};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use uuid::Uuid;

use crate::about::About;
use crate::client::Peer;
use crate::serving::Load;
use crate::trust::Trust;

/// How often a worker says that it lives, and how often that is read where there are few.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Workers with which the list is still read every [`INTERVAL`]; with twice as many it is every second one.
const FEW: usize = 100;
/// After how long without a word a worker is gone.
pub const SILENCE: Duration = Duration::from_secs(6);
/// How long saying so, and reading it, may take: a connection over which nothing comes any more is given up, and the next try has
/// another.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long who is gone stays in the store's table.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);
/// How long a worker that starts waits for its own name: its last life may not have been silent for long enough.
const NAME_WAIT: Duration = Duration::from_secs(10);

/// The workers, as last read.
pub struct Members {
    store: Arc<dyn NodeStore>,
    trust: Trust,
    peers: ArcSwap<Vec<Arc<Peer>>>,
    runtimes: ArcSwap<Elsewhere>,
    looks: watch::Sender<u64>,
    sight: Mutex<Sight>,
}

/// Whether the store's list can be believed where it lacks somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Clear,
    /// The store could not be asked the last time.
    Blind,
    /// It can be asked again, but not everybody may have been able to say anything until then.
    Dim(Instant),
}

impl Sight {
    /// After a look that the store has answered.
    fn cleared(self, now: Instant) -> Self {
        match self {
            Self::Blind => Self::Dim(now + SILENCE),
            Self::Dim(until) if now < until => self,
            Self::Clear | Self::Dim(_) => Self::Clear,
        }
    }
}

impl Members {
    /// An empty list of what this store will say. Workers are asked as nodes that this is shown to want it.
    #[must_use]
    pub fn new(store: Arc<dyn NodeStore>, trust: Trust) -> Arc<Self> {
        Arc::new(Self {
            store,
            trust,
            peers: ArcSwap::default(),
            runtimes: ArcSwap::from_pointee(Elsewhere::new([])),
            looks: watch::Sender::new(0),
            sight: Mutex::new(Sight::Clear),
        })
    }

    /// The workers; those that stop or cannot be reached among them.
    #[must_use]
    pub fn peers(&self) -> Arc<Vec<Arc<Peer>>> {
        self.peers.load_full()
    }

    /// The runtimes that they have together.
    #[must_use]
    pub fn runtimes(&self) -> Arc<Elsewhere> {
        self.runtimes.load_full()
    }

    /// Reads the list. On `Err` the last one stays.
    pub async fn look(&self) -> Result<(), StoreError> {
        let before = std::mem::replace(&mut *self.sight.lock(), Sight::Blind);
        // Dropped or failed here, this look has seen nothing.
        let records = self.store.list_nodes(SILENCE).await?;
        let sight = before.cleared(Instant::now());
        *self.sight.lock() = sight;
        let known = self.peers.load();
        let mut peers: Vec<Arc<Peer>> =
            records.into_iter().filter_map(|record| self.peer(&known, record)).collect();
        if sight != Sight::Clear {
            let unheard =
                known.iter().filter(|old| !old.stops() && peers.iter().all(|peer| peer.id() != old.id()));
            let unheard: Vec<Arc<Peer>> = unheard.cloned().collect();
            peers.extend(unheard);
        }
        let abouts: Vec<Arc<About>> = peers.iter().map(|peer| peer.about()).collect();
        let announced = abouts.iter().flat_map(|about| about.runtimes.iter().cloned());
        self.runtimes.store(Arc::new(Elsewhere::new(announced)));
        self.peers.store(Arc::new(peers));
        self.looks.send_modify(|looks| *looks += 1);
        Ok(())
    }

    fn peer(&self, known: &[Arc<Peer>], record: NodeRecord) -> Option<Arc<Peer>> {
        let NodeRecord { id, session, about } = record;
        let about: About = match serde_json::from_str(&about) {
            Ok(about) => about,
            Err(error) => {
                tracing::warn!(worker = %id, %error, "what a worker says of itself is not understood");
                return None;
            }
        };
        if let Some(peer) = known.iter().find(|peer| peer.session() == session) {
            peer.tell(about);
            return Some(peer.clone());
        }
        tracing::info!(worker = %id, address = %about.address, version = %about.version, "a worker has joined");
        Some(Arc::new(Peer::new(id, session, about, &self.trust)))
    }

    /// Keeps the list up to date, until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut is_blind = false;
        loop {
            let looked = timeout(PATIENCE, self.look()).await;
            match &looked {
                Ok(Err(error)) if !is_blind => {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot read which workers there are; the last list stays in use");
                }
                Err(_) if !is_blind => {
                    tracing::warn!(
                        "the store does not say which workers there are; the last list stays in use"
                    );
                }
                Ok(_) | Err(_) => {}
            }
            is_blind = !matches!(looked, Ok(Ok(())));
            tokio::time::sleep(pause(self.peers.load().len())).await;
        }
    }

    /// Waits until the list has been read again, but not after `by`; false if that has passed.
    pub(crate) async fn looked(&self, by: Instant) -> bool {
        let mut looks = self.looks.subscribe();
        looks.mark_unchanged();
        matches!(tokio::time::timeout_at(by, looks.changed()).await, Ok(Ok(())))
    }
}

/// How long after the list was read it is read again.
fn pause(workers: usize) -> Duration {
    let times = u32::try_from(workers.div_ceil(FEW)).unwrap_or(u32::MAX);
    INTERVAL.saturating_mul(times.max(1))
}

/// Says that a worker lives.
pub struct Announcer {
    store: Arc<dyn NodeStore>,
    id: String,
    session: Uuid,
    about: About,
    load: Arc<Load>,
}

/// Why a worker could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another worker has its name.
    #[error(
        "another worker with the id {0} is alive; give each a --worker-id of its own, or its own data folder"
    )]
    Taken(String),
    /// The store failed.
    #[error("cannot say to the metadata store that this worker is there")]
    Store(#[from] StoreError),
}

impl Announcer {
    /// A new life of the worker of this name. `about` is what does not change.
    #[must_use]
    pub fn new(store: Arc<dyn NodeStore>, id: String, about: About, load: Arc<Load>) -> Arc<Self> {
        Arc::new(Self { store, id, session: Uuid::now_v7(), about, load })
    }

    /// Joins. A former life of the same name that was killed is waited for.
    pub async fn join(&self) -> Result<(), JoinError> {
        let until = Instant::now() + NAME_WAIT;
        while !self.announce().await? {
            if Instant::now() >= until {
                return Err(JoinError::Taken(self.id.clone()));
            }
            tokio::time::sleep(INTERVAL / 4).await;
        }
        Ok(())
    }

    /// Says it once; false if another worker has its name.
    pub async fn announce(&self) -> Result<bool, StoreError> {
        let about =
            About { draining: self.load.is_draining(), load: self.load.calls(), ..self.about.clone() };
        let about = serde_json::to_string(&about).unwrap_or_default();
        let record = NodeRecord { id: self.id.clone(), session: self.session, about };
        self.store.announce_node(&record, SILENCE).await
    }

    /// Says it again and again, until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_heard = true;
        loop {
            ticks.tick().await;
            let announced = timeout(PATIENCE, self.announce()).await;
            let is_heard = matches!(announced, Ok(Ok(true)));
            match announced {
                Ok(Ok(false)) if was_heard => {
                    tracing::error!(id = %self.id, "another worker has taken this worker's id");
                }
                Ok(Err(error)) if was_heard => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot say that this worker lives");
                }
                Err(_) if was_heard => {
                    tracing::warn!("cannot say that this worker lives: the store does not answer");
                }
                Ok(_) | Err(_) => {}
            }
            was_heard = is_heard;
        }
    }

    /// Leaves.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.store.remove_node(self.session, FORGOTTEN).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// What the store does next; the last for ever.
    #[derive(Clone)]
    enum Answer {
        Lists(Vec<NodeRecord>),
        Fails,
        Hangs,
    }

    struct Scripted(Vec<Answer>, AtomicUsize);

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
            Arc::new(Self(answers.into_iter().collect(), AtomicUsize::new(0)))
        }

        async fn next(&self) -> Result<Vec<NodeRecord>, StoreError> {
            let turn = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1);
            match self.0[turn].clone() {
                Answer::Lists(nodes) => Ok(nodes),
                Answer::Fails => Err(StoreError::Full),
                Answer::Hangs => std::future::pending().await,
            }
        }
    }

    #[async_trait]
    impl NodeStore for Scripted {
        async fn announce_node(&self, _: &NodeRecord, _: Duration) -> Result<bool, StoreError> {
            self.next().await.map(|_| true)
        }

        async fn list_nodes(&self, _: Duration) -> Result<Vec<NodeRecord>, StoreError> {
            self.next().await
        }

        async fn remove_node(&self, _: Uuid, _: Duration) -> Result<bool, StoreError> {
            Ok(true)
        }
    }

    fn node(id: &str) -> NodeRecord {
        let about = serde_json::to_string(&About::default()).unwrap();
        NodeRecord { id: id.to_owned(), session: Uuid::now_v7(), about }
    }

    fn listed(members: &Members) -> Vec<String> {
        members.peers().iter().map(|peer| peer.id().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_workers_have_time_to_say_that_they_live() {
        let (one, two, again) = (node("one"), node("two"), node("two"));
        let store = Scripted::new([
            Answer::Lists(vec![one.clone(), two]),
            Answer::Fails,
            Answer::Lists(Vec::new()),
            Answer::Lists(vec![again.clone()]),
            Answer::Lists(vec![again.clone()]),
        ]);
        let members = Members::new(store, Trust::default());
        members.look().await.unwrap();
        members.look().await.unwrap_err();
        assert_eq!(listed(&members), ["one", "two"]);
        members.look().await.unwrap();
        assert_eq!(listed(&members), ["one", "two"]);
        // A new life of one of them is not the old one, which is gone.
        members.look().await.unwrap();
        assert_eq!(listed(&members), ["two", "one"]);
        assert_eq!(members.peers()[0].session(), again.session);
        tokio::time::advance(SILENCE).await;
        members.look().await.unwrap();
        assert_eq!(listed(&members), ["two"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_while_the_store_answers_is_gone_at_once() {
        let store = Scripted::new([Answer::Lists(vec![node("one")]), Answer::Lists(Vec::new())]);
        let members = Members::new(store, Trust::default());
        members.look().await.unwrap();
        members.look().await.unwrap();
        assert_eq!(listed(&members), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_asked_again_before_a_worker_is_forgotten() {
        let store = Scripted::new([Answer::Hangs, Answer::Lists(Vec::new())]);
        let announcer = Announcer::new(store.clone(), "one".to_owned(), About::default(), Arc::default());
        let announcing = tokio::spawn(announcer.run());
        tokio::time::sleep(SILENCE).await;
        announcing.abort();
        assert!(store.1.load(Ordering::SeqCst) >= 2);
        let looks = Scripted::new([Answer::Hangs, Answer::Lists(vec![node("one")])]);
        let members = Members::new(looks, Trust::default());
        let looking = tokio::spawn(members.clone().run());
        tokio::time::sleep(SILENCE).await;
        looking.abort();
        assert_eq!(listed(&members), ["one"]);
    }

    #[test]
    fn a_longer_list_is_read_less_often() {
        for (workers, seconds) in [(0, 1), (1, 1), (100, 1), (101, 2), (1_000, 10)] {
            assert_eq!(pause(workers), INTERVAL * seconds, "{workers}");
        }
    }
}
