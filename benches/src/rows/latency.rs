//! Warm calls one at a time over one connection.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::Serialize;

use super::Row;
use super::throughput::Impuls;
use crate::bench::Bench;
use crate::http::Connection;
use crate::load::Target;
use crate::peers::Peers;
use crate::processes::Process;
use crate::report::{Budget, Figure, Findings};
use crate::server::Language;
use crate::socket::Socket;
use crate::stats::{Sample, median};

/// Calls before those that count, in every turn: the connection is new then.
const WARM_UP: u32 = 200;

/// What one turn of one target measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    target: &'static str,
    p50_us: f64,
    p99_us: f64,
}

/// The measurement.
pub(super) struct Latency {
    targets: Vec<Target>,
    socket: SocketAddr,
    turns: Vec<Turn>,
    /// Held so that they run on.
    _impuls: Impuls,
    _peers: Vec<Process>,
}

const NODE: &str = "impuls, Node";
const PYTHON: &str = "impuls, Python";
const NODE_HTTP: &str = "node http";
const BARE_HTTP: &str = "bare hyper";
const SOCKET: &str = "bare socket";

impl Latency {
    pub(super) fn prepare(bench: &Bench, peers: &Peers) -> anyhow::Result<Self> {
        let impuls = Impuls::start(bench, "latency", 1)?;
        let (node_http, node_address) = peers.node_http(bench)?;
        let (bare_http, bare_address) = bench.bare("echo-http")?;
        let (bare_socket, socket) = bench.bare("echo-socket")?;
        let targets = vec![
            impuls.target(NODE, Language::Node),
            impuls.target(PYTHON, Language::Python),
            Target::bare(NODE_HTTP, node_address),
            Target::bare(BARE_HTTP, bare_address),
        ];
        for target in &targets {
            target.check()?;
        }
        Ok(Self {
            targets,
            socket,
            turns: Vec::new(),
            _impuls: impuls,
            _peers: vec![node_http, bare_http, bare_socket],
        })
    }

    fn take(&mut self, target: &'static str, sample: &Sample) {
        self.turns.push(Turn { target, p50_us: sample.percentile(0.5), p99_us: sample.percentile(0.99) });
    }

    fn of(&self, target: &str) -> (Vec<f64>, Vec<f64>) {
        let turns = self.turns.iter().filter(|turn| turn.target == target);
        turns.map(|turn| (turn.p50_us, turn.p99_us)).unzip()
    }
}

/// Calls a target again and again; the times in microseconds.
pub(super) fn call(target: &Target, calls: u32) -> anyhow::Result<Sample> {
    let mut connection = Connection::open(target.address)?;
    let request = target.request();
    let mut times = Vec::with_capacity(calls as usize);
    for call in 0..calls + WARM_UP {
        let reply = connection.exchange(&request).with_context(|| format!("cannot call {}", target.name))?;
        anyhow::ensure!(reply.status == 200, "{} answered with status {}", target.name, reply.status);
        if call >= WARM_UP {
            times.push(reply.took.as_secs_f64() * 1e6);
        }
    }
    Ok(Sample::new(times))
}

impl Row for Latency {
    fn name(&self) -> &'static str {
        "warm, one at a time"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        let calls = bench.options.calls();
        let mut socket = Socket::open(self.socket)?;
        for _ in 0..WARM_UP {
            socket.round_trip()?;
        }
        let times = (0..calls).map(|_| socket.round_trip()).collect::<anyhow::Result<Vec<_>>>()?;
        self.take(SOCKET, &Sample::new(times.into_iter().map(|time| time.as_secs_f64() * 1e6).collect()));
        for at in 0..self.targets.len() {
            let Some(target) = self.targets.get(at) else { continue };
            let (name, sample) = (target.name, call(target, calls)?);
            self.take(name, &sample);
        }
        Ok(())
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let describe = |name: &str| {
            let (p50, p99) = self.of(name);
            format!("p50 {:.0}, p99 {:.0}", median(p50), median(p99))
        };
        let added = |name: &str| {
            let (own, floor) = (self.of(name).0, self.of(SOCKET).0);
            median(own.into_iter().zip(floor).map(|(own, floor)| own - floor))
        };
        let mut figures = Vec::new();
        for name in [NODE, PYTHON, NODE_HTTP, BARE_HTTP] {
            let what = format!("warm call, {name}, added to the bare socket, p50");
            let detail = format!("{name} {}; {SOCKET} {}", describe(name), describe(SOCKET));
            let figure = Figure::told(3, what, added(name), "µs").with(detail);
            let is_ours = [NODE, PYTHON].contains(&name);
            figures.push(if is_ours { figure.within(Budget::AtMost(150.0)) } else { figure });
        }
        Ok(Findings { name: "latency", figures, samples: serde_json::to_value(&self.turns)? })
    }
}
