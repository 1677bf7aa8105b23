//! Asynchronous invocations and schedules.

use async_trait::async_trait;
use impuls_domain::{
    AsyncInvocation, AsyncSettings, Completion, FunctionId, InvocationId, Schedule, ScheduleId,
};
use impuls_store::rows::{AsyncRow, CompletionRow, Key, ScheduleRow, SettingsRow, micros};
use impuls_store::{
    AsyncInvocationPage, AsyncInvocationStore, Claim, DeadLetters, DeliveryStore, Pruning, PutBack,
    ScheduleStore, StoreError, Tick,
};
use serde_json::json;
use time::OffsetDateTime;

use super::SqliteStore;
use crate::read::queue as read;
use crate::writer::{AsyncWork, ClaimRow, DeadRow, PruneRow, PutBackRow, ScheduleWork, TickRow, Work};

/// How often an invocation is offered that gives way to another which is removed before it can be read.
const OFFERS: u32 = 3;

fn key(id: InvocationId) -> Key {
    *id.as_uuid().as_bytes()
}

fn hex(id: uuid::Uuid) -> String {
    id.simple().to_string()
}

impl SqliteStore {
    pub(super) async fn change(&self, work: AsyncWork, action: &'static str) -> Result<u64, StoreError> {
        self.writer.run(Work::Async(Box::new(work)), action).await
    }

    async fn reschedule(&self, work: ScheduleWork, action: &'static str) -> Result<bool, StoreError> {
        self.writer.run(Work::Schedule(Box::new(work)), action).await.map(|done| done > 0)
    }

    async fn in_the_way(&self, invocation: &AsyncInvocation) -> Result<Option<AsyncInvocation>, StoreError> {
        if let Some(same) = read::find_async_invocation(&self.readers, invocation.id).await? {
            return Ok(Some(same));
        }
        match &invocation.key {
            Some(key) => read::find_by_key(&self.readers, invocation.function, key).await,
            None => Ok(None),
        }
    }
}

#[async_trait]
impl AsyncInvocationStore for SqliteStore {
    async fn enqueue(&self, invocation: &AsyncInvocation) -> Result<Option<AsyncInvocation>, StoreError> {
        for _ in 0..OFFERS {
            let work = AsyncWork::Enqueue(AsyncRow::from_domain(invocation));
            if self.change(work, "accepting an asynchronous invocation").await? > 0 {
                return Ok(None);
            }
            if let Some(first) = self.in_the_way(invocation).await? {
                return Ok(Some(first));
            }
        }
        Err(StoreError::Conflict)
    }

    async fn find_async_invocation(&self, id: InvocationId) -> Result<Option<AsyncInvocation>, StoreError> {
        read::find_async_invocation(&self.readers, id).await
    }

    async fn list_async_invocations(
        &self,
        page: AsyncInvocationPage,
    ) -> Result<Vec<AsyncInvocation>, StoreError> {
        read::list_async_invocations(&self.readers, page).await
    }

    async fn cancel(&self, id: InvocationId, completion: &Completion) -> Result<bool, StoreError> {
        let work = AsyncWork::Cancel(key(id), CompletionRow::from_domain(completion));
        self.change(work, "cancelling an invocation").await.map(|done| done > 0)
    }

    async fn redrive(&self, which: DeadLetters, now: OffsetDateTime) -> Result<u64, StoreError> {
        let which = match which {
            DeadLetters::One(id) => DeadRow::One(key(id)),
            DeadLetters::Of(function, limit) => DeadRow::Of(*function.as_uuid().as_bytes(), limit),
        };
        self.change(AsyncWork::Redrive(which, micros(now)), "driving dead letters again").await
    }

    async fn prune_async_invocations(&self, pruning: Pruning) -> Result<u64, StoreError> {
        let Pruning { dead_letters, ended_before, keep, limit } = pruning;
        let row = PruneRow { dead_letters, ended_before: micros(ended_before), keep, limit };
        self.change(AsyncWork::Prune(row), "removing old asynchronous invocations").await
    }

    async fn find_async_settings(&self, function: FunctionId) -> Result<Option<AsyncSettings>, StoreError> {
        read::find_async_settings(&self.readers, function).await
    }

