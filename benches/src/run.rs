//! The order of events: look at the machine, start everything, take turns, report, end everything.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::bench::Bench;
use crate::machine::{Machine, Observation, Watch, settle};
use crate::options::{Options, RowName};
use crate::peers::Peers;
use crate::processes::Processes;
use crate::report::{Conditions, Findings, Report};
use crate::rows;
use crate::server::{Language, Server};

/// The exit status after a signal, as shells have it for SIGINT.
const INTERRUPTED: i32 = 130;
/// Lines of each program's output that are shown after a failure.
const LAST_LINES: usize = 8;

/// Measures and reports.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let processes = Processes::default();
    let bench = Bench::new(options, processes.clone())?;
    let interrupted = end_on_signal(processes, bench.scratch_dir().to_owned())?;
    let report = measure(&bench);
    if interrupted.load(Ordering::SeqCst) {
        // What failed, failed because of the signal. The other thread ends the program when it has cleared up.
        loop {
            std::thread::park();
        }
    }
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            show_logs(bench.scratch_dir());
            return Err(error);
        }
    };
    report.print()?;
    let path = bench.options.output.clone().unwrap_or_else(|| bench.repository("build/bench.json"));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&report)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(&format!("all figures: {}", path.display()));
    Ok(())
}

/// Shows how the output of every program ended, since the folder with it goes.
fn show_logs(scratch: &Path) {
    let entries = fs::read_dir(scratch).into_iter().flatten().flatten();
    for path in
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "log"))
    {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        if let (Some(name), false) = (path.file_stem(), last.is_empty()) {
            say(&format!("the last lines of {}:\n{}", name.display(), last.join("\n")));
        }
    }
}

/// From now on SIGINT and SIGTERM end all children, remove the scratch folder and end this program.
fn end_on_signal(processes: Processes, scratch: PathBuf) -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let seen = interrupted.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        seen.store(true, Ordering::SeqCst);
        say("stopping what was started");
        processes.stop_all_for_good();
        // Left behind at worst: a folder among the temporary ones.
        let _ = fs::remove_dir_all(scratch);
        std::process::exit(INTERRUPTED);
    });
    Ok(interrupted)
}

/// Progress goes to standard error; it does not matter if nobody reads it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

/// How often the machine is looked at before it counts as busy; a look takes a second. Go's standard library, which a
/// server compiles in the background, takes 40 s on two cores.
const PATIENCE: u32 = 120;

/// What was seen of the machine, and what to make of it.
struct Judge {
    force: bool,
    observations: Vec<Observation>,
    complaints: Vec<String>,
}

impl Judge {
    /// Looks at the machine at rest.
    fn rest(&mut self, when: &str) -> anyhow::Result<()> {
        let seen = settle(when, if self.force { 2 } else { PATIENCE })?;
        self.look(seen)
    }

    fn look(&mut self, seen: Observation) -> anyhow::Result<()> {
        if let Some(complaint) = seen.complaint() {
            if !self.force {
                bail!(
                    "the machine is too busy for figures to mean anything: {complaint}. Try again when it is quiet, or use --force, which marks the report"
                );
            }
            say(&format!("too busy, but forced: {complaint}"));
            self.complaints.push(complaint);
        }
        self.observations.push(seen);
        Ok(())
    }
}

fn measure(bench: &Bench) -> anyhow::Result<Report> {
    let mut judge = Judge { force: bench.options.force, observations: Vec::new(), complaints: Vec::new() };
    judge.rest("before the start")?;
    let programs = programs(bench)?;
    let mut findings = take_turns(bench, programs.peers.as_ref(), &mut judge)?;
    if bench.options.wants(RowName::Memory) {
        say("memory");
        findings.push(rows::measure_memory(bench)?);
    }
    Ok(Report {
        conditions: Conditions {
            machine: Machine::of_here(),
            programs: programs.names,
            rounds: bench.options.rounds(),
            quick: bench.options.quick,
            complaints: judge.complaints,
            observations: judge.observations,
        },
        findings,
    })
}

/// What is measured, by name and version.
struct Programs {
    peers: Option<Peers>,
    names: Vec<(String, String)>,
}

/// Asks the server which interpreters it uses, and installs the peers, which run on the same.
fn programs(bench: &Bench) -> anyhow::Result<Programs> {
    let server = Server::start(bench, "ask", &["--prewarm", "0"])?;
    let node = server.interpreter(Language::Node)?;
    let python = server.interpreter(Language::Python)?;
    drop(server);
    let mut names = vec![("Node".to_owned(), node.version), ("Python".to_owned(), python.version)];
    if !rows::need_peers(bench) {
        return Ok(Programs { peers: None, names });
    }
    say("peers");
    let peers = Peers::install(bench, node.path)?;
    names.extend(peers.versions()?);
    Ok(Programs { peers: Some(peers), names })
}

/// Every measurement in turn, as often as there are rounds.
fn take_turns(bench: &Bench, peers: Option<&Peers>, judge: &mut Judge) -> anyhow::Result<Vec<Findings>> {
    say("starting servers and creating functions");
    let mut rows = rows::prepare(bench, peers)?;
    let rounds = if rows.is_empty() { 0 } else { bench.options.rounds() };
    for round in 1..=rounds {
        judge.rest(&format!("before round {round}"))?;
        let watch = Watch::begin()?;
        for row in &mut rows {
            say(&format!("round {round} of {rounds}: {}", row.name()));
            row.round(bench, round)?;
        }
        judge.look(watch.end(&format!("round {round}"))?)?;
    }
    rows.into_iter().map(rows::Row::findings).collect()
}
