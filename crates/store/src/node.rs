//! Which nodes run functions for the servers of one store.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::StoreError;

/// What a node says of itself. The store understands none of it but the two ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The name that it keeps when it is started again.
    pub id: String,
    /// One life of it: another each time it is started.
    pub session: Uuid,
    /// Everything else, as a JSON object.
    pub about: String,
}

/// The nodes that are there. Instants are those of the store's own clock, so nobody's clock has to be right.
#[async_trait]
pub trait NodeStore: Send + Sync + 'static {
    /// Says that a node lives, and what it says of itself; repeated while it does. False, and nothing has changed, if another
    /// session of this id was heard of less than `silence` ago.
    async fn announce_node(&self, node: &NodeRecord, silence: Duration) -> Result<bool, StoreError>;

    /// The nodes that were heard of less than `silence` ago, by id.
    async fn list_nodes(&self, silence: Duration) -> Result<Vec<NodeRecord>, StoreError>;

    /// Takes a session away; false if it is not there. Nodes that have been silent for `forgotten` go with it. Repeatable.
    async fn remove_node(&self, session: Uuid, forgotten: Duration) -> Result<bool, StoreError>;
}
