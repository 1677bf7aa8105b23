//! Calls and cold starts in a second with one to four workers behind one controller, each worker on a core of its own that is
//! simulated. What is called needs the processor, so that the cores are what bounds it: a call computes for a while, a start
//! loads the runtime, since no worker prewarms.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use impuls_testkit::Postgres;
use serde::Serialize;

use super::Row;
use crate::bench::{Bench, EVENT};
use crate::cluster::Cluster;
use crate::cores::Core;
use crate::http::{Connection, post};
use crate::processes::pause;
use crate::report::{Figure, Findings, number};
use crate::server::{Function, Language, Server, invoke_path};
use crate::services;
use crate::stats::median;

/// The most workers.
const WORKERS: u32 = 4;
/// What each has of a core, in thousandths: four leave half a core of two to everybody else.
const SHARE: u32 = 350;
/// Who calls at once.
const CALLERS: u32 = 32;
/// Functions that compute, so that they have different homes.
const COMPUTING: u32 = 16;
/// What a call computes, in milliseconds of processor time.
const COMPUTES: u32 = 5;
/// Functions that start once, for each worker.
const STARTS: u32 = 24;
/// How long the nodes may take to hear of each other.
const MOST_WAIT: Duration = Duration::from_secs(30);
/// For how long a worker must have been heard of until it counts: longer than the controller's own look takes.
const HEARD: Duration = Duration::from_secs(3);

/// What one turn measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    workers: u32,
    /// In a second.
    calls: f64,
    starts: f64,
}

/// One figure of a turn.
type Measured = fn(&Turn) -> f64;

/// The measurement.
pub(super) struct Workers {
    cluster: Cluster,
    controller: Server,
    database: String,
    postgres: Postgres,
    turns: Vec<Turn>,
}

fn computing(number: u32) -> String {
    format!("computes-{number}")
}

impl Workers {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let postgres = services::postgres()?;
        let database = postgres.database();
        let cluster = Cluster::new("workers", &postgres.url(&database), None);
        let controller = cluster.controller(bench)?;
        let made = Self { cluster, controller, database, postgres, turns: Vec::new() };
        // On the whole machine, so that it does not take long.
        let worker = made.cluster.worker(bench, "deploy", None, &["--prewarm", "0"])?;
        made.heard_of(1)?;
        let code = format!(
            "exports.handler = async (event) => {{\n  const begun = process.cpuUsage();\n  for (;;) {{\n    \
             const {{ user, system }} = process.cpuUsage(begun);\n    \
             if (user + system >= {COMPUTES}000) return event;\n  }}\n}};\n"
        );
        let mut connection = made.controller.connect()?;
        for number in 0..COMPUTING {
            Function::of(Language::Node, &computing(number), &code).create(&mut connection)?;
        }
        drop(worker);
        made.heard_of(0)?;
        Ok(made)
    }

    /// Waits until the controller knows so many workers.
    fn heard_of(&self, workers: u32) -> anyhow::Result<()> {
        let begun = Instant::now();
        let count =
            "SELECT count(*) FROM impuls_nodes WHERE seen_at > clock_timestamp() - interval '6 seconds'";
        while self.postgres.sql(&self.database, count) != workers.to_string() {
            ensure!(begun.elapsed() < MOST_WAIT, "there are not {workers} workers after {MOST_WAIT:?}");
            pause(Duration::from_millis(100));
        }
        pause(HEARD);
        Ok(())
    }

    /// Calls all of these functions in turn, each caller one after the other, for so long or until there are none left; how many
    /// answers there were in a second.
    fn call(&self, functions: &[String], until: Until) -> anyhow::Result<f64> {
        let (next, begun) = (AtomicU32::new(0), Instant::now());
        let caller = || -> anyhow::Result<u32> {
            let (mut connection, mut answered) = (Connection::open(self.controller.address)?, 0);
            while !until.is_reached(begun) {
                let turn = next.fetch_add(1, Ordering::Relaxed) as usize;
                let place = if until == Until::Once { turn } else { turn % functions.len().max(1) };
                let Some(function) = functions.get(place) else { break };
                let reply = connection.exchange(&post(&invoke_path(function), EVENT.as_bytes()))?;
                let status = reply.status;
                ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(reply.body));
                answered += 1;
            }
            Ok(answered)
        };
        let answered = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
            let answers =
                callers.into_iter().map(|caller| caller.join().unwrap_or_else(|_| bail!("a caller is lost")));
            answers.sum::<anyhow::Result<u32>>()
        })?;
        Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
    }

    /// One turn with so many workers, which run.
    fn turn(&mut self, bench: &Bench, round: u32, workers: u32) -> anyhow::Result<()> {
        self.heard_of(workers)?;
        let computing: Vec<String> = (0..COMPUTING).map(computing).collect();
        // Every sandbox that is wanted is there after this.
        self.call(&computing, Until::For(bench.options.load() * 2))?;
        let calls = self.call(&computing, Until::For(bench.options.load()))?;
        let mut connection = self.controller.connect()?;
        let fresh: Vec<String> =
            (0..STARTS * workers).map(|number| format!("starts-{round}-{workers}-{number}")).collect();
        for (name, number) in fresh.iter().zip(0..) {
            Function::of(Language::Node, name, &Language::Node.witness(number)).create(&mut connection)?;
        }
        let starts = self.call(&fresh, Until::Once)?;
        self.turns.push(Turn { workers, calls, starts });
        Ok(())
    }
}

/// How long functions are called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Again and again, for so long.
    For(Duration),
    /// Each once.
    Once,
}

impl Until {
    fn is_reached(self, begun: Instant) -> bool {
        matches!(self, Self::For(time) if begun.elapsed() >= time)
    }
}

impl Row for Workers {
    fn name(&self) -> &'static str {
        "one to four workers"
    }

    fn round(&mut self, bench: &Bench, round: u32) -> anyhow::Result<()> {
        let (mut cores, mut workers) = (Vec::new(), Vec::new());
        for count in 1..=WORKERS {
            let name = format!("worker{count}");
            let core = Core::make(&name, SHARE)?;
            workers.push(self.cluster.worker(bench, &name, Some(&core), &["--prewarm", "0"])?);
            cores.push(core);
            self.turn(bench, round, count)?;
        }
        // Before what they run on.
        drop(workers);
        self.heard_of(0)
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let of = |workers: u32, figure: Measured| {
            median(self.turns.iter().filter(|turn| turn.workers == workers).map(figure))
        };
        let mut figures = Vec::new();
        let both: [(&str, Measured); 2] =
            [("calls that compute", |turn| turn.calls), ("cold starts", |turn| turn.starts)];
        for (what, figure) in both {
            let alone = of(1, figure);
            for workers in 1..=WORKERS {
                let many = of(workers, figure);
                let detail = format!("{} times as many as with one worker", number(many / alone));
                let told = Figure::told(15, format!("{what}, {workers} workers"), many, "/s");
                figures.push(told.with(detail));
            }
        }
        Ok(Findings { name: "workers", figures, samples: serde_json::to_value(&self.turns)? })
    }
}
