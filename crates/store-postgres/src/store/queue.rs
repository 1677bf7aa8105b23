//! Asynchronous invocations and schedules.

use async_trait::async_trait;
use impuls_domain::{
    AsyncInvocation, AsyncSettings, Completion, FunctionId, InvocationId, Schedule, ScheduleId,
};
use impuls_store::rows::{AsyncRow, CompletionRow, ScheduleRow, SettingsRow, micros};
use impuls_store::{
    AsyncInvocationPage, AsyncInvocationStore, Claim, DeadLetters, DeliveryStore, Pruning, PutBack,
    ScheduleStore, StoreError, Tick,
};
use time::OffsetDateTime;

use super::PostgresStore;
use crate::queue::delivery::{Again, ClaimDue, Complete, End, Renew};
use crate::queue::schedules::{DeleteSchedule, Fire, PutSchedule};
use crate::queue::{Accept, Cancel, Enqueue, Prune, PutSettings, Redrive};
use crate::read::queue as read;
use crate::together::Together as _;
use crate::transaction::{alone, transact};

/// How often an invocation is offered that gives way to another which is removed before it can be read.
const OFFERS: u32 = 3;

impl PostgresStore {
    async fn in_the_way(&self, invocation: &AsyncInvocation) -> Result<Option<AsyncInvocation>, StoreError> {
        if let Some(same) = read::find_async_invocation(&self.pool, invocation.id).await? {
            return Ok(Some(same));
        }
        match &invocation.key {
            Some(key) => read::find_by_key(&self.pool, invocation.function, key).await,
            None => Ok(None),
        }
    }
}

#[async_trait]
impl AsyncInvocationStore for PostgresStore {
    async fn enqueue(&self, invocation: &AsyncInvocation) -> Result<Option<AsyncInvocation>, StoreError> {
        let accept = || Accept(AsyncRow::from_domain(invocation));
        let mut is_accepted = self.accepts.make(accept()).await?;
        for _ in 0..OFFERS {
            if is_accepted {
                return Ok(None);
            }
            if let Some(first) = self.in_the_way(invocation).await? {
                return Ok(Some(first));
            }
            // It has gone, or there is no such function, which this says.
            is_accepted = alone(&self.pool, Accept::ACTION, &Enqueue(&accept().0)).await?;
        }
        if is_accepted { Ok(None) } else { Err(StoreError::Conflict) }
    }

    async fn find_async_invocation(&self, id: InvocationId) -> Result<Option<AsyncInvocation>, StoreError> {
        read::find_async_invocation(&self.pool, id).await
    }

    async fn list_async_invocations(
        &self,
        page: AsyncInvocationPage,
    ) -> Result<Vec<AsyncInvocation>, StoreError> {
        read::list_async_invocations(&self.pool, page).await
    }

    async fn cancel(&self, id: InvocationId, completion: &Completion) -> Result<bool, StoreError> {
        let cancel = Cancel { id: id.as_uuid(), end: CompletionRow::from_domain(completion) };
        alone(&self.pool, "cancelling an invocation", &cancel).await
    }

    async fn redrive(&self, which: DeadLetters, now: OffsetDateTime) -> Result<u64, StoreError> {
        let which = match which {
            DeadLetters::One(id) => Ok(id.as_uuid()),
            DeadLetters::Of(function, limit) => Err((function.as_uuid(), limit)),
        };
        alone(&self.pool, "driving dead letters again", &Redrive { which, now: micros(now) }).await
    }

    async fn prune_async_invocations(&self, pruning: Pruning) -> Result<u64, StoreError> {
        let Pruning { dead_letters, ended_before, keep, limit } = pruning;
        let prune = Prune { dead_letters, ended_before: micros(ended_before), keep, limit };
        transact(&self.pool, "removing old asynchronous invocations", &prune).await
    }

    async fn find_async_settings(&self, function: FunctionId) -> Result<Option<AsyncSettings>, StoreError> {
        read::find_async_settings(&self.pool, function).await
    }

    async fn put_async_settings(
        &self,
        function: FunctionId,
        settings: Option<&AsyncSettings>,
    ) -> Result<(), StoreError> {
        let settings = settings.map(|all| SettingsRow::from_domain(&all.policy, &all.destinations));
        let put = PutSettings { function: function.as_uuid(), settings };
        alone(&self.pool, "keeping settings of asynchronous invocations", &put).await
    }
}

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn claim(&self, claim: Claim) -> Result<Vec<AsyncInvocation>, StoreError> {
        let Claim { now, lease_until, limit, share, rooms, only } = claim;
        let full =
            rooms.iter().filter(|(_, room)| *room == 0).map(|(function, _)| function.as_uuid()).collect();
        let (functions, rooms) =
            rooms.iter().map(|(function, room)| (function.as_uuid(), i64::from(*room))).unzip();
        let only = only.map(|ids| ids.iter().map(|id| id.as_uuid()).collect());
        let (now, lease) = (micros(now), micros(lease_until));
        let claim = ClaimDue { now, lease, limit, share, functions, rooms, full, only };
        alone(&self.pool, "claiming asynchronous invocations", &claim).await
    }

    async fn renew(
        &self,
        attempts: &[(InvocationId, u32)],
        lease_until: OffsetDateTime,
    ) -> Result<Vec<InvocationId>, StoreError> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, numbers) = attempts.iter().map(|(id, attempt)| (id.as_uuid(), i64::from(*attempt))).unzip();
        let renew = Renew { ids, attempts: numbers, lease: micros(lease_until) };
        let renewed = alone(&self.pool, "renewing leases", &renew).await?;
        let is_lost = |id: &InvocationId| !renewed.contains(&id.as_uuid());
        Ok(attempts.iter().map(|(id, _)| *id).filter(is_lost).collect())
    }

    async fn complete(
        &self,
        id: InvocationId,
        attempt: u32,
        completion: &Completion,
        follow_up: Option<&AsyncInvocation>,
    ) -> Result<bool, StoreError> {
        let end = End { id: id.as_uuid(), attempt, row: CompletionRow::from_domain(completion) };
        match follow_up.map(AsyncRow::from_domain) {
            Some(follow_up) => transact(&self.pool, End::ACTION, &Complete { end, follow_up }).await,
            None => self.ends.make(end).await,
        }
    }

    async fn put_back(&self, id: InvocationId, attempt: u32, put_back: &PutBack) -> Result<bool, StoreError> {
        let again = Again { id: id.as_uuid(), attempt, put_back };
        alone(&self.pool, "putting an invocation back", &again).await
    }
}

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), StoreError> {
        let put = PutSchedule(ScheduleRow::from_domain(schedule));
        transact(&self.pool, "keeping a schedule", &put).await
    }

    async fn list_schedules(&self, function: FunctionId) -> Result<Vec<Schedule>, StoreError> {
        read::list_schedules(&self.pool, function).await
    }

    async fn delete_schedule(&self, id: ScheduleId) -> Result<bool, StoreError> {
        alone(&self.pool, "removing a schedule", &DeleteSchedule(id.as_uuid())).await
    }

    async fn due_schedules(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<Schedule>, StoreError> {
        read::due_schedules(&self.pool, now, limit).await
    }

    async fn fire(&self, tick: &Tick) -> Result<bool, StoreError> {
        let fire = Fire {
            schedule: tick.schedule.as_uuid(),
            at: micros(tick.at),
            next: tick.next.map(micros),
            invocation: AsyncRow::from_domain(&tick.invocation),
        };
        transact(&self.pool, "firing a schedule", &fire).await
    }
}
