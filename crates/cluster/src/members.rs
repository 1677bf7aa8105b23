//! Which workers there are: said by each in the shared store, read by everybody, kept in memory.
//!
//! A worker says so every second; one that has been silent for [`SILENCE`], by the store's clock, is gone. While the store
//! cannot be reached the last list stays in use, and who cannot be connected to is left alone for a while.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use impuls_runtimes::Elsewhere;
use impuls_store::{NodeRecord, NodeStore, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use uuid::Uuid;

use crate::about::About;
use crate::client::Peer;
use crate::serving::Load;
use crate::trust::Trust;

/// How often a worker says that it lives, and how often that is read.
pub const INTERVAL: Duration = Duration::from_secs(1);
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
        let records = self.store.list_nodes(SILENCE).await?;
        let known = self.peers.load();
        let peers: Vec<Arc<Peer>> =
            records.into_iter().filter_map(|record| self.peer(&known, record)).collect();
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
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_blind = false;
        loop {
            ticks.tick().await;
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
        }
    }

    /// Waits until the list has been read again, but not after `by`; false if that has passed.
    pub(crate) async fn looked(&self, by: Instant) -> bool {
        let mut looks = self.looks.subscribe();
        looks.mark_unchanged();
        matches!(tokio::time::timeout_at(by, looks.changed()).await, Ok(Ok(())))
    }
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
