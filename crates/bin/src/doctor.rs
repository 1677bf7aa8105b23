//! `impuls doctor`: what works on this machine, what does not, what that costs and how to repair it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use impuls_runtimes::Catalogue;
use impuls_sandbox_container::OciRuntime;
use impuls_sandbox_process::{IsolationReport, probe};
use serde_json::json;

use crate::drivers::refusal;
use crate::serve::{SPAWNER, search_path};

/// Prints the report; the exit code is a failure when a layer is missing that this kind of user normally has, or
/// when no language is installed.
pub(crate) fn doctor(as_json: bool, toolchains: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(probe(Path::new(SPAWNER))).context("cannot try the sandbox")?;
    let containers = runtime.block_on(OciRuntime::find(&search_path(None).path));
    let catalogue = Catalogue::detect(&search_path(toolchains));
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{:#}", as_value(&report, &containers, &catalogue))?;
    } else {
        print_isolation(&mut out, &report)?;
        print_containers(&mut out, &containers)?;
        print_runtimes(&mut out, &catalogue)?;
    }
    let healthy = report.unexpectedly_missing().next().is_none()
        && catalogue.installed().any(|(installed, _)| !installed.version.is_empty());
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_value(report: &IsolationReport, containers: &[OciRuntime], catalogue: &Catalogue) -> serde_json::Value {
    let runtimes: Vec<_> = catalogue
        .installed()
        .map(|(installed, aliases)| {
            json!({ "name": installed.name.as_str(), "aliases": aliases, "version": installed.version, "path": installed.path })
        })
        .collect();
    let missing: Vec<_> =
        catalogue.missing().into_iter().map(|(name, fix)| json!({ "name": name, "fix": fix })).collect();
    let containers: Vec<_> = containers
        .iter()
        .map(|runtime| {
            let version = runtime.version.map(|(a, b, c)| format!("{a}.{b}.{c}"));
            json!({ "name": runtime.name, "version": version, "path": runtime.path, "refused": refusal(runtime) })
        })
        .collect();
    json!({ "isolation": report.layers, "oci_runtimes": containers, "runtimes": runtimes, "missing_runtimes": missing })
}

fn print_isolation(out: &mut impl std::io::Write, report: &IsolationReport) -> std::io::Result<()> {
    writeln!(out, "Isolation of the process driver")?;
    for layer in &report.layers {
        let mark = if layer.works { "ok     " } else { "missing" };
        writeln!(out, "  {mark}  {}", format!("{:<18} {}", layer.name.to_string(), layer.detail).trim_end())?;
        if !layer.works {
            writeln!(out, "           {:<18} without it: {}", "", layer.cost)?;
            writeln!(out, "           {:<18} to repair: {}", "", layer.fix)?;
        }
    }
    Ok(())
}

fn print_containers(out: &mut impl std::io::Write, containers: &[OciRuntime]) -> std::io::Result<()> {
    writeln!(out, "\nOCI runtimes for the container driver")?;
    for runtime in containers {
        match refusal(runtime) {
            None => writeln!(out, "  ok       {runtime}")?,
            Some(why) => writeln!(out, "  refused  {runtime}: {why}")?,
        }
    }
    if containers.is_empty() {
        writeln!(out, "  none     to have containers: install Debian package crun")?;
    }
    Ok(())
}

fn print_runtimes(out: &mut impl std::io::Write, catalogue: &Catalogue) -> std::io::Result<()> {
    writeln!(out, "\nRuntimes")?;
    for (installed, aliases) in catalogue.installed() {
        let path = installed.path.display();
        writeln!(
            out,
            "  ok       {:<18} {} ({path}) {}",
            installed.name.as_str(),
            installed.version,
            aliases.join(", ")
        )?;
    }
    for (name, fix) in catalogue.missing() {
        writeln!(out, "  missing  {name:<18} to repair: {fix}")?;
    }
    Ok(())
}
