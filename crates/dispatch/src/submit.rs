//! Asynchronous invocations as their callers see them: submit, wait, cancel, drive again.

use std::time::Duration;

use bytes::Bytes;
use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::retry::LONGEST_AGE_MS;
use impuls_domain::{
    AsyncInvocation, AsyncSettings, AsyncStatus, Caller, Completion, Destinations, FunctionId, InvocationId,
    LimitError, Qualifier, RetryChange, RetryPolicy, Tally,
};
use impuls_store::{DeadLetters, StoreError};
use tokio::time::Instant;

use crate::delivery::offer;
use crate::error::DispatchError;
use crate::invoke::{Dispatch, FunctionRef, InvokeOptions};

/// How long somebody may wait for an end at once.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Dead letters that are driven again in one commit.
const REDRIVEN: u32 = 1_000;

/// How an asynchronous invocation is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// As the function's settings say, but for this; its end is told to the function's destinations.
    Settings(RetryChange),
    /// Exactly so, and its end is told to nobody.
    Exactly(RetryPolicy),
}

/// What is special about the delivery of an asynchronous invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// How long it waits before it may run; at most seven days.
    pub delay: Duration,
    /// What makes submitting it again return this invocation, within the function; at most
    /// [`KEY_LIMIT`](impuls_domain::async_invocation::KEY_LIMIT) bytes.
    pub key: Option<String>,
    /// How it is tried again.
    pub retry: Retry,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self { delay: Duration::ZERO, key: None, retry: Retry::Settings(RetryChange::default()) }
    }
}

/// An invocation to be accepted.
#[derive(Debug)]
pub struct SubmitRequest<'a> {
    /// Which function.
    pub function: FunctionRef<'a>,
    /// Which revision of it, decided when it runs.
    pub qualifier: Qualifier,
    /// The event, opaque; empty means `null`.
    pub event: Bytes,
    /// What else is known.
    pub options: InvokeOptions,
    /// When and how it is delivered.
    pub delivery: DeliveryOptions,
}

