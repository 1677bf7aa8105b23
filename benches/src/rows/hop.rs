//! What a controller and a worker add to a warm call: the same function behind `serve`, one call here and one call there in turn.
//! Then the same without a database, which no call waits for.

use anyhow::{Context as _, ensure};
use impuls_testkit::Postgres;
use serde::Serialize;

use super::Row;
use crate::bench::{Bench, EVENT};
use crate::cluster::Cluster;
use crate::http::{Connection, post};
use crate::report::{Budget, Figure, Findings};
use crate::server::{Function, Language, Server, invoke_path};
use crate::services;
use crate::stats::{Sample, median};

const FUNCTION: &str = "hop";
/// Pairs of calls before those that count, in every turn: the connections are new then.
const WARM_UP: u32 = 200;

/// What one turn measured, in microseconds.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    /// Whether the database ran.
    database: bool,
    serve_p50: f64,
    serve_p99: f64,
    hop_p50: f64,
    hop_p99: f64,
}

/// The measurement.
pub(super) struct Hop {
    serve: Server,
    controller: Server,
    turns: Vec<Turn>,
    /// Held so that it runs on, and ends before its database.
    _worker: Server,
    postgres: Postgres,
}

impl Hop {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let postgres = services::postgres()?;
        let cluster = Cluster::new("hop", &postgres.url(&postgres.database()), None);
        let worker = cluster.worker(bench, "worker", None, &[])?;
        let controller = cluster.controller(bench)?;
        let serve = Server::start(bench, "hop-serve", &[])?;
        let code = Language::Node.echo();
        for server in [&serve, &controller] {
            Function::of(Language::Node, FUNCTION, &code).create(&mut server.connect()?)?;
        }
        Ok(Self { serve, controller, turns: Vec::new(), _worker: worker, postgres })
    }

    fn turn(&mut self, bench: &Bench, database: bool) -> anyhow::Result<()> {
        let mut connections = [self.serve.connect()?, self.controller.connect()?];
        let mut times = [Vec::new(), Vec::new()];
        for pair in 0..bench.options.calls() + WARM_UP {
            for (connection, times) in connections.iter_mut().zip(&mut times) {
                let took = call(connection)?;
                if pair >= WARM_UP {
                    times.push(took);
                }
            }
        }
        let [serve, hop] = times.map(Sample::new);
        self.turns.push(Turn {
            database,
            serve_p50: serve.percentile(0.5),
            serve_p99: serve.percentile(0.99),
            hop_p50: hop.percentile(0.5),
            hop_p99: hop.percentile(0.99),
        });
        Ok(())
    }

    fn figure(&self, what: &str, database: bool) -> Figure {
        let of = |figure: fn(&Turn) -> f64| {
            median(self.turns.iter().filter(|turn| turn.database == database).map(figure))
        };
        let detail = format!(
            "through controller and worker p50 {:.0}, p99 {:.0}; `serve` p50 {:.0}, p99 {:.0}",
            of(|turn| turn.hop_p50),
            of(|turn| turn.hop_p99),
            of(|turn| turn.serve_p50),
            of(|turn| turn.serve_p99)
        );
        let added = of(|turn| turn.hop_p50 - turn.serve_p50);
        Figure::told(14, what, added, "µs").within(Budget::AtMost(500.0)).with(detail)
    }
}

/// Calls once; the time in microseconds.
fn call(connection: &mut Connection) -> anyhow::Result<f64> {
    let reply = connection.exchange(&post(&invoke_path(FUNCTION), EVENT.as_bytes()))?;
    let (status, took) = (reply.status, reply.took);
    ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(reply.body));
    Ok(took.as_secs_f64() * 1e6)
}

impl Row for Hop {
    fn name(&self) -> &'static str {
        "controller and worker, one at a time"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        self.turn(bench, true)?;
        self.postgres.kill();
        let without = self.turn(bench, false).context("a call failed while the database was away");
        self.postgres.resume();
        without
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let figures = vec![
            self.figure("warm call, a controller and a worker to `serve`, added, p50", true),
            self.figure("the same while PostgreSQL is stopped", false),
        ];
        Ok(Findings { name: "hop", figures, samples: serde_json::to_value(&self.turns)? })
    }
}
