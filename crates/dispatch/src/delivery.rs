//! Asynchronous invocations on their way: accepted once they are stored (see [`crate::submit`]), then delivered until
//! they have ended.
//!
//! The rows are the truth; the queue only says which of them to look at. [`Delivery::run`] claims what is due, with a lease that
//! a heartbeat renews, and runs each claim as any other call, or posts it to its hook; a row whose lease ends without a word is
//! claimed again. What one function may hold is bounded (`shares`), so that none holds back the others. Delivery is
//! at least once: a server that dies between a function's end and its row runs it again, under the same request id and the
//! next attempt's number. What becomes of an attempt is decided in `verdict`; what an end is followed by in `tell`.

mod held;
mod pace;
mod shares;
mod sweep;
mod tell;
mod upkeep;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use impuls_domain::retry::backoff;
use impuls_domain::{
    AsyncInvocation, AsyncStatus, Caller, Completion, Destination, ErrorType, Failure, HookUrl, InvocationId,
    Logs, Outcome, Qualifier, Tally, Usage,
};
use impuls_queue::{Offer, Taken};
use impuls_store::{
    AsyncInvocationPage, Claim, DeliveryStore, FunctionKey, FunctionStore, PutBack, StoreError,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use self::held::Held;
use self::pace::Pace;
use self::shares::{Share, Shares};
use self::sweep::Sweep;
use self::verdict::{Happened, Next};
use crate::clock::Steady;
use crate::error::DispatchError;
use crate::hook::{HookClient, HookError, HookRequest};
use crate::invoke::{Dispatch, FunctionRef, InvokeOptions, InvokeRequest};

/// Rows that are read at once when the server starts.
const PAGE: u32 = 500;
/// How often storing an end is tried before the lease is left to expire.
const STORE_TRIES: u32 = 5;
/// How long a hook may take to answer.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds of delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryConfig {
    /// Asynchronous invocations that run at once. Default 128.
    pub in_flight: usize,
    /// Of these, at most so many of one function, however long they take. Default 96.
    pub share: usize,
    /// How long a claim holds without a heartbeat. Default 20 s: what a dead server was running goes on within 30 s.
    pub lease: Duration,
    /// How often the store is looked at for what has become due by itself. Default 1 s.
    pub interval: Duration,
    /// How often what ended long ago is removed. Default one minute.
    pub pruning: Duration,
    /// Which finished invocations are kept. Default: 7 days and 10,000.
    pub finished: Retention,
    /// Which dead letters are kept. Default: 30 days and 10,000.
    pub dead: Retention,
}

/// What is kept, by age and number.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// For how long after its end.
    pub age: Duration,
    /// At most so many of the newest.
    pub count: u32,
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            in_flight: 128,
            share: 96,
            lease: Duration::from_secs(20),
            interval: Duration::from_secs(1),
            pruning: Duration::from_secs(60),
            finished: Retention { age: DAY * 7, count: 10_000 },
            dead: Retention { age: DAY * 30, count: 10_000 },
        }
    }
}

/// What the queue is told of an invocation that is stored.
pub(crate) fn offer(invocation: &AsyncInvocation) -> Offer {
    Offer { invocation: invocation.id, function: invocation.function }
}

/// Delivers what was accepted.
pub struct Delivery {
    config: DeliveryConfig,
    dispatch: Arc<Dispatch>,
    store: Arc<dyn DeliveryStore>,
    functions: Arc<dyn FunctionStore>,
    hooks: Arc<dyn HookClient>,
    shares: Arc<Mutex<Shares>>,
}

impl Delivery {
    /// Delivery through this dispatch, from the store that it accepts into and that has these functions.
    #[must_use]
    pub fn new(
        config: DeliveryConfig,
        dispatch: Arc<Dispatch>,
        store: Arc<dyn DeliveryStore>,
        functions: Arc<dyn FunctionStore>,
        hooks: Arc<dyn HookClient>,
    ) -> Arc<Self> {
        let shares = Arc::new(Mutex::new(Shares::new(u32::try_from(config.share).unwrap_or(u32::MAX))));
        Arc::new(Self { config, dispatch, store, functions, hooks, shares })
    }

