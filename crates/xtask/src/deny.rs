//! The dependency rules of `deny.toml`, by way of cargo-deny.

use std::path::Path;
use std::process::Command;

use crate::process;

/// Whether cargo-deny is installed.
pub fn is_installed() -> bool {
    process::output_of("cargo", &["deny", "--version"]).is_some()
}

/// The command that checks everything for which no advisory database is needed.
pub fn check_command(root: &Path) -> Command {
    process::command(root, "cargo", &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
}

/// Installs cargo-deny if necessary, then checks.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    if !is_installed() {
        println!("cargo-deny is missing; compiling it takes some minutes");
        if !process::succeeds(&mut process::command(root, "cargo", &["install", "--locked", "cargo-deny"]))? {
            return Ok(false);
        }
    }
    process::succeeds(&mut check_command(root))
}
