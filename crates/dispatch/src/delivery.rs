//! Asynchronous invocations: accepted once they are stored, then delivered until they have ended.
//!
//! The rows are the truth. [`Delivery::run`] claims what is due, with a lease that a heartbeat renews, and runs each
//! claim as any other call; a row whose lease ends without a word is claimed again. Delivery is at least once: a server
//! that dies between a function's end and its row runs it again, under the same request id and the next attempt's
//! number. A function's own failures are final; what the platform could not run is tried again for
//! [`PLATFORM_PATIENCE`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use impuls_domain::async_invocation::{PLATFORM_PATIENCE, backoff};
use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::{
    AsyncInvocation, AsyncStatus, Caller, Completion, ErrorType, Failure, InvocationId, Logs, Qualifier,
    Usage,
};
use impuls_store::{AsyncInvocationPage, Claim, StoreError};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::DispatchError;
use crate::invoke::{Dispatch, FunctionRef, InvokeOptions, InvokeRequest};

/// Rows that are read at once when the server starts.
const PAGE: u32 = 500;
/// How often storing an end is tried before the lease is left to expire.
const STORE_TRIES: u32 = 5;

/// Bounds of delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryConfig {
    /// Asynchronous invocations that run at once. Default 128.
    pub in_flight: usize,
    /// How long a claim holds without a heartbeat. Default 30 s.
    pub lease: Duration,
    /// How often the store is looked at for what has become due by itself. Default 1 s.
    pub interval: Duration,
    /// Finished invocations that are kept. Default 10,000.
    pub keep: u32,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            in_flight: 128,
            lease: Duration::from_secs(30),
            interval: Duration::from_secs(1),
            keep: 10_000,
        }
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
}

impl Dispatch {
    /// Accepts an invocation: it is stored when this returns, and will be delivered whatever happens to this server.
    pub async fn submit(
        &self,
        caller: &Caller,
        request: SubmitRequest<'_>,
    ) -> Result<AsyncInvocation, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        if request.event.len() > PAYLOAD_LIMIT {
            return Err(DispatchError::EventTooLarge { limit: PAYLOAD_LIMIT });
        }
        let _flight = self.take_off()?;
        let entry = self.find(request.function)?;
        self.resolve(&entry, request.qualifier.clone()).await?;
        let now = now();
        let invocation = AsyncInvocation {
            id: request.options.id.unwrap_or_else(InvocationId::new),
            function: entry.id,
            qualifier: request.qualifier,
            event: request.event.into(),
            context: request.options.context.into(),
            timeout: request.options.timeout,
            status: AsyncStatus::Queued,
            attempt: 0,
            not_before: now,
            created_at: now,
            started_at: None,
            completion: None,
        };
        match self.queue.enqueue(&invocation).await {
            Ok(()) => {}
            Err(StoreError::NotFound) => {
                return Err(DispatchError::FunctionNotFound(entry.id.to_string()));
            }
            Err(error) => return Err(DispatchError::Store(error)),
        }
        self.submitted.notify_one();
        Ok(invocation)
    }
}

/// The wall clock, cut to the microseconds that every store keeps.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// Delivers what was accepted.
pub struct Delivery {
    config: DeliveryConfig,
    dispatch: Arc<Dispatch>,
    /// The attempts that this server holds.
    held: Mutex<HashMap<InvocationId, u32>>,
}

impl Delivery {
    /// Delivery through this dispatch, from the store that it accepts into.
    #[must_use]
    pub fn new(config: DeliveryConfig, dispatch: Arc<Dispatch>) -> Arc<Self> {
        Arc::new(Self { config, dispatch, held: Mutex::default() })
    }

