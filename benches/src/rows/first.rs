//! The first answer of functions that never ran, default settings: a prewarmed sandbox is likely there.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::Row;
use crate::bench::Bench;
use crate::processes::pause;
use crate::report::{Budget, Figure, Findings};
use crate::server::{Function, Language, Server, ask};
use crate::stats::{Sample, shuffle};

/// Fewer figures than this have no 99th percentile worth the name.
pub(super) const LEAST_FIGURES: usize = 40;

/// Functions that nobody has called yet, in the order in which they will be called.
pub(super) struct NeverRun {
    server: Server,
    waiting: Vec<(Language, String)>,
}

impl NeverRun {
    /// Creates so many functions of each language for each round.
    pub(super) fn prepare(bench: &Bench, server: Server, of_each: u32) -> anyhow::Result<Self> {
        let mut connection = server.connect()?;
        let mut waiting = Vec::new();
        for number in 0..of_each * bench.options.rounds() {
            for language in Language::ALL {
                let name = format!("first-{}-{number}", language.runtime());
                let code = language.witness(number);
                let function = Function::of(language, &name, &code);
                function.create(&mut connection)?;
                waiting.push((language, name));
            }
        }
        let seed = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .context("the clock stands before 1970")?;
        shuffle(&mut waiting, seed.as_secs());
        server.settle()?;
        Ok(Self { server, waiting })
    }

    /// Calls the next function, after a pause; its language and the time until the whole reply was there, in
    /// milliseconds. The function's own word proves that no sandbox had its code before the call.
    pub(super) fn call_next(&mut self, bench: &Bench) -> anyhow::Result<(Language, f64)> {
        let (language, name) = self.waiting.pop().context("no function is left that never ran")?;
        // A connection of its own in time: only the call is measured.
        let mut connection = self.server.connect()?;
        pause(bench.options.spacing());
        let called = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .context("the clock stands before 1970")?;
        let witness = ask(&mut connection, &name)?;
        // The functions' clocks show whole milliseconds.
        if witness.calls != 1 || witness.loaded < called.as_secs_f64() * 1e3 - 1.0 {
            bail!("{name} had been loaded before its first call; the figure does not count");
        }
        Ok((language, witness.took.as_secs_f64() * 1e3))
    }

    /// Calls in one round.
    pub(super) fn per_round(bench: &Bench) -> u32 {
        bench.options.functions_per_round() * 2
    }
}

/// With prewarmed sandboxes.
pub(super) struct First {
    functions: NeverRun,
    times_ms: Vec<(Language, f64)>,
}

impl First {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let server = Server::start(bench, "first", &[])?;
        let functions = NeverRun::prepare(bench, server, bench.options.functions_per_round())?;
        Ok(Self { functions, times_ms: Vec::new() })
    }
}

/// The times of one language.
pub(super) fn times_of(times: &[(Language, f64)], language: Language) -> Vec<f64> {
    times.iter().filter(|(of, _)| *of == language).map(|(_, time)| *time).collect()
}

impl Row for First {
    fn name(&self) -> &'static str {
        "first answer, pool warm"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        for _ in 0..NeverRun::per_round(bench) {
            self.times_ms.push(self.functions.call_next(bench)?);
        }
        Ok(())
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let mut figures = Vec::new();
        let mut samples = serde_json::Map::new();
        for language in Language::ALL {
            let times = times_of(&self.times_ms, language);
            samples.insert(format!("{}_ms", language.runtime()), json!(times));
            let sample = Sample::new(times);
            let detail = format!(
                "min {:.2}, p90 {:.2}, max {:.2} of {}{}",
                sample.min(),
                sample.percentile(0.9),
                sample.max(),
                sample.len(),
                if sample.len() < LEAST_FIGURES { "; too few for a p99" } else { "" }
            );
            let what = format!("first answer, pool warm, {}", language.name());
            let figure = |name: &str, share| {
                Figure::told(1, format!("{what}, {name}"), sample.percentile(share), "ms")
            };
            figures.push(figure("p50", 0.5).within(Budget::AtMost(3.0)).with(detail));
            figures.push(figure("p99", 0.99).within(Budget::AtMost(15.0)));
        }
        Ok(Findings { name: "first", figures, samples: samples.into() })
    }
}
