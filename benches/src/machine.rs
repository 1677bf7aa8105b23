//! Whether the machine is quiet enough for figures to mean anything, and what kind of machine it is.
//!
//! Load averages and pressure lag by minutes and would blame us for our own load, so they are only recorded. What
//! decides is measured on the spot: processor time that others used, time that the hypervisor took away (steal), and
//! how unevenly a fixed piece of work runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::proc;
use crate::processes::pause;
use crate::stats::{Sample, median};

/// The most processor time that others may use meanwhile, in cores.
const MOST_FOREIGN: f64 = 0.25;
/// The largest part of the machine's time that the hypervisor may take away.
const MOST_STEAL: f64 = 0.05;
/// The most that a fixed piece of work may usually take, as a multiple of the fastest time.
const MOST_SLOWDOWN: f64 = 1.25;
/// How long one look at the machine at rest takes.
const LOOK: Duration = Duration::from_secs(1);
/// How often the fixed piece of work is done on each core.
const REPEATS: usize = 60;

/// What was seen of the machine during one stretch of time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Observation {
    /// When: `before round 1`, `round 1`, …
    pub(crate) when: String,
    /// Processor time that processes other than ours used, in cores.
    pub(crate) foreign_cores: f64,
    /// Processor time that our own processes used, in cores. At rest it is what a server still does in the background,
    /// Go's standard library for instance, which it compiles once.
    pub(crate) own_cores: f64,
    /// Part of the machine's time that the hypervisor took away.
    pub(crate) steal: f64,
    /// How long a fixed piece of work took, as a multiple of the fastest time; only seen at rest.
    pub(crate) slowdown: Option<f64>,
    /// `/proc/loadavg`, the first three figures.
    pub(crate) load_average: String,
    /// `/proc/pressure/cpu`, the share of the last ten seconds in which something waited for a core, in percent.
    pub(crate) pressure: Option<f64>,
}

impl Observation {
    /// Why figures from this time mean nothing.
    pub(crate) fn complaint(&self) -> Option<String> {
        let complaint = if self.foreign_cores > MOST_FOREIGN {
            format!("other programs used {:.2} cores ({MOST_FOREIGN} are tolerated)", self.foreign_cores)
        } else if self.slowdown.is_some() && self.own_cores > MOST_FOREIGN {
            format!(
                "the servers are still at work with {:.2} cores ({MOST_FOREIGN} are tolerated)",
                self.own_cores
            )
        } else if self.steal > MOST_STEAL {
            format!(
                "the hypervisor took {:.0} % of the time ({:.0} % are tolerated)",
                self.steal * 100.0,
                MOST_STEAL * 100.0
            )
        } else if let Some(slowdown) = self.slowdown.filter(|slowdown| *slowdown > MOST_SLOWDOWN) {
            format!(
                "a fixed piece of work usually took {slowdown:.2} times its fastest time ({MOST_SLOWDOWN} are tolerated)"
            )
        } else {
            return None;
        };
        Some(format!("{}: {complaint}", self.when))
    }
}

/// Looks at the machine from now until [`Watch::end`].
pub(crate) struct Watch {
    started: Instant,
    times: Times,
    ours: f64,
}

impl Watch {
    pub(crate) fn begin() -> anyhow::Result<Self> {
        Ok(Self {
            started: Instant::now(),
            times: Times::now()?,
            ours: proc::tree_seconds(std::process::id())?,
        })
    }

    pub(crate) fn end(self, when: &str) -> anyhow::Result<Observation> {
        let (times, ours) = (Times::now()?, proc::tree_seconds(std::process::id())?);
        let seconds = self.started.elapsed().as_secs_f64();
        let (busy, ours) = (times.busy - self.times.busy, ours - self.ours);
        let total = (times.total - self.times.total).max(1.0 / TICKS);
        Ok(Observation {
            when: when.to_owned(),
            foreign_cores: ((busy - ours) / seconds).max(0.0),
            own_cores: (ours / seconds).max(0.0),
            steal: (times.steal - self.times.steal) / total,
            slowdown: None,
            load_average: first_words("/proc/loadavg", 3),
            pressure: pressure(),
        })
    }
}

/// Waits until the machine is quiet, our own servers too; the last of so many looks if it does not get so.
pub(crate) fn settle(when: &str, looks: u32) -> anyhow::Result<Observation> {
    let mut look = 1;
    loop {
        let watch = Watch::begin()?;
        pause(LOOK);
        let mut seen = watch.end(when)?;
        seen.slowdown = Some(slowdown());
        if seen.complaint().is_none() || look >= looks {
            return Ok(seen);
        }
        look += 1;
    }
}

/// The usual time of a fixed piece of work on all cores at once, as a multiple of the fastest time.
fn slowdown() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<_> = (0..cores).map(|_| std::thread::spawn(repeat_work)).collect();
    let samples = workers.into_iter().filter_map(|worker| worker.join().ok());
    median(samples.map(|sample| sample.percentile(0.75) / sample.min()))
}

fn repeat_work() -> Sample {
    let times = (0..REPEATS).map(|_| {
        let started = Instant::now();
        let mut state = black_box(1_u64);
        for _ in 0..1_000_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        black_box(state);
        started.elapsed().as_secs_f64()
    });
    Sample::new(times.collect())
}

/// Ticks in a second, as `/proc` has them.
const TICKS: f64 = 100.0;

/// Processor time of the whole machine since it started, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    busy: f64,
    steal: f64,
    total: f64,
}

impl Times {
    fn now() -> anyhow::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/stat")?))
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Interrupts are nobody's
    /// processes, so they do not count as busy.
    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or_default() / TICKS;
        Self { busy: at(0) + at(1) + at(2), steal: at(7), total: (0..8).map(at).sum() }
    }
}

fn first_words(path: &str, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

fn pressure() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    text.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// What kind of machine it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_mib: u64,
    kernel: String,
}

impl Machine {
    pub(crate) fn of_here() -> Self {
        let value = |path: &str, name: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).map(ToOwned::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let kib = value("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: value("/proc/cpuinfo", "model name"),
            memory_mib: kib.unwrap_or_default() / 1024,
            kernel: first_words("/proc/sys/kernel/osrelease", 1),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cores, processor, memory_mib, kernel } = self;
        write!(f, "{cores} cores ({processor}), {memory_mib} MiB, Linux {kernel}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(foreign_cores: f64, steal: f64, slowdown: f64) -> Observation {
        Observation {
            when: "before round 1".to_owned(),
            foreign_cores,
            own_cores: 0.0,
            steal,
            slowdown: Some(slowdown),
            load_average: String::new(),
            pressure: None,
        }
    }

    #[test]
    fn a_busy_machine_is_complained_about() {
        assert_eq!(observation(0.1, 0.01, 1.1).complaint(), None);
        for busy in [observation(0.3, 0.0, 1.0), observation(0.0, 0.1, 1.0), observation(0.0, 0.0, 1.5)] {
            assert!(busy.complaint().is_some(), "{busy:?}");
        }
    }

    #[test]
    fn own_work_is_complained_about_at_rest_alone() {
        let at_work = |slowdown| Observation { own_cores: 1.0, slowdown, ..observation(0.0, 0.0, 1.0) };
        assert!(at_work(Some(1.0)).complaint().is_some());
        assert_eq!(at_work(None).complaint(), None);
    }

    #[test]
    fn times_are_read_from_the_first_line() {
        let stat = "cpu  100 200 300 1000 0 0 400 50 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(Times::parse(stat), Times { busy: 6.0, steal: 0.5, total: 20.5 });
    }
}