    /// Gives back what an earlier server of this store was running when it ended. For a store that one server has for
    /// itself; to be called before [`Delivery::run`].
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let mut recovered = 0;
        loop {
            let page = AsyncInvocationPage {
                function: None,
                status: Some(AsyncStatus::Running),
                offset: 0,
                limit: PAGE,
            };
            let running = self.dispatch.queue.list_async_invocations(page).await?;
            if running.is_empty() {
                return Ok(recovered);
            }
            for invocation in running {
                let (id, attempt) = (invocation.id, invocation.attempt);
                recovered += usize::from(self.dispatch.queue.put_back(id, attempt, now()).await?);
            }
        }
    }

    /// Claims and delivers until `stop` is true. Then nothing more is claimed, and what is running may end; what is
    /// dropped before that is claimed again by the next server.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        let mut heartbeat = tokio::time::interval(self.config.lease / 3);
        let mut look = tokio::time::interval(self.config.interval);
        let mut pruned = 0u32;
        loop {
            let mut may_be_more = false;
            // In halves, so that a busy queue is not claimed one by one.
            if running.len() <= self.config.in_flight / 2 {
                let room = self.config.in_flight - running.len();
                let claimed = self.claim(room).await;
                may_be_more = claimed.len() == room;
                for invocation in claimed {
                    running.spawn(self.clone().deliver(invocation));
                }
            }
            tokio::select! {
                // It changes once, and a sender that is gone has stopped as well.
                _ = stop.changed() => break,
                _ = heartbeat.tick() => self.renew().await,
                Some(_ended) = running.join_next(), if !running.is_empty() => {
                    while running.try_join_next().is_some() {}
                }
                () = self.dispatch.submitted.notified(), if !may_be_more => {}
                _ = look.tick() => {
                    pruned += 1;
                    if pruned.is_multiple_of(60) {
                        self.prune().await;
                    }
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn claim(&self, limit: usize) -> Vec<AsyncInvocation> {
        let now = now();
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let claim = Claim { now, lease_until: now + self.config.lease, limit };
        match self.dispatch.queue.claim(claim).await {
            Ok(claimed) => {
                let mut held = self.held.lock();
                held.extend(claimed.iter().map(|invocation| (invocation.id, invocation.attempt)));
                claimed
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot claim invocations");
                Vec::new()
            }
        }
    }

    async fn renew(&self) {
        let held: Vec<(InvocationId, u32)> =
            self.held.lock().iter().map(|(id, attempt)| (*id, *attempt)).collect();
        if let Err(error) = self.dispatch.queue.renew(&held, now() + self.config.lease).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot renew leases");
        }
    }

    async fn prune(&self) {
        if let Err(error) = self.dispatch.queue.prune_async_invocations(self.config.keep).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot remove old invocations");
        }
    }

    async fn deliver(self: Arc<Self>, invocation: AsyncInvocation) {
        let (id, attempt, created_at) = (invocation.id, invocation.attempt, invocation.created_at);
        let request = InvokeRequest {
            function: FunctionRef::Id(invocation.function),
            qualifier: invocation.qualifier,
            event: invocation.event.into(),
            options: InvokeOptions {
                id: Some(id),
                timeout: invocation.timeout,
                context: invocation.context.into(),
                keep_exchange: false,
            },
        };
        let next = match self.dispatch.invoke(&Caller::System, request).await {
            Ok(invoked) => Next::End(Completion::of(invoked.outcome, now())),
            Err(error) => after(&error, attempt, created_at),
        };
        self.settle(id, attempt, &next).await;
        self.held.lock().remove(&id);
    }

    /// Stores what comes next. If the store refuses, it is tried again for a while; then the lease expires, and the
    /// invocation runs once more.
    async fn settle(&self, id: InvocationId, attempt: u32, next: &Next) {
        for tried in 1..=STORE_TRIES {
            let settled = match next {
                Next::End(completion) => self.dispatch.queue.complete(id, attempt, completion).await,
                Next::Again(at) => self.dispatch.queue.put_back(id, attempt, *at).await,
            };
            match settled {
                Ok(true) => return,
                Ok(false) => {
                    tracing::info!(%id, attempt, "another attempt has taken over, or the function is gone");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, %id, "cannot store how an invocation ended");
                    tokio::time::sleep(backoff(tried)).await;
                }
            }
        }
    }
}

/// What becomes of an attempt.
#[derive(Debug, PartialEq)]
enum Next {
    End(Completion),
    /// Another attempt, not before this.
    Again(OffsetDateTime),
}

/// What becomes of an attempt that the platform could not run.
fn after(error: &DispatchError, attempt: u32, created_at: OffsetDateTime) -> Next {
    let now = now();
    let may_pass = match error {
        DispatchError::ShuttingDown => return Next::Again(now),
        DispatchError::Deploying(_)
        | DispatchError::Throttled { .. }
        | DispatchError::Sandbox(_)
        | DispatchError::Code(_)
        | DispatchError::Store(_) => true,
        DispatchError::Denied
        | DispatchError::NoNetwork
        | DispatchError::FunctionNotFound(_)
        | DispatchError::QualifierNotFound { .. }
        | DispatchError::BadEvent(_)
        | DispatchError::InputBroken(_)
        | DispatchError::EventTooLarge { .. } => false,
    };
    if may_pass && now - created_at < PLATFORM_PATIENCE {
        return Next::Again(now + backoff(attempt));
    }
    let failure = Failure {
        error_type: ErrorType::PlatformError,
        class: String::new(),
        message: error.to_string(),
        stack: None,
    };
    let (logs, usage) = (Logs::default(), Usage::default());
    Next::End(Completion { result: Err(failure), logs, usage, completed_at: now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_until_patience_ends() {
        let throttled = DispatchError::Throttled { retry_after: Duration::ZERO };
        assert!(matches!(after(&throttled, 1, now()), Next::Again(at) if at > now()));
        let long_ago = now() - PLATFORM_PATIENCE;
        assert!(matches!(after(&throttled, 1, long_ago), Next::End(_)));
    }

    #[test]
    fn what_cannot_pass_ends_at_once() {
        let ended = after(&DispatchError::BadEvent("x".to_owned()), 1, now());
        assert!(matches!(ended, Next::End(completion) if completion.status() == AsyncStatus::Failed));
    }
}