    /// Gives back what an earlier server of this store was running when it died. For a store that one server has for
    /// itself; to be called before [`Delivery::run`].
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let mut recovered = 0;
        if let Some(newest) = self.list(AsyncStatus::Queued, 1).await?.first() {
            self.dispatch.clock.was_not_before(newest.created_at).await?;
        }
        loop {
            let running = self.list(AsyncStatus::Running, PAGE).await?;
            if running.is_empty() {
                return Ok(recovered);
            }
            for AsyncInvocation { id, attempt, tally, .. } in running {
                let tally = Tally { deaths: tally.deaths + 1, ..tally };
                let clock = self.dispatch.clock.steady().await;
                let again = PutBack { not_before: clock.now(), tally, failure: None };
                recovered += usize::from(self.store.put_back(id, attempt, &again).await?);
            }
        }
    }

    async fn list(&self, status: AsyncStatus, limit: u32) -> Result<Vec<AsyncInvocation>, StoreError> {
        let page = AsyncInvocationPage {
            status: Some(status),
            limit,
            is_brief: true,
            ..AsyncInvocationPage::default()
        };
        self.dispatch.queue.list_async_invocations(page).await
    }

    /// Stops what this server is running and gives it back, for the next server to run it again; it is not counted as
    /// a death. To be called when [`Delivery::run`] cannot be waited for.
    pub async fn give_back(&self) -> Result<usize, StoreError> {
        let held = self.dispatch.held.take_all();
        let mut given = 0;
        for (id, attempt) in held {
            if let Some(task) = attempt.task {
                task.abort();
            }
            let clock = self.dispatch.clock.steady().await;
            let again = PutBack { not_before: clock.now(), tally: attempt.tally, failure: None };
            given += usize::from(self.store.put_back(id, attempt.number, &again).await?);
        }
        Ok(given)
    }

    /// Claims and delivers until `stop` is true. Then nothing more is claimed, and what is running may end.
    ///
    /// Rows are claimed when the queue offers them, and by a sweep over the store for whatever it did not offer: when it may
    /// have lost something, when a function that was full has room again, and in any case from time to time.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let _upkeep = self.upkeep();
        let mut running = JoinSet::new();
        let mut look = tokio::time::interval(self.config.interval);
        let (mut sweep, mut pace) = (Sweep::default(), Pace::new(self.config.in_flight));
        loop {
            self.fill(&mut running, &mut sweep, &mut pace).await;
            let room = pace.room(running.len());
            let may_claim = pace.allows(room);
            tokio::select! {
                // It changes once, and a sender that is gone has stopped as well.
                _ = stop.changed() => break,
                Some(_ended) = running.join_next(), if !running.is_empty() => {
                    while running.try_join_next().is_some() {}
                    sweep.is_due |= self.shares.lock().was_freed();
                }
                taken = self.dispatch.offers.take(room), if may_claim && !sweep.is_due => {
                    pace.claims();
                    self.fill_with(&mut running, &mut sweep, taken).await;
                }
                () = pace.rested(), if room > 0 && !may_claim => {}
                () = self.dispatch.passed_over.notified() => sweep.is_due = true,
                _ = look.tick() => sweep.is_due = true,
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Claims whatever may be claimed until there is no room or nothing left.
    async fn fill(self: &Arc<Self>, running: &mut JoinSet<()>, sweep: &mut Sweep, pace: &mut Pace) {
        while sweep.may_begin() && pace.allows(pace.room(running.len())) {
            pace.claims();
            if sweep.has_failed() {
                // The leases of what still runs here may have ended meanwhile; they are not to be taken from ourselves.
                self.renew().await;
            }
            match self.claim(pace.room(running.len()), None).await {
                Ok(claimed) => {
                    sweep.claimed(claimed.len());
                    self.start(running, claimed);
                }
                Err(error) => sweep.failed(&error),
            }
        }
    }

    /// Claims what was offered; a function that has no room is swept when it has.
    async fn fill_with(self: &Arc<Self>, running: &mut JoinSet<()>, sweep: &mut Sweep, taken: Taken) {
        let Taken { offers, receipt, lost } = taken;
        sweep.is_due |= lost;
        let ids: Vec<InvocationId> = {
            let shares = self.shares();
            let wanted = offers.iter().filter(|offer| shares.room(offer.function) > 0);
            wanted.map(|offer| offer.invocation).collect()
        };
        if !ids.is_empty() {
            match self.claim(ids.len(), Some(ids)).await {
                Ok(claimed) => self.start(running, claimed),
                Err(error) => return sweep.failed(&error),
            }
        }
        self.dispatch.offers.settle(receipt);
    }

    /// What each function may hold, by what it lets run at once now: a function that was just deployed is bound at once.
    fn shares(&self) -> MutexGuard<'_, Shares> {
        let narrow = self.dispatch.narrow_functions();
        let mut shares = self.shares.lock();
        shares.limit(narrow);
        shares
    }

    fn start(self: &Arc<Self>, running: &mut JoinSet<()>, claimed: Vec<AsyncInvocation>) {
        for invocation in claimed {
            let id = invocation.id;
            let share = Share::begun(&self.shares, invocation.function);
            let task = running.spawn(self.clone().deliver(invocation, share));
            self.dispatch.held.begun(id, task);
        }
    }

    async fn claim(
        &self,
        limit: usize,
        only: Option<Vec<InvocationId>>,
    ) -> Result<Vec<AsyncInvocation>, StoreError> {
        let clock = self.dispatch.clock.steady().await;
        let now = clock.now();
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let (share, rooms) = {
            let shares = self.shares();
            (shares.share(), shares.rooms())
        };
        let claim = Claim { now, lease_until: now + self.config.lease, limit, share, rooms, only };
        let asked = Instant::now();
        let mut claimed = self.store.claim(claim).await?;
        self.dispatch.held.take(&claimed);
        drop(clock);
        if asked.elapsed() > self.config.lease / 2 {
            // The store was away for a while. The leases count from when they were asked for; others may have these by now.
            self.renew().await;
            claimed.retain(|invocation| self.dispatch.held.has(invocation));
        }
        Ok(claimed)
    }

    async fn deliver(self: Arc<Self>, invocation: AsyncInvocation, _share: Share) {
        let happened = match &invocation.hook {
            _ if verdict::is_poisonous(invocation.tally) => Happened::Poisonous,
            _ if verdict::is_too_old(&invocation, self.dispatch.clock.now()) => Happened::TooOld,
            Some(url) => self.post(&invocation, url.clone()).await,
            None => self.call(&invocation).await,
        };
        let clock = self.dispatch.clock.steady().await;
        let next = verdict::next(&invocation, happened, clock.now(), self.dispatch.random());
        self.settle(&invocation, &next, clock).await;
        self.dispatch.held.ended(&invocation);
        if matches!(next, Next::End(_)) {
            self.dispatch.waiters.wake(invocation.id);
        }
    }

    async fn call(&self, invocation: &AsyncInvocation) -> Happened {
        let request = InvokeRequest {
            function: FunctionRef::Id(invocation.function),
            qualifier: invocation.qualifier.clone(),
            event: Bytes::copy_from_slice(&invocation.event),
            options: InvokeOptions {
                id: Some(invocation.id),
                is_retry: invocation.attempt > 1,
                timeout: invocation.timeout,
                context: Bytes::copy_from_slice(&invocation.context),
                keep_exchange: false,
                measure: true,
            },
        };
        match self.dispatch.invoke(&Caller::System, request).await {
            Ok(invoked) => Happened::Outcome(invoked.outcome),
            Err(error) if self.is_behind(invocation, &error).await => Happened::Broken(error.to_string()),
            Err(error) => Happened::refusal(&error),
        }
    }

    /// Whether this server only has not heard yet of what another one deployed. A row goes with its function, so one that was
    /// claimed has one; of its aliases the store knows.
    async fn is_behind(&self, invocation: &AsyncInvocation, error: &DispatchError) -> bool {
        match (error, &invocation.qualifier) {
            (DispatchError::FunctionNotFound(_), _) => true,
            (DispatchError::QualifierNotFound { .. }, Qualifier::Alias(name)) => {
                let stored = self.functions.find_function(&FunctionKey::Id(invocation.function)).await;
                stored.map_or(true, |stored| {
                    stored.is_some_and(|stored| stored.aliases.iter().any(|alias| alias.name() == name))
                })
            }
            _ => false,
        }
    }

    async fn post(&self, invocation: &AsyncInvocation, url: HookUrl) -> Happened {
        let begun = Instant::now();
        let request = HookRequest {
            url,
            id: invocation.id,
            attempt: invocation.attempt,
            body: Bytes::copy_from_slice(&invocation.event),
            timeout: invocation.timeout.unwrap_or(HOOK_TIMEOUT),
        };
        let failure = |message| Failure {
            error_type: ErrorType::HookError,
            class: String::new(),
            message,
            stack: None,
        };
        let result = match self.hooks.post(request).await {
            Ok(reply) if (200..300).contains(&reply.status) => {
                let told = serde_json::json!({ "status": reply.status, "body": reply.body });
                Ok(Bytes::from(told.to_string()))
            }
            Ok(reply) if (300..400).contains(&reply.status) => Err(failure(format!(
                "the hook answered with status {}; redirects are not followed",
                reply.status
            ))),
            Ok(reply) => Err(failure(format!("the hook answered with status {}", reply.status))),
            Err(HookError::Refused(why)) => return Happened::Refused(failure(why)),
            Err(HookError::Failed(why)) => Err(failure(why)),
        };
        let usage = Usage { duration: begun.elapsed(), ..Usage::default() };
        Happened::Outcome(Outcome { result, logs: Logs::default(), usage })
    }

    /// Stores what comes next, by the clock that it was decided by. If the store refuses, it is tried again for a while; then
    /// the lease expires, and the invocation runs once more.
    async fn settle(&self, invocation: &AsyncInvocation, next: &Next, clock: Steady<'_>) {
        let (id, attempt) = (invocation.id, invocation.attempt);
        let mut clock = Some(clock);
        for tried in 1..=STORE_TRIES {
            let settled = match next {
                Next::End(completion) => self.complete(invocation, completion).await,
                Next::Again(put_back) => {
                    self.store.put_back(id, attempt, put_back).await.map_err(DispatchError::Store)
                }
            };
            match settled {
                Ok(true) => return,
                Ok(false) => {
                    tracing::info!(%id, attempt, "it was cancelled or removed, or another attempt has taken over");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, %id, "cannot store how an invocation ended");
                    // Everybody else would wait for a clock that is to be set.
                    drop(clock.take());
                    tokio::time::sleep(backoff(tried, self.dispatch.random())).await;
                }
            }
        }
    }

    async fn complete(
        &self,
        invocation: &AsyncInvocation,
        completion: &Completion,
    ) -> Result<bool, DispatchError> {
        let teller = match tell::destination(invocation, completion) {
            None => None,
            Some(destination) => {
                let told = match destination {
                    Destination::Function(function, _) => *function,
                    Destination::Hook(_) => invocation.function,
                };
                let settings = self.dispatch.async_settings(told).await?;
                let name = self.dispatch.function_name(invocation.function);
                let name = name.map_or_else(String::new, |name| name.to_string());
                if self.dispatch.function_name(told).is_none() {
                    tracing::warn!(id = %invocation.id, "an end is not told: the function that it should be told to is gone");
                }
                Some(tell::teller(invocation, completion, destination, (settings, name)))
            }
        };
        let done = self.store.complete(invocation.id, invocation.attempt, completion, teller.as_ref()).await;
        if let Some(teller) = &teller {
            self.dispatch.offers.push(offer(teller));
        }
        done.map_err(DispatchError::Store)
    }
}
