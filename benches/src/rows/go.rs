//! Go beside what it could be instead: handlers beside Node's on the same server, and a program for each call beside
//! the bare start of the very same program ([`program`]).

mod program;

use serde::Serialize;
use serde_json::json;

use self::program::Program;
use super::Row;
use super::latency::call;
use crate::bench::Bench;
use crate::load::{CONNECTIONS, Target};
use crate::report::{Budget, Figure, Findings, number};
use crate::server::{Function, Language, Server, invoke_path};
use crate::stats::median;

/// Gives the event back like the echo in Node, with a type for it as Go's handlers have.
const ECHO: &str = r#"package main

type event struct {
    Name   string   `json:"name"`
    Count  int      `json:"count"`
    Tags   []string `json:"tags"`
    Nested struct {
        OK bool `json:"ok"`
    } `json:"nested"`
}

func handler(event event) (any, error) { return event, nil }
"#;
/// The runtime's alias.
const RUNTIME: &str = "go";

const GO: &str = "Go";
const NODE: &str = "Node";

/// What one turn of one handler measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    handler: &'static str,
    /// One call at a time, in microseconds.
    alone_p50_us: f64,
    alone_p99_us: f64,
    /// Calls per second over 64 connections.
    per_second: f64,
}

/// The handlers of one language.
struct Handler {
    name: &'static str,
    alone: Target,
    many: Target,
}

/// The measurement.
pub(super) struct Go {
    handlers: Vec<Handler>,
    program: Program,
    turns: Vec<Turn>,
    /// Held so that it runs on.
    _server: Server,
}

impl Go {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let name = "go";
        let server = Server::start(bench, name, &[])?;
        let handlers = vec![
            Handler::create(&server, GO, RUNTIME, ECHO)?,
            Handler::create(&server, NODE, Language::Node.runtime(), &Language::Node.echo())?,
        ];
        let program = Program::create(&server, &bench.scratch(name))?;
        Ok(Self { handlers, program, turns: Vec::new(), _server: server })
    }

    fn of(&self, handler: &str, figure: impl Fn(&Turn) -> f64) -> Vec<f64> {
        self.turns.iter().filter(|turn| turn.handler == handler).map(figure).collect()
    }

    /// How many times as long Go takes, and what each took.
    fn compared(&self, name: &str, unit: &str, figure: fn(&Turn) -> f64) -> (f64, String) {
        let (go, node) = (self.of(GO, figure), self.of(NODE, figure));
        let ratio = median(go.iter().zip(&node).map(|(go, node)| go / node));
        let detail = format!(
            "{name} of a call: {GO} {} {unit}, {NODE} {} {unit}",
            number(median(go)),
            number(median(node))
        );
        (ratio, detail)
    }
}

impl Handler {
    /// Creates one with a slot in each sandbox and one with a slot for each connection.
    fn create(server: &Server, name: &'static str, runtime: &str, code: &str) -> anyhow::Result<Self> {
        let mut connection = server.connect()?;
        let mut target = |concurrency| {
            let function = format!("echo-{runtime}-{concurrency}");
            let created = Function { name: &function, runtime, contract: None, code, concurrency };
            created.create(&mut connection)?;
            let path = invoke_path(&function);
            let target = Target { name, address: server.address, path, in_envelope: true };
            target.check()?;
            anyhow::Ok(target)
        };
        Ok(Self { name, alone: target(1)?, many: target(CONNECTIONS)? })
    }
}

impl Row for Go {
    fn name(&self) -> &'static str {
        "Go"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        for handler in &self.handlers {
            handler.many.check()?;
            let alone = call(&handler.alone, bench.options.calls())?;
            let many = handler.many.load(bench, bench.options.load())?;
            self.turns.push(Turn {
                handler: handler.name,
                alone_p50_us: alone.percentile(0.5),
                alone_p99_us: alone.percentile(0.99),
                per_second: many.per_second,
            });
        }
        self.program.round(bench)
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let (alone, alone_detail) = self.compared("p50", "µs", |turn| turn.alone_p50_us);
        let (many, many_detail) = self.compared("share", "µs", |turn| 1e6 / turn.per_second);
        let budget = Budget::AtMost(1.3);
        let figures = vec![
            Figure::told(12, "warm call, Go, one at a time, to Node", alone, "×")
                .within(budget)
                .with(alone_detail),
            Figure::told(12, format!("warm call, Go, {CONNECTIONS} connections, to Node"), many, "×")
                .within(budget)
                .with(many_detail),
            self.program.figure(budget),
        ];
        let samples = json!({ "handlers": self.turns, "program": self.program.samples() });
        Ok(Findings { name: "go", figures, samples })
    }
}
