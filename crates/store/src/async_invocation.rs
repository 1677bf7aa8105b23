//! Asynchronous invocations: the truth about what was accepted and what became of it.

use async_trait::async_trait;
use impuls_domain::{AsyncInvocation, AsyncStatus, Completion, FunctionId, InvocationId};
use time::OffsetDateTime;

use crate::error::StoreError;

/// Which invocations to list: newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncInvocationPage {
    /// Only this function's.
    pub function: Option<FunctionId>,
    /// Only those that stand so.
    pub status: Option<AsyncStatus>,
    /// Skips so many.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
}

/// Which invocations to claim, and until when they are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The claimer's clock.
    pub now: OffsetDateTime,
    /// When others may claim them again unless the lease is renewed.
    pub lease_until: OffsetDateTime,
    /// At most so many.
    pub limit: u32,
}

/// Where asynchronous invocations are kept. What returned `Ok` is durable. Every call is atomic and may be dropped
/// half-way: it then either happened or did not. An invocation goes with its function.
#[async_trait]
pub trait AsyncInvocationStore: Send + Sync + 'static {
    /// Adds an invocation. Repeatable: one whose id exists is left as it is. [`StoreError::NotFound`] if its
    /// function does not exist.
    async fn enqueue(&self, invocation: &AsyncInvocation) -> Result<(), StoreError>;

    /// Takes invocations that wait and may be claimed, and those whose lease has expired, oldest first: each is then
    /// `Running` with the next attempt's number. Not repeatable.
    async fn claim(&self, claim: Claim) -> Result<Vec<AsyncInvocation>, StoreError>;

    /// Holds the attempts of running invocations longer; others are skipped. Repeatable.
    async fn renew(
        &self,
        attempts: &[(InvocationId, u32)],
        lease_until: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Stores how the attempt ended; false if the invocation is not running that attempt any more, and then nothing
    /// has changed. Not repeatable: false the second time.
    async fn complete(
        &self,
        id: InvocationId,
        attempt: u32,
        completion: &Completion,
    ) -> Result<bool, StoreError>;

    /// Puts an invocation back that the attempt could not run; false as for
    /// [`AsyncInvocationStore::complete`].
    async fn put_back(
        &self,
        id: InvocationId,
        attempt: u32,
        not_before: OffsetDateTime,
    ) -> Result<bool, StoreError>;

    /// One invocation; `None` if there is none.
    async fn find_async_invocation(&self, id: InvocationId) -> Result<Option<AsyncInvocation>, StoreError>;

    /// A page of invocations, newest first.
    async fn list_async_invocations(
        &self,
        page: AsyncInvocationPage,
    ) -> Result<Vec<AsyncInvocation>, StoreError>;

    /// Removes all finished invocations but the newest `keep`; true if there was anything to remove. Repeatable.
    async fn prune_async_invocations(&self, keep: u32) -> Result<bool, StoreError>;
}