impl Dispatch {
    /// Accepts an invocation: it is stored when this returns, and will be delivered whatever happens to this server. With
    /// a key that was used before, the first invocation is returned as it is now; [`DispatchError::KeyTaken`] if that has
    /// another event.
    pub async fn submit(
        &self,
        caller: &Caller,
        request: SubmitRequest<'_>,
    ) -> Result<AsyncInvocation, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let SubmitRequest { function, qualifier, event, options, delivery } = request;
        if event.len() > PAYLOAD_LIMIT {
            return Err(DispatchError::EventTooLarge { limit: PAYLOAD_LIMIT });
        }
        within_delay(delivery.delay)?;
        let _flight = self.take_off()?;
        let entry = self.find(function)?;
        self.resolve(&entry, qualifier.clone()).await?;
        let (policy, destinations) = match delivery.retry {
            Retry::Exactly(policy) => (policy, Destinations::default()),
            Retry::Settings(change) => {
                let settings = self.async_settings(entry.id).await?;
                (settings.policy.with(change)?, settings.destinations)
            }
        };
        let clock = self.clock.steady().await;
        let now = clock.now();
        let ready_at = now + delivery.delay;
        let invocation = AsyncInvocation {
            id: options.id.unwrap_or_else(InvocationId::new),
            function: entry.id,
            qualifier,
            hook: None,
            event: event.into(),
            context: options.context.into(),
            timeout: options.timeout,
            policy,
            destinations,
            key: delivery.key,
            origin: None,
            chain: 0,
            status: AsyncStatus::Queued,
            attempt: 0,
            tally: Tally::default(),
            not_before: ready_at,
            created_at: now,
            ready_at,
            started_at: None,
            last_failure: None,
            completion: None,
        };
        self.enqueue(invocation).await
    }

    async fn enqueue(&self, invocation: AsyncInvocation) -> Result<AsyncInvocation, DispatchError> {
        match self.queue.enqueue(&invocation).await {
            Ok(None) => {
                // What waits for its time is found when that has come.
                if invocation.not_before <= invocation.created_at {
                    self.offers.push(offer(&invocation));
                }
                Ok(invocation)
            }
            Ok(Some(first)) if first.event == invocation.event => Ok(first),
            Ok(Some(first)) => Err(DispatchError::KeyTaken(first.id)),
            Err(StoreError::NotFound) => {
                Err(DispatchError::FunctionNotFound(invocation.function.to_string()))
            }
            Err(error) => Err(DispatchError::Store(error)),
        }
    }

    /// How a function's asynchronous invocations are handled unless a call says otherwise.
    pub(crate) async fn async_settings(&self, function: FunctionId) -> Result<AsyncSettings, DispatchError> {
        let read = self.queue.find_async_settings(function);
        let found = match self.find(FunctionRef::Id(function)) {
            Ok(entry) => entry.settings().get(read).await,
            // Deleted meanwhile.
            Err(_) => read.await,
        };
        Ok(found.map_err(DispatchError::Store)?.unwrap_or_default())
    }

    /// One invocation; if it has not ended, waits for its end, but at most so long and at most [`LONGEST_WAIT`].
    pub async fn wait(
        &self,
        caller: &Caller,
        id: InvocationId,
        up_to: Duration,
    ) -> Result<AsyncInvocation, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let by = Instant::now() + up_to.min(LONGEST_WAIT);
        loop {
            // Before looking, so that no end is missed.
            let waiter = if Instant::now() < by { Some(self.waiters.watch(id)) } else { None };
            let found = self.look_up(id).await?;
            let Some(waiter) = waiter.filter(|_| !found.status.is_final() && !self.is_stopping()) else {
                return Ok(found);
            };
            let too_many = DispatchError::Throttled { retry_after: Duration::from_secs(1) };
            // Whether it ended or the time did, the store knows.
            let until = self.look_again.map_or(by, |pause| by.min(Instant::now() + pause));
            let _ended = tokio::time::timeout_at(until, waiter.ok_or(too_many)?.woken()).await;
        }
    }

    async fn look_up(&self, id: InvocationId) -> Result<AsyncInvocation, DispatchError> {
        let found = self.queue.find_async_invocation(id).await.map_err(DispatchError::Store)?;
        found.ok_or(DispatchError::InvocationNotFound(id))
    }

    /// Ends an invocation that waits, or runs: then the call is stopped. [`DispatchError::Settled`] if it has ended.
    pub async fn cancel(&self, caller: &Caller, id: InvocationId) -> Result<AsyncInvocation, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let cancelled = Completion::cancelled(self.clock.now());
        let has_ended = self.queue.cancel(id, &cancelled).await.map_err(DispatchError::Store)?;
        let found = self.look_up(id).await?;
        if !has_ended {
            let hint = "only what waits or runs can be cancelled";
            return Err(DispatchError::Settled { id, status: found.status.as_str(), hint });
        }
        self.held.stop(id);
        self.waiters.wake(id);
        Ok(found)
    }

    /// Drives a dead letter again. [`DispatchError::Settled`] if it is none.
    pub async fn redrive(&self, caller: &Caller, id: InvocationId) -> Result<AsyncInvocation, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let clock = self.clock.steady().await;
        let driven = self.queue.redrive(DeadLetters::One(id), clock.now()).await;
        let driven = driven.map_err(DispatchError::Store)?;
        drop(clock);
        let found = self.look_up(id).await?;
        if driven == 0 {
            let hint = "only dead letters can be driven again";
            return Err(DispatchError::Settled { id, status: found.status.as_str(), hint });
        }
        self.passed_over.notify_one();
        Ok(found)
    }

    /// Drives all dead letters of a function again that are there now, oldest first, and returns how many.
    pub async fn redrive_all(
        &self,
        caller: &Caller,
        function: FunctionRef<'_>,
    ) -> Result<u64, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let function = self.find(function)?.id;
        // What fails again meanwhile is not driven twice: it would never end.
        let clock = self.clock.steady().await;
        let (now, mut driven) = (clock.now(), 0);
        for _ in 0..1_000 {
            let which = DeadLetters::Of(function, REDRIVEN);
            let more = self.queue.redrive(which, now).await.map_err(DispatchError::Store)?;
            self.passed_over.notify_one();
            driven += more;
            if more < u64::from(REDRIVEN) {
                break;
            }
        }
        Ok(driven)
    }
}

fn within_delay(delay: Duration) -> Result<(), LimitError> {
    let (value, max) = (delay.as_millis() as f64, LONGEST_AGE_MS as f64);
    if value <= max { Ok(()) } else { Err(LimitError { field: "delay_ms", value, min: 0.0, max }) }
}
