//! Asynchronous invocations: the truth about what was accepted and what became of it.
//!
//! [`AsyncInvocationStore`] is the side of those who submit and look, [`DeliveryStore`] that of the workers. One back end
//! implements both over the same rows.

use async_trait::async_trait;
use impuls_domain::{
    AsyncInvocation, AsyncSettings, AsyncStatus, Completion, Failure, FunctionId, InvocationId, Tally,
};
use time::OffsetDateTime;

use crate::error::StoreError;

/// Which invocations to list: newest first, by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncInvocationPage {
    /// Only this function's.
    pub function: Option<FunctionId>,
    /// Only those that stand so.
    pub status: Option<AsyncStatus>,
    /// Only those accepted at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Only those accepted before this time.
    pub until: Option<OffsetDateTime>,
    /// Only those with ids before this one.
    pub before: Option<InvocationId>,
    /// Skips so many.
    pub offset: u32,
    /// At most so many.
    pub limit: u32,
    /// Without what may be large: events, contexts, results and logs are empty.
    pub is_brief: bool,
}

/// Which dead letters to drive again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetters {
    /// This one.
    One(InvocationId),
    /// The oldest of a function that were dead letters by then, at most so many.
    Of(FunctionId, u32),
}

/// Which finished invocations to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruning {
    /// Dead letters, or everything else that is finished.
    pub dead_letters: bool,
    /// All that ended before this time.
    pub ended_before: OffsetDateTime,
    /// All but so many of the newest.
    pub keep: u32,
    /// No more than so many at once, so that nobody waits for long.
    pub limit: u32,
}

/// Which invocations to claim, and until when they are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The time, by the clock that everybody goes by ([`ClockStore`](crate::ClockStore)).
    pub now: OffsetDateTime,
    /// When others may claim them again unless the lease is renewed.
    pub lease_until: OffsetDateTime,
    /// At most so many. Fewer may be claimed although there are more, if many of the oldest are of functions that have no
    /// room; so nothing is left only when nothing is claimed.
    pub limit: u32,
    /// At most so many of one function.
    pub share: u32,
    /// Functions of which at most so many instead; those with 0 are passed over, however many of theirs are older.
    pub rooms: Vec<(FunctionId, u32)>,
    /// Only these; `None` for whatever may be claimed.
    pub only: Option<Vec<InvocationId>>,
}

/// What is known of an attempt that did not end its invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// When the next may begin.
    pub not_before: OffsetDateTime,
    /// What has gone wrong so far, this attempt included.
    pub tally: Tally,
    /// Why the attempt failed; `None` keeps what is stored.
    pub failure: Option<Failure>,
}

/// Where asynchronous invocations are accepted and looked up. What returned `Ok` is durable. Every call is atomic and may
/// be dropped half-way: it then either happened or did not. An invocation goes with its function.
#[async_trait]
pub trait AsyncInvocationStore: Send + Sync + 'static {
    /// Adds an invocation, and returns `None`. Where one with its id, or one of the same function with its key, exists,
    /// nothing changes, and that one is returned; so it is repeatable. [`StoreError::NotFound`] if its function does not
    /// exist.
    async fn enqueue(&self, invocation: &AsyncInvocation) -> Result<Option<AsyncInvocation>, StoreError>;

    /// One invocation; `None` if there is none.
    async fn find_async_invocation(&self, id: InvocationId) -> Result<Option<AsyncInvocation>, StoreError>;

    /// A page of invocations, newest first.
    async fn list_async_invocations(
        &self,
        page: AsyncInvocationPage,
    ) -> Result<Vec<AsyncInvocation>, StoreError>;

    /// Ends an invocation that waits or runs, whoever runs it; false if there is none, or if it has ended, and then nothing
    /// has changed. Not repeatable: false the second time.
    async fn cancel(&self, id: InvocationId, completion: &Completion) -> Result<bool, StoreError>;

    /// Makes dead letters wait again from `now` on, with nothing gone wrong, and returns how many. Their attempts count
    /// on. What is no dead letter is left as it is.
    async fn redrive(&self, which: DeadLetters, now: OffsetDateTime) -> Result<u64, StoreError>;

    /// Removes finished invocations and returns how many, at most [`Pruning::limit`]. What waits or runs stays.
    /// Repeatable.
    async fn prune_async_invocations(&self, pruning: Pruning) -> Result<u64, StoreError>;

    /// How a function's invocations are handled; `None` if nobody has said.
    async fn find_async_settings(&self, function: FunctionId) -> Result<Option<AsyncSettings>, StoreError>;

    /// Says how, or with `None` that nobody says any more. [`StoreError::NotFound`] if the function does not exist.
    /// Repeatable.
    async fn put_async_settings(
        &self,
        function: FunctionId,
        settings: Option<&AsyncSettings>,
    ) -> Result<(), StoreError>;
}

/// Where workers take invocations from and bring their ends to; the same guarantees as [`AsyncInvocationStore`].
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// Takes invocations that wait and may be claimed, and those whose lease has expired, oldest first of each function: each is then
    /// `Running` with the next attempt's number. An expired lease counts as a death in the tally. Not repeatable.
    async fn claim(&self, claim: Claim) -> Result<Vec<AsyncInvocation>, StoreError>;

    /// Holds the attempts of running invocations longer, never shorter, and returns those that are running no more: they were cancelled,
    /// taken over or removed. Repeatable.
    async fn renew(
        &self,
        attempts: &[(InvocationId, u32)],
        lease_until: OffsetDateTime,
    ) -> Result<Vec<InvocationId>, StoreError>;

    /// Stores how the attempt ended and, in the same commit, adds the invocation that tells it, if there is one and the
    /// function of that exists. False if the invocation is not running that attempt any more, and then nothing has changed.
    /// Not repeatable: false the second time.
    async fn complete(
        &self,
        id: InvocationId,
        attempt: u32,
        completion: &Completion,
        follow_up: Option<&AsyncInvocation>,
    ) -> Result<bool, StoreError>;

    /// Makes an invocation wait for another attempt; false as for [`DeliveryStore::complete`].
    async fn put_back(&self, id: InvocationId, attempt: u32, put_back: &PutBack) -> Result<bool, StoreError>;
}
