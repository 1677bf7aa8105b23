//! The static checks, all of them even when one fails, and a summary at the end.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{deny, generate, process, tidy};

/// Runs every check. Whether all passed.
pub fn run(root: &Path, with_unit_tests: bool) -> anyhow::Result<bool> {
    let mut failed = Vec::new();
    let mut left_out = Vec::new();
    let mut step = |name: &'static str, check: &mut dyn FnMut() -> anyhow::Result<bool>| {
        let start = Instant::now();
        let passed = check().unwrap_or_else(|error| {
            println!("{error:#}");
            false
        });
        let verdict = if passed { "ok" } else { "FAILED" };
        println!("{name}: {verdict} ({:.1} s)", start.elapsed().as_secs_f64());
        if !passed {
            failed.push(name);
        }
    };

    step("fmt", &mut || process::succeeds(&mut cargo(root, &["fmt", "--all", "--check"])));
    step("tidy", &mut || tidy::run(root));
    step("clippy", &mut || process::succeeds(&mut clippy(root)));
    step("rustdoc", &mut || process::succeeds(&mut rustdoc(root)));
    step("generated files", &mut || generate::is_current(root));
    if deny::is_installed() {
        step("deny", &mut || process::succeeds(&mut deny::check_command(root)));
    } else {
        left_out.push("deny: cargo-deny is not installed; `make deny` installs it");
    }
    if with_unit_tests {
        step("unit tests", &mut || process::succeeds(&mut unit_tests(root)));
    }

    left_out.push("advisories: the advisory database is not reachable from every machine, see deny.toml");
    for line in left_out {
        println!("left out: {line}");
    }
    if !failed.is_empty() {
        println!("check: failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    process::command(root, "cargo", arguments)
}

fn clippy(root: &Path) -> Command {
    cargo(root, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn rustdoc(root: &Path) -> Command {
    let mut command = cargo(root, &["doc", "--quiet", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn unit_tests(root: &Path) -> Command {
    cargo(root, &["test", "--quiet", "--workspace", "--lib", "--bins"])
}
