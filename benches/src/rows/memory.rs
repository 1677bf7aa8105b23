//! Memory and descriptors: of the server alone, and of live sandboxes. Nothing else that is measured runs meanwhile,
//! because a page that a peer shares with a sandbox would count for less.

use std::collections::HashSet;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::bench::Bench;
use crate::http::Connection;
use crate::proc::{self, Id, Memory};
use crate::report::{Budget, Figure, Findings, number};
use crate::server::{Function, Language, Server, ask};

/// Functions that are stored when the server's memory is measured a second time.
const STORED: u32 = 1_000;

/// Measures everything once.
pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Findings> {
    let (mut figures, mut samples) = (Vec::new(), serde_json::Map::new());
    own_memory(bench, &mut figures)?;
    for language in Language::ALL {
        let count = match language {
            Language::Node => bench.options.node_sandboxes,
            Language::Python => bench.options.python_sandboxes,
        };
        let live = Live::start(bench, language, count)?;
        samples.insert(language.runtime().to_owned(), live.json());
        figures.extend(live.figures());
    }
    Ok(Findings { name: "memory", figures, samples: samples.into() })
}

/// The server's own memory, idle, with functions stored, and after it has loaded them from disk.
fn own_memory(bench: &Bench, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let server = Server::start(bench, "memory", &[])?;
    server.settle()?;
    let of_server = |server: &Server, what: &str, limit: f64| -> anyhow::Result<Figure> {
        let memory = proc::memory(server.id())?;
        let figure = Figure::told(7, format!("memory of the server, {what}"), memory.resident, "MiB");
        let spawner = children(server.id())?;
        let spawner = proc::memory_of(spawner)?.proportional;
        let detail = format!(
            "proportional share {} MiB; its spawner {} MiB",
            number(memory.proportional),
            number(spawner)
        );
        Ok(figure.within(Budget::AtMost(limit)).with(detail))
    };
    figures.push(of_server(&server, "idle", 40.0)?);
    let mut connection = server.connect()?;
    for number in 0..STORED {
        let language = if number % 2 == 0 { Language::Node } else { Language::Python };
        let (name, code) = (format!("stored-{number}"), language.witness(number));
        Function::of(language, &name, &code).create(&mut connection)?;
    }
    drop(connection);
    server.settle()?;
    figures.push(of_server(&server, "1,000 functions just stored", 60.0)?);
    drop(server);
    let server = Server::start(bench, "memory", &[])?;
    server.settle()?;
    figures.push(of_server(&server, "1,000 functions stored, restarted", 60.0)?);
    Ok(())
}

/// The processes directly below one: of a server, its spawner.
fn children(id: Id) -> anyhow::Result<HashSet<Id>> {
    let below = proc::descendants(id)?;
    let mut direct = below.clone();
    for child in &below {
        for deeper in proc::descendants(*child)? {
            direct.remove(&deeper);
        }
    }
    Ok(direct)
}

/// What was measured of live sandboxes of one language.
struct Live {
    language: Language,
    count: u32,
    /// All processes of all sandboxes; `None` when the kernel does not let us look.
    memory: Option<Memory>,
    processes: usize,
    /// Descriptors that the server holds for all of them.
    descriptors: f64,
    /// What the server itself grew by, in MiB.
    growth: f64,
}

impl Live {
    /// Makes sandboxes by calling as many functions, calls each a second time, and looks at them. The pool is off, so
    /// every process that comes below the spawner belongs to a sandbox that has answered.
    fn start(bench: &Bench, language: Language, count: u32) -> anyhow::Result<Self> {
        let name = format!("live-{}", language.runtime());
        let server = Server::start(bench, &name, &["--prewarm", "0"])?;
        let mut connection = server.connect()?;
        let names: Vec<String> = (0..=count).map(|number| format!("{name}-{number}")).collect();
        for (number, name) in (0..).zip(&names) {
            let code = language.witness(number);
            Function::of(language, name, &code).create(&mut connection)?;
        }
        let (warm_up, names) = names.split_first().context("no functions")?;
        // The first sandbox makes what all of them share, such as the process that others are forked from.
        ask(&mut connection, warm_up)?;
        server.settle()?;
        let (before, own, open) =
            (proc::descendants(server.id())?, proc::memory(server.id())?, proc::descriptors(server.id())?);
        call_all(&mut connection, names, 1)?;
        call_all(&mut connection, names, 2)?;
        let now = proc::descendants(server.id())?;
        let new: Vec<Id> = now.difference(&before).copied().collect();
        let grown = proc::memory(server.id())?.resident - own.resident;
        let held = proc::descriptors(server.id())?.saturating_sub(open);
        Ok(Self {
            language,
            count,
            processes: new.len(),
            memory: proc::memory_of(new).ok(),
            descriptors: f64::from(u32::try_from(held)?) / f64::from(count),
            growth: grown,
        })
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "sandboxes": self.count,
            "processes": self.processes,
            "resident_mib": self.memory.map(|memory| memory.resident),
            "proportional_mib": self.memory.map(|memory| memory.proportional),
            "server_descriptors_each": self.descriptors,
            "server_growth_mib": self.growth,
        })
    }

    fn figures(&self) -> Vec<Figure> {
        let (name, count) = (self.language.name(), self.count);
        let each = |sum: f64| sum / f64::from(count);
        let memory = self.memory.map_or(f64::NAN, |memory| each(memory.proportional));
        let detail = match self.memory {
            Some(memory) => format!(
                "proportional share of {} processes, {} MiB in all; the server grew by {} MiB",
                self.processes,
                number(memory.proportional),
                number(self.growth)
            ),
            None => "only root may look into sandboxes".to_owned(),
        };
        let wanted = if self.language == Language::Node { 1_000 } else { 3_000 };
        let live =
            Figure::told(6, format!("live sandboxes that answered twice, {name}"), f64::from(count), "");
        // Fewer were asked for: they say nothing about the budget.
        let live = if count < wanted {
            live.with(format!("as many as were tried; the budget is {} on 24 GiB", number(f64::from(wanted))))
        } else {
            live.within(Budget::AtLeast(f64::from(wanted)))
        };
        vec![
            live,
            Figure::told(6, format!("memory of one sandbox, {name}"), memory, "MiB").with(detail),
            Figure::told(
                6,
                format!("descriptors of one sandbox in the server, {name}"),
                self.descriptors,
                "",
            )
            .within(Budget::AtMost(5.0)),
        ]
    }
}

/// Calls every function; each says that this is its call of that number, so it still has its first sandbox.
fn call_all(connection: &mut Connection, names: &[String], number: u64) -> anyhow::Result<()> {
    for name in names {
        let calls = ask(connection, name)?.calls;
        if calls != number {
            bail!("{name} says that it was called {calls} times, not {number}: it lost its sandbox");
        }
    }
    Ok(())
}
