//! The measurements. Each has one file, takes its turn in every round and gives its findings at the end.

mod accepted;
mod first;
mod first_empty;
mod go;
mod hop;
mod latency;
mod memory;
mod throughput;
mod workers;

pub(crate) use memory::measure as measure_memory;

use crate::bench::Bench;
use crate::options::RowName;
use crate::peers::Peers;
use crate::report::Findings;

/// A measurement that takes its turn.
pub(crate) trait Row {
    /// What it is called while it runs.
    fn name(&self) -> &'static str;

    /// Takes one turn.
    fn round(&mut self, bench: &Bench, round: u32) -> anyhow::Result<()>;

    /// Gives what was found and ends what runs for it.
    fn findings(self: Box<Self>) -> anyhow::Result<Findings>;
}

/// Whether any of the wanted measurements needs the peers.
pub(crate) fn need_peers(bench: &Bench) -> bool {
    bench.options.wants(RowName::Latency) || bench.options.wants(RowName::Throughput)
}

/// Starts everything that the wanted measurements need.
pub(crate) fn prepare(bench: &Bench, peers: Option<&Peers>) -> anyhow::Result<Vec<Box<dyn Row>>> {
    let mut rows: Vec<Box<dyn Row>> = Vec::new();
    let wants = |row| bench.options.wants(row);
    if wants(RowName::First) {
        rows.push(Box::new(first::First::prepare(bench)?));
    }
    if wants(RowName::FirstEmpty) {
        rows.push(Box::new(first_empty::FirstEmpty::prepare(bench)?));
    }
    if let Some(peers) = peers {
        if wants(RowName::Latency) {
            rows.push(Box::new(latency::Latency::prepare(bench, peers)?));
        }
        if wants(RowName::Throughput) {
            rows.push(Box::new(throughput::Throughput::prepare(bench, peers)?));
        }
    }
    if wants(RowName::Async) {
        rows.push(Box::new(accepted::Accepted::prepare(bench)?));
    }
    if wants(RowName::Hop) {
        rows.push(Box::new(hop::Hop::prepare(bench)?));
    }
    if wants(RowName::Workers) {
        rows.push(Box::new(workers::Workers::prepare(bench)?));
    }
    if wants(RowName::Go) {
        rows.push(Box::new(go::Go::prepare(bench)?));
    }
    Ok(rows)
}
