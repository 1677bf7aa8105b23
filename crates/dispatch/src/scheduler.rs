//! Makes the ticks of schedules asynchronous invocations.
//!
//! A tick's invocation has an id of its own that every server derives alike, and it is stored in the commit that moves the
//! schedule on; so it is there once, however many servers look. Ticks that nobody was there for are made up by one
//! invocation: that of the first of them.

use std::sync::Arc;
use std::time::Duration;

use impuls_domain::{AsyncInvocation, AsyncStatus, Schedule, Tally};
use impuls_store::{ScheduleStore, Tick};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::delivery::offer;
use crate::error::DispatchError;
use crate::invoke::Dispatch;

/// How often it is looked for ticks that are due; a tick may be late by so much.
const LOOK: Duration = Duration::from_millis(500);
/// Ticks that are fired before it is looked again.
const BATCH: u32 = 200;

/// Fires the ticks of all schedules of a store.
pub struct Scheduler {
    dispatch: Arc<Dispatch>,
    schedules: Arc<dyn ScheduleStore>,
}

impl Scheduler {
    /// A scheduler that enqueues where this dispatch does; its store must be the one of these schedules.
    #[must_use]
    pub fn new(dispatch: Arc<Dispatch>, schedules: Arc<dyn ScheduleStore>) -> Self {
        Self { dispatch, schedules }
    }

    /// Fires what is due until `stop` is true. May be dropped at any time.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                // It changes once, and a sender that is gone has stopped as well.
                _ = stop.changed() => return,
                _ = look.tick() => {}
            }
            tokio::select! {
                // What was being fired is there, or will be fired by the next server: a tick is one commit.
                _ = stop.changed() => return,
                () = self.fire_all() => {}
            }
        }
    }

    async fn fire_all(&self) {
        let due = match self.schedules.due_schedules(self.dispatch.clock.now(), BATCH).await {
            Ok(due) => due,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                return tracing::warn!(error, "cannot look for schedules that are due");
            }
        };
        for schedule in due {
            if let Err(error) = self.fire(&schedule).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, schedule = %schedule.name, "cannot fire a schedule");
            }
        }
    }

    async fn fire(&self, schedule: &Schedule) -> Result<(), DispatchError> {
        let Some(at) = schedule.next_tick else { return Ok(()) };
        let clock = self.dispatch.clock.steady().await;
        let now = clock.now();
        // A rule that never comes again rests until somebody changes it.
        let next = schedule.cadence.next_after(schedule.created_at, now.max(at)).ok();
        let invocation = self.invocation(schedule, at, now).await?;
        let tick = Tick { schedule: schedule.id, at, next, invocation };
        if self.schedules.fire(&tick).await.map_err(DispatchError::Store)? {
            self.dispatch.offers.push(offer(&tick.invocation));
        }
        Ok(())
    }

    async fn invocation(
        &self,
        schedule: &Schedule,
        at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<AsyncInvocation, DispatchError> {
        let settings = self.dispatch.async_settings(schedule.function).await?;
        let tick_ms = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let told = || {
            let at = at.format(&Rfc3339).unwrap_or_default();
            serde_json::json!({ "schedule": schedule.name.as_str(), "time": at }).to_string().into_bytes()
        };
        Ok(AsyncInvocation {
            id: schedule.id.invocation_at(tick_ms),
            function: schedule.function,
            qualifier: schedule.qualifier.clone(),
            hook: None,
            event: schedule.event.clone().unwrap_or_else(told),
            context: Vec::new(),
            timeout: None,
            policy: settings.policy,
            destinations: settings.destinations,
            key: None,
            origin: None,
            chain: 0,
            status: AsyncStatus::Queued,
            attempt: 0,
            tally: Tally::default(),
            not_before: now,
            created_at: now,
            ready_at: now,
            started_at: None,
            last_failure: None,
            completion: None,
        })
    }
}
