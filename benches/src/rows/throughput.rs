//! Warm calls over 64 connections.

use std::time::Duration;

use serde::Serialize;

use super::Row;
use crate::bench::Bench;
use crate::load::{Load, Target};
use crate::peers::Peers;
use crate::processes::Process;
use crate::report::{Budget, Figure, Findings, number};
use crate::server::{Function, Language, Server, invoke_path};
use crate::stats::median;

/// Load before the first round, so that every interpreter has compiled what it will.
const WARM_UP: Duration = Duration::from_secs(2);

/// A server with an echo in each language.
pub(super) struct Impuls {
    server: Server,
}

impl Impuls {
    pub(super) fn start(bench: &Bench, name: &str, concurrency: u32) -> anyhow::Result<Self> {
        let server = Server::start(bench, name, &[])?;
        let mut connection = server.connect()?;
        for language in Language::ALL {
            let (name, code) = (echo_name(language), language.echo());
            let function = Function { concurrency, ..Function::of(language, &name, &code) };
            function.create(&mut connection)?;
        }
        Ok(Self { server })
    }

    pub(super) fn target(&self, name: &'static str, language: Language) -> Target {
        let path = invoke_path(&echo_name(language));
        Target { name, address: self.server.address, path, in_envelope: true }
    }
}

fn echo_name(language: Language) -> String {
    format!("echo-{}", language.runtime())
}

/// What one turn of one target measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    target: &'static str,
    #[serde(flatten)]
    load: Load,
}

const NODE: &str = "impuls, Node";
const PYTHON: &str = "impuls, Python";
const NODE_HTTP: &str = "node http";
const WORKERD: &str = "workerd";
const FRAMEWORK: &str = "functions-framework";
const BARE_HTTP: &str = "bare hyper";

/// The measurement.
pub(super) struct Throughput {
    targets: Vec<Target>,
    turns: Vec<Turn>,
    /// Held so that they run on.
    _impuls: Impuls,
    _peers: Vec<Process>,
}

impl Throughput {
    pub(super) fn prepare(bench: &Bench, peers: &Peers) -> anyhow::Result<Self> {
        let impuls = Impuls::start(bench, "throughput", crate::load::CONNECTIONS)?;
        let (node_http, node_address) = peers.node_http(bench)?;
        let (workerd, workerd_address) = peers.workerd(bench)?;
        let (framework, framework_address) = peers.functions_framework(bench)?;
        let (bare_http, bare_address) = bench.bare("echo-http")?;
        let targets = vec![
            impuls.target(NODE, Language::Node),
            Target::bare(NODE_HTTP, node_address),
            Target::bare(WORKERD, workerd_address),
            Target::bare(FRAMEWORK, framework_address),
            impuls.target(PYTHON, Language::Python),
            Target::bare(BARE_HTTP, bare_address),
        ];
        for target in &targets {
            target.check()?;
            target.load(bench, WARM_UP)?;
        }
        let peers = vec![node_http, workerd, framework, bare_http];
        Ok(Self { targets, turns: Vec::new(), _impuls: impuls, _peers: peers })
    }

    fn of(&self, target: &str, figure: impl Fn(&Load) -> f64) -> Vec<f64> {
        self.turns.iter().filter(|turn| turn.target == target).map(|turn| figure(&turn.load)).collect()
    }

    fn describe(&self, target: &str) -> String {
        let at = |figure: fn(&Load) -> f64| median(self.of(target, figure));
        let (rate, p50, p99) = (at(|load| load.per_second), at(|load| load.p50_us), at(|load| load.p99_us));
        format!("{target} {}/s, p50 {} µs, p99 {} µs", number(rate), number(p50), number(p99))
    }
}

impl Row for Throughput {
    fn name(&self) -> &'static str {
        "warm, 64 connections"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        for target in &self.targets {
            target.check()?;
            let load = target.load(bench, bench.options.load())?;
            self.turns.push(Turn { target: target.name, load });
        }
        Ok(())
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let rate = |target: &str| self.of(target, |load| load.per_second);
        let mut figures = vec![
            Figure::told(4, "warm throughput, Node", median(rate(NODE)), "/s").with(self.describe(NODE)),
        ];
        for (peer, budget) in [(NODE_HTTP, 2.0), (WORKERD, 7.0), (FRAMEWORK, 20.0)] {
            let ratio = median(rate(NODE).into_iter().zip(rate(peer)).map(|(own, peer)| own / peer));
            let figure = Figure::told(4, format!("warm throughput, Node, to {peer}"), ratio, "×");
            figures.push(figure.within(Budget::AtLeast(budget)).with(self.describe(peer)));
        }
        for target in [PYTHON, BARE_HTTP] {
            let figure = Figure::told(4, format!("warm throughput, {target}"), median(rate(target)), "/s");
            figures.push(figure.with(self.describe(target)));
        }
        Ok(Findings { name: "throughput", figures, samples: serde_json::to_value(&self.turns)? })
    }
}
