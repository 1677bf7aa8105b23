//! The first answer of functions that never ran when no prewarmed sandbox is there, beside the bare start of the same
//! interpreter in the same loop.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::Row;
use super::first::{NeverRun, times_of};
use crate::bench::{BARE_PATH, Bench};
use crate::processes::pause;
use crate::report::{Budget, Figure, Findings};
use crate::server::{Interpreter, Language, Server};
use crate::stats::{Sample, median};

/// Without prewarmed sandboxes.
pub(super) struct FirstEmpty {
    functions: NeverRun,
    interpreters: Vec<(Language, Interpreter)>,
    times_ms: Vec<(Language, f64)>,
    bare_ms: Vec<(Language, f64)>,
    ratios: Vec<(Language, f64)>,
}

impl FirstEmpty {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let server = Server::start(bench, "first-empty", &["--prewarm", "0"])?;
        let of = |language| Ok((language, server.interpreter(language)?));
        let interpreters = Language::ALL.into_iter().map(of).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            functions: NeverRun::prepare(bench, server, bench.options.functions_per_round())?,
            interpreters,
            times_ms: Vec::new(),
            bare_ms: Vec::new(),
            ratios: Vec::new(),
        })
    }

    /// Starts the interpreter with nothing to do and waits for its end; milliseconds.
    fn bare(&self, language: Language) -> anyhow::Result<f64> {
        let interpreter = self.interpreters.iter().find(|(of, _)| *of == language);
        let (_, interpreter) = interpreter.context("no interpreter")?;
        let mut command = Command::new(&interpreter.path);
        command.args(language.nothing()).env_clear().env("PATH", BARE_PATH);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let status = command.status()?;
        let took = started.elapsed();
        if !status.success() {
            bail!("{} {:?}: {status}", interpreter.path.display(), language.nothing());
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}

impl Row for FirstEmpty {
    fn name(&self) -> &'static str {
        "first answer, pool empty"
    }

    fn round(&mut self, bench: &Bench, _: u32) -> anyhow::Result<()> {
        let (called, started) = (self.times_ms.len(), self.bare_ms.len());
        for _ in 0..NeverRun::per_round(bench) {
            let (language, time) = self.functions.call_next(bench)?;
            self.times_ms.push((language, time));
            pause(bench.options.spacing());
            self.bare_ms.push((language, self.bare(language)?));
        }
        for language in Language::ALL {
            let of_round = |times: &[(Language, f64)], from| {
                median(times_of(times.get(from..).unwrap_or_default(), language))
            };
            let ratio = of_round(&self.times_ms, called) / of_round(&self.bare_ms, started);
            self.ratios.push((language, ratio));
        }
        Ok(())
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let mut figures = Vec::new();
        let mut samples = serde_json::Map::new();
        for language in Language::ALL {
            let (times, bare) = (times_of(&self.times_ms, language), times_of(&self.bare_ms, language));
            samples.insert(format!("{}_ms", language.runtime()), json!(times));
            samples.insert(format!("bare_{}_ms", language.runtime()), json!(bare));
            let (times, bare) = (Sample::new(times), Sample::new(bare));
            let ratio = median(times_of(&self.ratios, language));
            let [option, program] = language.nothing();
            let interpreter = self.interpreters.iter().find(|(of, _)| *of == language);
            let version =
                interpreter.map(|(_, interpreter)| interpreter.version.as_str()).unwrap_or_default();
            let detail = format!(
                "p50 {:.1} ms, p99 {:.1}, max {:.1} of {}; {} {version} {option} {program}: p50 {:.1} ms, p99 {:.1}",
                times.percentile(0.5),
                times.percentile(0.99),
                times.max(),
                times.len(),
                language.name(),
                bare.percentile(0.5),
                bare.percentile(0.99),
            );
            let what = format!("first answer, pool empty, {}, to the bare start", language.name());
            figures.push(Figure::told(2, what, ratio, "×").within(Budget::AtMost(1.3)).with(detail));
        }
        Ok(Findings { name: "first_empty", figures, samples: samples.into() })
    }
}
