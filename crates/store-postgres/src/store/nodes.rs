//! The nodes that run functions.

use std::time::Duration;

use async_trait::async_trait;
use impuls_store::{NodeRecord, NodeStore, StoreError};
use uuid::Uuid;

use super::PostgresStore;
use crate::transaction::bounded;

/// Seconds, as PostgreSQL multiplies intervals.
fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

// `clock_timestamp()`, because `now()` is when the transaction began.
#[async_trait]
impl NodeStore for PostgresStore {
    async fn announce_node(&self, node: &NodeRecord, silence: Duration) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "INSERT INTO impuls_nodes AS n (id, session, about, seen_at) VALUES ($1, $2, $3, clock_timestamp()) \
             ON CONFLICT (id) DO UPDATE \
             SET session = excluded.session, about = excluded.about, seen_at = clock_timestamp() \
             WHERE n.session = excluded.session \
             OR n.seen_at <= clock_timestamp() - $4 * interval '1 second'",
        );
        let query = query.bind(&node.id).bind(node.session).bind(&node.about).bind(seconds(silence));
        let done = bounded("announcing a node", query.execute(&self.heartbeats)).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn list_nodes(&self, silence: Duration) -> Result<Vec<NodeRecord>, StoreError> {
        let query = sqlx::query_as::<_, (String, Uuid, String)>(
            "SELECT id, session, about FROM impuls_nodes \
             WHERE seen_at > clock_timestamp() - $1 * interval '1 second' ORDER BY id COLLATE \"C\"",
        );
        let rows = bounded("listing nodes", query.bind(seconds(silence)).fetch_all(&self.heartbeats)).await?;
        Ok(rows.into_iter().map(|(id, session, about)| NodeRecord { id, session, about }).collect())
    }

    async fn remove_node(&self, session: Uuid, forgotten: Duration) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(
            "WITH gone AS (DELETE FROM impuls_nodes WHERE session = $1 \
             OR seen_at <= clock_timestamp() - $2 * interval '1 second' RETURNING session) \
             SELECT count(*) FROM gone WHERE session = $1",
        );
        let query = query.bind(session).bind(seconds(forgotten));
        Ok(bounded("removing a node", query.fetch_one(&self.heartbeats)).await? > 0)
    }
}
