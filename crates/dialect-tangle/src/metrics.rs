//! What the executions of this server cost, as measured since it was started.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Json;
use impuls_dispatch::Executed;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::body::Authenticated;
use crate::errors::Refusal;
use crate::state::State;

/// Percentiles are those of so many executions before now.
const SAMPLES: usize = 1_000;

/// A sum and how many there are in it.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: Duration,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Duration) {
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    fn millis(self) -> Option<f64> {
        (self.count > 0).then(|| millis(self.sum / self.count))
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[derive(Default)]
struct Counts {
    requests: u64,
    cache_hits: u64,
    executions: u64,
    failed: u64,
    timed_out: u64,
    refused: u64,
    cold: Mean,
    warm: Mean,
    latest: VecDeque<Duration>,
}

impl Counts {
    fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted: Vec<Duration> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        // The nearest rank: the least value that so many percent of all are not above.
        let rank = (sorted.len() * percent).div_ceil(100);
        rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().map(millis)
    }
}

/// The figures.
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
    started: Instant,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { counts: Mutex::default(), started: Instant::now() }
    }
}

impl Metrics {
    /// A request was answered from the cache.
    pub(crate) fn note_hit(&self) {
        let mut counts = self.counts.lock();
        counts.requests += 1;
        counts.cache_hits += 1;
    }

    /// A request was refused, or the platform failed.
    pub(crate) fn note_refusal(&self) {
        let mut counts = self.counts.lock();
        counts.requests += 1;
        counts.refused += 1;
    }

    /// A command has run.
    pub(crate) fn note(&self, executed: &Executed, took: Duration) {
        let mut counts = self.counts.lock();
        counts.requests += 1;
        counts.executions += 1;
        counts.failed += u64::from(executed.exit_code != Some(0) && !executed.timed_out);
        counts.timed_out += u64::from(executed.timed_out);
        let start = if executed.prewarmed { &mut counts.warm } else { &mut counts.cold };
        start.add(executed.start_duration);
        if counts.latest.len() >= SAMPLES {
            counts.latest.pop_front();
        }
        counts.latest.push_back(took);
    }

    fn summary(&self) -> Summary {
        let counts = self.counts.lock();
        let rate = if counts.requests == 0 { 0.0 } else { counts.cache_hits as f64 / counts.requests as f64 };
        Summary {
            total_requests: counts.requests,
            cache_hits: counts.cache_hits,
            cache_hit_rate: rate,
            docker_executions: 0,
            vm_executions: 0,
            process_executions: counts.executions,
        }
    }
}

/// The reply of `GET /api/v1/metrics`.
#[derive(Serialize)]
pub(crate) struct Summary {
    total_requests: u64,
    cache_hits: u64,
    cache_hit_rate: f64,
    /// Always 0: there is no container engine.
    docker_executions: u64,
    /// Always 0: there is no microVM driver.
    vm_executions: u64,
    process_executions: u64,
}

/// The reply of `GET /api/v1/metrics/detailed`; a mean or percentile of nothing is `null`.
#[derive(Serialize)]
pub(crate) struct Detailed {
    #[serde(flatten)]
    summary: Summary,
    failed_executions: u64,
    timed_out_executions: u64,
    refused_requests: u64,
    running: usize,
    avg_cold_start_ms: Option<f64>,
    avg_warm_start_ms: Option<f64>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    uptime_ms: u64,
}

/// `GET /api/v1/metrics`.
pub(crate) async fn summary(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(_): Authenticated,
) -> Json<Summary> {
    Json(state.metrics.summary())
}

/// `GET /api/v1/metrics/detailed`.
pub(crate) async fn detailed(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Detailed>, Refusal> {
    let pool = state.dispatch.command_pool(&caller).await?;
    let summary = state.metrics.summary();
    let counts = state.metrics.counts.lock();
    Ok(Json(Detailed {
        summary,
        failed_executions: counts.failed,
        timed_out_executions: counts.timed_out,
        refused_requests: counts.refused,
        running: pool.running,
        avg_cold_start_ms: counts.cold.millis(),
        avg_warm_start_ms: counts.warm.millis(),
        p50_ms: counts.percentile(50),
        p95_ms: counts.percentile(95),
        p99_ms: counts.percentile(99),
        uptime_ms: u64::try_from(state.metrics.started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn figures_are_those_of_what_was_noted() {
        let metrics = Metrics::default();
        metrics.note_hit();
        for n in 1..=100 {
            let executed = Executed {
                exit_code: Some(i32::from(n > 90)),
                start_duration: Duration::from_millis(if n == 1 { 30 } else { 2 }),
                prewarmed: n > 1,
                ..Executed::default()
            };
            metrics.note(&executed, Duration::from_millis(n));
        }
        let summary = metrics.summary();
        assert_eq!((summary.total_requests, summary.cache_hits, summary.process_executions), (101, 1, 100));
        let counts = metrics.counts.lock();
        assert_eq!((counts.failed, counts.timed_out), (10, 0));
        assert_eq!((counts.cold.millis(), counts.warm.millis()), (Some(30.0), Some(2.0)));
        assert_eq!((counts.percentile(50), counts.percentile(99)), (Some(50.0), Some(99.0)));
    }

    #[test]
    fn nothing_has_no_mean() {
        assert_eq!(Mean::default().millis(), None);
        assert_eq!(Counts::default().percentile(99), None);
    }
}
