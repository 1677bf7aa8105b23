//! Keeps the function table what the store says, where other servers change functions as well.
//!
//! A change is looked up and put into the table; nothing of it is on the path of a call. What is read may be older than
//! what this server deploys in the same moment, so its own deploys are looked at again as well (`rollout`): the last
//! look always comes after the last change.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use impuls_dispatch::Dispatch;
use impuls_domain::FunctionId;
use impuls_store::{FunctionKey, FunctionSnapshot, FunctionStore, StoreError};
use impuls_store_postgres::{Change, Changes};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::functions;

/// Changes that wait to be looked at; who tells one more waits.
const WAITING: usize = 256;
/// What is waited before a look that failed is repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// The way in for whoever knows of a change.
pub(crate) type Tell = mpsc::Sender<Change>;

/// The changes of a store that others use as well, from the store itself and from this server.
pub(crate) struct Heard {
    changes: Changes,
    tell: Tell,
    told: mpsc::Receiver<Change>,
}

/// Looks at changes and makes them effective here.
pub(crate) struct Feed {
    pub(crate) functions: Arc<dyn FunctionStore>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) rollout: Arc<dyn Follow>,
}

/// Makes what the store says effective here.
pub(crate) trait Follow: Send + Sync + 'static {
    /// A function is now like this.
    fn follow(&self, snapshot: &FunctionSnapshot);

    /// A function is gone.
    fn forget(&self, id: FunctionId);
}

impl Heard {
    /// What the store will tell.
    pub(crate) fn of(changes: Changes) -> Self {
        let (tell, told) = mpsc::channel(WAITING);
        Self { changes, tell, told }
    }

    /// The way in.
    pub(crate) fn tell(&self) -> Tell {
        self.tell.clone()
    }
}

impl Feed {
    /// Follows the store until the tasks are dropped. To be called when the table holds what was stored: the first thing
    /// that is heard is that anything may have changed.
    pub(crate) fn start(self, heard: Heard) -> JoinSet<()> {
        let Heard { mut changes, tell, told } = heard;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { while tell.send(changes.next().await).await.is_ok() {} });
        tasks.spawn(self.run(told));
        tasks
    }

    async fn run(self, mut told: mpsc::Receiver<Change>) {
        while let Some(change) = told.recv().await {
            while let Err(error) = self.look(change).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot look what other servers have changed"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn look(&self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Function(id) => self.look_at(id).await,
            Change::Anything => self.look_at_all().await,
        }
    }

    async fn look_at(&self, id: FunctionId) -> Result<(), StoreError> {
        match self.functions.find_function(&FunctionKey::Id(id)).await {
            Ok(Some(snapshot)) => self.rollout.follow(&snapshot),
            Ok(None) => self.rollout.forget(id),
            // It stays so however often it is looked at.
            Err(error @ StoreError::Damaged(_)) => functions::unreadable(id, &error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn look_at_all(&self) -> Result<(), StoreError> {
        // Taken before the store is read: what is deployed meanwhile is in neither.
        let known: HashSet<FunctionId> =
            self.dispatch.latest_targets().iter().map(|target| target.revision.function).collect();
        let found = functions::each(&*self.functions, |snapshot| self.rollout.follow(snapshot)).await?;
        for gone in known.difference(&found) {
            self.rollout.forget(*gone);
        }
        Ok(())
    }
}
