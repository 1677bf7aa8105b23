//! A Go program that runs once for each call, beside the bare start of the very file that the sandboxes run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::RUNTIME;
use crate::bench::{BARE_PATH, Bench, EVENT};
use crate::http::Connection;
use crate::load::Target;
use crate::report::{Budget, Figure};
use crate::server::{Function, Server, invoke_path};
use crate::stats::{Sample, median};

/// Parses the event and writes it as JSON.
const ECHO: &str = r#"package main

import (
    "encoding/json"
    "os"
)

func main() {
    var event any
    if err := json.NewDecoder(os.Stdin).Decode(&event); err != nil {
        panic(err)
    }
    if err := json.NewEncoder(os.Stdout).Encode(event); err != nil {
        panic(err)
    }
}
"#;
/// What the build calls the program.
const FILE: &str = ".impuls-main";
/// Folders below the data folder in which it is looked for.
const DEPTH: u32 = 6;
/// Calls before those that count, in every turn.
const WARM_UP: u32 = 20;

/// The measurement, a part of [`super::Go`].
pub(super) struct Program {
    target: Target,
    file: PathBuf,
    calls_us: Vec<f64>,
    starts_us: Vec<f64>,
    ratios: Vec<f64>,
}

impl Program {
    /// Creates the function and finds what was built of it in the server's data folder.
    pub(super) fn create(server: &Server, data: &Path) -> anyhow::Result<Self> {
        let name = "program";
        let function =
            Function { name, runtime: RUNTIME, contract: Some("program"), code: ECHO, concurrency: 1 };
        let before = find(data, DEPTH)?;
        function.create(&mut server.connect()?)?;
        let target = Target { name, address: server.address, path: invoke_path(name), in_envelope: true };
        target.check()?;
        let file = find(data, DEPTH)?.into_iter().find(|path| !before.contains(path));
        let file = file.with_context(|| format!("no new file {FILE} below {}", data.display()))?;
        Ok(Self { target, file, calls_us: Vec::new(), starts_us: Vec::new(), ratios: Vec::new() })
    }

    /// A call and a bare start by turns.
    pub(super) fn round(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.target.address)?;
        let request = self.target.request();
        let event: Value = serde_json::from_str(EVENT)?;
        let (mut calls, mut starts) = (Vec::new(), Vec::new());
        for turn in 0..bench.options.starts() + WARM_UP {
            let reply = connection.exchange(&request)?;
            if reply.status != 200 {
                bail!("the program's call ended with status {}", reply.status);
            }
            let called = reply.took;
            let (started, output) = self.start()?;
            if serde_json::from_slice::<Value>(&output)? != event {
                bail!("the program that was started bare does not give the event back");
            }
            if turn >= WARM_UP {
                calls.push(called.as_secs_f64() * 1e6);
                starts.push(started.as_secs_f64() * 1e6);
            }
        }
        self.ratios.push(median(calls.iter().copied()) / median(starts.iter().copied()));
        self.calls_us.append(&mut calls);
        self.starts_us.append(&mut starts);
        Ok(())
    }

    /// Starts the program with the event on its standard input, reads its output and waits for its end.
    fn start(&self) -> anyhow::Result<(Duration, Vec<u8>)> {
        let mut command = Command::new(&self.file);
        command.env_clear().env("PATH", BARE_PATH);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut output = Vec::with_capacity(EVENT.len() * 2);
        let started = Instant::now();
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        stdin.context("no input")?.write_all(EVENT.as_bytes())?;
        stdout.context("no output")?.read_to_end(&mut output)?;
        let status = child.wait()?;
        let took = started.elapsed();
        if !status.success() {
            bail!("{}: {status}", self.file.display());
        }
        Ok((took, output))
    }

    pub(super) fn figure(&self, budget: Budget) -> Figure {
        let (calls, starts) = (Sample::new(self.calls_us.clone()), Sample::new(self.starts_us.clone()));
        let detail = format!(
            "call p50 {:.0} µs, p99 {:.0}; bare start p50 {:.0}, p99 {:.0}; {} of each",
            calls.percentile(0.5),
            calls.percentile(0.99),
            starts.percentile(0.5),
            starts.percentile(0.99),
            calls.len(),
        );
        let ratio = median(self.ratios.iter().copied());
        let what = "call of a Go program, to the bare start of the same";
        Figure::told(13, what, ratio, "×").within(budget).with(detail)
    }

    pub(super) fn samples(&self) -> Value {
        json!({ "calls_us": self.calls_us, "bare_starts_us": self.starts_us, "ratios": self.ratios })
    }
}

/// All files of the name [`FILE`] in a folder; links are not followed.
fn find(folder: &Path, depth: u32) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == FILE {
            found.push(entry.path());
        } else if depth > 0 && entry.file_type()?.is_dir() {
            found.append(&mut find(&entry.path(), depth - 1)?);
        }
    }
    Ok(found)
}