    async fn put_async_settings(
        &self,
        function: FunctionId,
        settings: Option<&AsyncSettings>,
    ) -> Result<(), StoreError> {
        let row = settings.map(|all| SettingsRow::from_domain(&all.policy, &all.destinations));
        let work = AsyncWork::Settings(*function.as_uuid().as_bytes(), row);
        self.change(work, "keeping settings of asynchronous invocations").await.map(drop)
    }
}

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn claim(&self, claim: Claim) -> Result<Vec<AsyncInvocation>, StoreError> {
        let token = *uuid::Uuid::now_v7().as_bytes();
        let (now, lease) = (micros(claim.now), micros(claim.lease_until));
        let rooms: Vec<_> =
            claim.rooms.iter().map(|(function, room)| (hex(function.as_uuid()), room)).collect();
        let only =
            |ids: &Vec<InvocationId>| json!(ids.iter().map(|id| hex(id.as_uuid())).collect::<Vec<_>>());
        let row = ClaimRow {
            now,
            lease,
            limit: claim.limit,
            share: claim.share,
            rooms: json!(rooms).to_string(),
            only: claim.only.as_ref().map(|ids| only(ids).to_string()),
            token,
        };
        if self.change(AsyncWork::Claim(row), "claiming asynchronous invocations").await? == 0 {
            return Ok(Vec::new());
        }
        read::claimed(&self.readers, token).await
    }

    async fn renew(
        &self,
        attempts: &[(InvocationId, u32)],
        lease_until: OffsetDateTime,
    ) -> Result<Vec<InvocationId>, StoreError> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        let rows = attempts.iter().map(|(id, attempt)| (key(*id), *attempt)).collect();
        let renewed = self.change(AsyncWork::Renew(rows, micros(lease_until)), "renewing leases").await?;
        if renewed == attempts.len() as u64 {
            return Ok(Vec::new());
        }
        read::lost(&self.readers, attempts).await
    }

    async fn complete(
        &self,
        id: InvocationId,
        attempt: u32,
        completion: &Completion,
        follow_up: Option<&AsyncInvocation>,
    ) -> Result<bool, StoreError> {
        let row = CompletionRow::from_domain(completion);
        let follow_up = follow_up.map(|follow_up| Box::new(AsyncRow::from_domain(follow_up)));
        let work = AsyncWork::Complete((key(id), attempt), row, follow_up);
        self.change(work, "completing an asynchronous invocation").await.map(|done| done > 0)
    }

    async fn put_back(&self, id: InvocationId, attempt: u32, put_back: &PutBack) -> Result<bool, StoreError> {
        let row = PutBackRow {
            due: micros(put_back.not_before),
            tally: put_back.tally,
            failure: put_back.failure.clone(),
        };
        let work = AsyncWork::PutBack((key(id), attempt), row);
        self.change(work, "putting an invocation back").await.map(|done| done > 0)
    }
}

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn put_schedule(&self, schedule: &Schedule) -> Result<(), StoreError> {
        let work = ScheduleWork::Put(ScheduleRow::from_domain(schedule));
        self.reschedule(work, "keeping a schedule").await.map(drop)
    }

    async fn list_schedules(&self, function: FunctionId) -> Result<Vec<Schedule>, StoreError> {
        read::list_schedules(&self.readers, function).await
    }

    async fn delete_schedule(&self, id: ScheduleId) -> Result<bool, StoreError> {
        let work = ScheduleWork::Delete(*id.as_uuid().as_bytes());
        self.reschedule(work, "removing a schedule").await
    }

    async fn due_schedules(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<Schedule>, StoreError> {
        read::due_schedules(&self.readers, now, limit).await
    }

    async fn fire(&self, tick: &Tick) -> Result<bool, StoreError> {
        let row = TickRow {
            schedule: *tick.schedule.as_uuid().as_bytes(),
            at: micros(tick.at),
            next: tick.next.map(micros),
            invocation: AsyncRow::from_domain(&tick.invocation),
        };
        self.reschedule(ScheduleWork::Fire(row), "firing a schedule").await
    }
}
