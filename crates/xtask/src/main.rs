//! Checks and chores of the repository: `cargo xtask <command>`, which the `Makefile` calls.
//!
//! `tidy` reads the tree and builds nothing; `check` and `test` run other tools and add their results up.
//! Nothing here is part of the product.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the terminal")]

mod check;
mod deny;
mod generate;
mod process;
mod setup;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks and chores of the repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Checks what no other tool checks: imports between crates, names, sizes, links, words.
    Tidy,
    /// Formatting, lints, tidy, documentation, generated files, dependency rules, unit tests.
    Check {
        /// Leaves the unit tests to `test`.
        #[arg(long)]
        skip_unit_tests: bool,
    },
    /// Installs the programs that tests and benchmarks need, when root or sudo is there.
    Setup,
    /// Runs every test and says what it left out.
    Test {
        /// Runs only this part.
        #[arg(long)]
        only: Option<test::Part>,
    },
    /// Writes the generated files.
    Gen,
    /// Checks the dependencies against deny.toml; installs cargo-deny if it is missing.
    Deny,
}

fn main() -> ExitCode {
    match run(&Cli::parse().chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the chore found everything in order.
fn run(chore: &Chore) -> anyhow::Result<bool> {
    let root = root()?;
    match chore {
        Chore::Tidy => tidy::run(&root),
        Chore::Check { skip_unit_tests } => check::run(&root, !skip_unit_tests),
        Chore::Setup => Ok(setup::run()),
        Chore::Test { only } => test::run(&root, *only),
        Chore::Gen => generate::write(&root).map(|()| true),
        Chore::Deny => deny::run(&root),
    }
}

/// The repository's root folder.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).context("xtask is not in crates/ of a repository")?;
    Ok(root.to_owned())
}
