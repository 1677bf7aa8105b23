//! Every test of the repository: Rust, the shims under every interpreter of this machine, end to end.
//!
//! A test that needs something special is `#[ignore = "needs …"]`. libtest cannot select by reason, so
//! [`ignored`] reads the reasons in the source: all ignored tests run, except those whose need this machine does
//! not meet. Those are skipped by name, and the last lines say so.

mod ignored;
mod results;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;

use crate::tools::Interpreter;
use crate::{process, setup, tools};
use results::Counts;

/// The package with the end-to-end tests.
const E2E: &str = "tests/e2e";

/// One part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Unit, integration and documentation tests of the crates.
    Rust,
    /// The language adapters that run inside the sandbox.
    Shims,
    /// The real binary over HTTP.
    E2e,
}

#[derive(Default)]
struct Tally {
    counts: Counts,
    left_out: Vec<String>,
}

/// Runs the tests. Whether all passed. The last line is `N passed, N failed`.
pub fn run(root: &Path, only: Option<Part>) -> anyhow::Result<bool> {
    let wanted = |part| only.is_none_or(|only| only == part);
    let mut tally = Tally { left_out: setup::provide(), ..Tally::default() };
    if wanted(Part::Rust) {
        rust(root, &mut tally)?;
    }
    if wanted(Part::Shims) {
        node_shim(root, &mut tally)?;
        python_shim(root, &mut tally)?;
        ruby_shim(root, &mut tally)?;
    }
    if wanted(Part::E2e) {
        end_to_end(root, &mut tally)?;
    }
    if let Some(part) = only {
        tally.left_out.push(format!("everything but {part:?}: only that was asked for"));
    }
    println!();
    for line in &tally.left_out {
        println!("left out: {line}");
    }
    println!("{} passed, {} failed", tally.counts.passed, tally.counts.failed);
    Ok(tally.counts.failed == 0)
}

fn rust(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let mut packages = vec!["--workspace"];
    if root.join(E2E).is_dir() {
        packages.extend(["--exclude", "impuls-e2e"]);
    }
    let targets = ["--lib", "--bins", "--tests", "--examples"];
    let mut command = cargo_test(root, &packages);
    command.args(targets).arg("--").args(choose_ignored(&root.join("crates"), tally)?);
    libtest("Rust: unit and integration tests", &mut command, tally)?;
    // Apart, because `--include-ignored` would also run code blocks that are marked `ignore`.
    let mut command = cargo_test(root, &packages);
    libtest("Rust: documentation tests", command.arg("--doc"), tally)
}

fn end_to_end(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let folder = root.join(E2E);
    if !folder.join("Cargo.toml").is_file() {
        tally.left_out.push(format!("end-to-end tests: there is no {E2E}"));
        return Ok(());
    }
    let build = ["build", "--quiet", "--bin", "impuls"];
    if !process::succeeds(&mut process::command(root, "cargo", &build))? {
        tally.counts.failed += 1;
        println!("end to end: the program does not build");
        return Ok(());
    }
    // Cargo puts the program beside this one.
    let mut command = cargo_test(root, &["--package", "impuls-e2e"]);
    command.env("IMPULS_E2E_PROGRAM", std::env::current_exe()?.with_file_name("impuls"));
    command.arg("--").args(choose_ignored(&folder, tally)?);
    libtest("End to end", &mut command, tally)
}

fn cargo_test(root: &Path, arguments: &[&str]) -> Command {
    let mut command = process::command(root, "cargo", &["test", "--quiet", "--no-fail-fast"]);
    command.args(arguments);
    command
}

/// libtest's arguments that run every ignored test below `folder` except those whose need is not met here.
fn choose_ignored(folder: &Path, tally: &mut Tally) -> anyhow::Result<Vec<String>> {
    let machine = ignored::Machine::inspect();
    let mut arguments = vec!["--include-ignored".to_owned()];
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for test in ignored::find(folder)?.into_iter().filter(|test| !machine.meets(&test.reason)) {
        *skipped.entry(test.reason).or_default() += 1;
        arguments.extend(["--skip".to_owned(), test.name]);
    }
    for (reason, count) in skipped {
        tally.left_out.push(format!("{count} tests below {}: {reason}", folder.display()));
    }
    Ok(arguments)
}

/// Runs a `cargo test`: quiet while tests pass, everything that a program with a failed test wrote otherwise.
fn libtest(title: &str, command: &mut Command, tally: &mut Tally) -> anyhow::Result<()> {
    let start = Instant::now();
    println!("{title}");
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut section = Counts::default();
    let mut pending = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if line.contains("has been running for over") {
            println!("  {line}");
        }
        let result = results::libtest(&line);
        pending.push(line);
        if let Some(counts) = result {
            if counts.failed > 0 {
                println!("{}", pending.join("\n"));
            }
            section += counts;
            pending.clear();
        }
    }
    if !child.wait()?.success() && section.failed == 0 {
        println!("{}\n  it did not build, or a test program died", pending.join("\n"));
        section.failed += 1;
    }
    finish(section, start, tally);
    Ok(())
}

