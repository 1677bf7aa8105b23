//! The clock that asynchronous invocations go by: the store's, read again and again, and carried on in between by the one clock of this
//! machine that nobody can set.
//!
//! So a server whose own clock is wrong holds leases for as long as all others do and takes over nothing that is alive. Where the
//! store has no clock of its own (SQLite), its time is this machine's; when that jumps, what waits is moved along, and nothing becomes
//! due, or has to wait, because of it. [`Steady`] keeps such a move away from whoever is giving the store instants.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use impuls_store::{ClockStore, StoreError};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::{Instant, MissedTickBehavior};

use crate::invoke::Dispatch;

/// How often the store's clock is read.
const READING: Duration = Duration::from_secs(1);
/// A difference from what was expected that is no jump: clocks drift, and are corrected a little at a time.
const DRIFT: Duration = Duration::from_secs(1);
/// An answer that took longer does not say what time it is.
const LATE: Duration = Duration::from_secs(2);

/// The clock.
pub(crate) struct Clock {
    store: Option<Arc<dyn ClockStore>>,
    reading: Mutex<Reading>,
    setting: RwLock<()>,
}

/// What time it was, and when that was.
#[derive(Clone, Copy)]
struct Reading {
    time: OffsetDateTime,
    at: Instant,
}

/// The clock, which is not set while this is held. Whoever computes an instant from it and gives that to the store holds it until the
/// store has answered; nobody holds two.
pub(crate) struct Steady<'c> {
    clock: &'c Clock,
    _not_set: RwLockReadGuard<'c, ()>,
}

impl Steady<'_> {
    /// The time now.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }
}

impl Default for Clock {
    /// This machine's, as it is now.
    fn default() -> Self {
        let reading = Reading { time: SystemTime::now().into(), at: Instant::now() };
        Self { store: None, reading: Mutex::new(reading), setting: RwLock::default() }
    }
}

impl Clock {
    /// The store's, once it has been read.
    pub(crate) fn of(store: Arc<dyn ClockStore>) -> Self {
        Self { store: Some(store), ..Self::default() }
    }

    /// The time now, cut to the microseconds that every store keeps.
    pub(crate) fn now(&self) -> OffsetDateTime {
        let Reading { time, at } = *self.reading.lock();
        let now = time + at.elapsed();
        now.replace_microsecond(now.microsecond()).unwrap_or(now)
    }

    /// The time now, for what is given to the store.
    pub(crate) async fn steady(&self) -> Steady<'_> {
        Steady { clock: self, _not_set: self.setting.read().await }
    }

    /// Asks the store. On `Err`, and if it takes too long, the last reading is carried on.
    async fn read(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let asked = Instant::now();
        let time = store.now().await?;
        if asked.elapsed() > LATE {
            return Ok(());
        }
        // It is later by now. Who is behind the store by as long as its answer took never takes what is not due yet.
        let told = Reading { time, at: Instant::now() };
        let by = told.time + told.at.elapsed() - self.now();
        if by.unsigned_abs() > DRIFT {
            let _nobody_else = self.setting.write().await;
            store.clock_was_set(by).await?;
            *self.reading.lock() = told;
            tracing::warn!(
                seconds = by.as_seconds_f64(),
                "the clock that asynchronous invocations go by was set, or is not this machine's"
            );
        } else {
            *self.reading.lock() = told;
        }
        Ok(())
    }

    /// Makes up for a clock that was set back while no server was there to see it: nothing was accepted in the future.
    pub(crate) async fn was_not_before(&self, accepted: OffsetDateTime) -> Result<(), StoreError> {
        let _nobody_else = self.setting.write().await;
        let by = self.now() - accepted;
        match &self.store {
            Some(store) if by.is_negative() && by.unsigned_abs() > DRIFT => store.clock_was_set(by).await,
            Some(_) | None => Ok(()),
        }
    }
}

impl Dispatch {
    /// Goes by the store's clock as it is now. To be called before anything is submitted or delivered.
    pub async fn read_clock(&self) -> Result<(), StoreError> {
        self.clock.read().await
    }

    /// Reads the clock again and again, until the dispatch is gone. While the store does not answer the clock goes on by itself.
    pub async fn follow_clock(dispatch: Weak<Self>) {
        let mut readings = tokio::time::interval(READING);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            readings.tick().await;
            let Some(dispatch) = dispatch.upgrade() else { return };
            if let Err(error) = dispatch.clock.read().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot read the store's clock");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use time::Duration as Span;

    use super::*;

    const NOON: OffsetDateTime = time::macros::datetime!(2026-01-01 12:00 UTC);

    /// A clock on a wall, and by how much it was said to be set.
    struct Wall(Mutex<(OffsetDateTime, Vec<Span>)>);

    #[async_trait]
    impl ClockStore for Wall {
        async fn now(&self) -> Result<OffsetDateTime, StoreError> {
            Ok(self.0.lock().0)
        }

        async fn clock_was_set(&self, by: Span) -> Result<(), StoreError> {
            self.0.lock().1.push(by);
            Ok(())
        }
    }

    fn clocks() -> (Arc<Wall>, Clock) {
        let wall = Arc::new(Wall(Mutex::new((NOON, Vec::new()))));
        (wall.clone(), Clock::of(wall))
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_between_readings_and_without_them() {
        let (wall, clock) = clocks();
        clock.read().await.unwrap();
        assert_eq!(clock.now(), NOON);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now(), NOON + Span::seconds(90));
        wall.0.lock().0 = NOON + Span::milliseconds(90_400);
        clock.read().await.unwrap();
        assert_eq!(clock.now(), NOON + Span::milliseconds(90_400));
        assert_eq!(wall.0.lock().1.len(), 1, "drift is no jump");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_moves_what_waits_when_nobody_is_at_it() {
        let (wall, clock) = clocks();
        clock.read().await.unwrap();
        wall.0.lock().1.clear();
        for jump in [Span::hours(1), Span::hours(-3)] {
            wall.0.lock().0 += jump;
            let steady = clock.steady().await;
            let before = steady.now();
            let reading = clock.read();
            tokio::pin!(reading);
            let early = tokio::time::timeout(Duration::from_millis(10), &mut reading).await;
            assert!(early.is_err(), "somebody was giving the store an instant");
            assert!(steady.now() - before < Span::seconds(1));
            drop(steady);
            reading.await.unwrap();
            let now = clock.now();
            assert!((now - before - jump).unsigned_abs() < Duration::from_secs(1), "{now}");
            // The wall stood still meanwhile.
            wall.0.lock().0 = now;
        }
        let said: Vec<i64> = wall.0.lock().1.iter().map(|by| by.whole_minutes()).collect();
        assert_eq!(said, [60, -180]);
    }
}
