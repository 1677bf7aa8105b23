//! Records of invocations.

use async_trait::async_trait;
use impuls_domain::{FunctionId, Invocation, InvocationStatus};

use crate::error::StoreError;

/// Which records to list: newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvocationPage {
    /// Only records that ended so.
    pub status: Option<InvocationStatus>,
    /// Skips so many.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
}

/// Where the records of invocations are kept. Records are a log, not a promise: the writer may lose the last
/// moments when the process is killed.
#[async_trait]
pub trait InvocationStore: Send + Sync + 'static {
    /// Adds records in one commit, then drops the oldest records of each function named in the batch beyond
    /// `keep` (its retention). Records of functions that are gone are skipped; a record whose id exists is
    /// skipped, so a batch may be repeated.
    async fn append_invocations(&self, batch: &[Invocation], keep: u32) -> Result<(), StoreError>;

    /// A page of one function's records, newest first (by `started_at`, then id); empty if it is unknown.
    async fn list_invocations(
        &self,
        function: FunctionId,
        page: InvocationPage,
    ) -> Result<Vec<Invocation>, StoreError>;
}