fn finish(section: Counts, start: Instant, tally: &mut Tally) {
    let seconds = start.elapsed().as_secs_f64();
    println!("  {} passed, {} failed in {seconds:.1} s", section.passed, section.failed);
    tally.counts += section;
}

fn node_shim(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let files = node_test_files(&root.join("guest/shims/node/test"));
    if files.is_empty() {
        tally.left_out.push("Node shim: there are no tests in guest/shims/node/test".to_owned());
        return Ok(());
    }
    let interpreters = tools::nodes();
    if interpreters.is_empty() {
        tally.left_out.push("Node shim: no Node.js 18 or later here (Debian package nodejs)".to_owned());
    }
    for node in interpreters {
        let mut command = process::command(root, &node.path, &["--test", "--test-reporter=tap"]);
        command.args(&files).env_remove("NODE_OPTIONS").env_remove("NODE_EXTRA_CA_CERTS");
        foreign(&title("Node shim", &node), &mut command, NODE, tally)?;
    }
    Ok(())
}

/// The files by name, because releases differ in what they find in a folder.
fn node_test_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let paths = entries.filter_map(|entry| entry.path().to_str().map(str::to_owned));
    let mut files: Vec<String> = paths
        .filter(|path| [".test.js", ".test.mjs", ".test.cjs"].iter().any(|end| path.ends_with(end)))
        .collect();
    files.sort();
    files
}

fn python_shim(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let folder = "guest/shims/python/tests";
    if fs::read_dir(root.join(folder)).is_ok_and(|mut entries| entries.next().is_none()) {
        tally.left_out.push(format!("Python shim: there are no tests in {folder}"));
        return Ok(());
    }
    let interpreters = tools::pythons();
    if interpreters.is_empty() {
        tally.left_out.push("Python shim: no Python 3.9 or later here (Debian package python3)".to_owned());
    }
    for python in interpreters {
        let arguments = ["-B", "-m", "unittest", "discover", "-s", folder];
        let mut command = process::command(root, &python.path, &arguments);
        foreign(&title("Python shim", &python), &mut command, PYTHON, tally)?;
    }
    Ok(())
}

fn ruby_shim(root: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let folder = "guest/shims/ruby/test";
    if fs::read_dir(root.join(folder)).is_ok_and(|mut entries| entries.next().is_none()) {
        tally.left_out.push(format!("Ruby shim: there are no tests in {folder}"));
        return Ok(());
    }
    let interpreters = tools::rubies();
    if interpreters.is_empty() {
        tally.left_out.push("Ruby shim: no Ruby 2.7 or later here (Debian package ruby)".to_owned());
    }
    for ruby in interpreters {
        let every_file = format!("Dir['./{folder}/*_test.rb'].sort.each {{ |file| require file }}");
        let mut command = process::command(root, &ruby.path, &["-e", &every_file]);
        command.env_remove("RUBYOPT").env_remove("RUBYLIB");
        foreign(&title("Ruby shim", &ruby), &mut command, RUBY, tally)?;
    }
    Ok(())
}

fn title(what: &str, interpreter: &Interpreter) -> String {
    let (major, minor) = interpreter.version;
    format!("{what}: {major}.{minor} ({})", interpreter.path.display())
}

/// How to read what the test program of another language wrote.
struct Reader {
    counts: fn(&str) -> Option<Counts>,
    failures: fn(&str) -> String,
}

const NODE: Reader = Reader { counts: results::tap, failures: results::tap_failures };
/// minitest says nothing about tests that passed.
const RUBY: Reader = Reader { counts: results::minitest, failures: str::to_owned };
/// unittest says nothing about tests that passed.
const PYTHON: Reader = Reader { counts: results::unittest, failures: str::to_owned };

/// Runs the tests of another language and reads the counts from what they wrote.
fn foreign(title: &str, command: &mut Command, reader: Reader, tally: &mut Tally) -> anyhow::Result<()> {
    let start = Instant::now();
    println!("{title}");
    let (text, success) = process::everything_of(command).with_context(|| format!("cannot start {title}"))?;
    let counts = (reader.counts)(&text);
    let mut section = counts.unwrap_or_default();
    if section.failed == 0 && (!success || counts.is_none()) {
        section.failed += 1;
    }
    if section.failed > 0 {
        println!("{}", (reader.failures)(&text));
    }
    finish(section, start, tally);
    Ok(())
}
