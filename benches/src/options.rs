//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures Impuls beside its peers and compares it with its budgets.
#[derive(Parser, Debug)]
#[command(name = "impuls-bench", disable_version_flag = true)]
pub(crate) struct Options {
    /// Few rounds and short loads: an order of magnitude in about four minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often every measurement is taken in turn [default: 5, or 2 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Only this measurement; may be repeated.
    #[arg(long, value_name = "ROW")]
    only: Vec<RowName>,
    /// Report although the machine was too busy; the report says so.
    #[arg(long)]
    pub(crate) force: bool,
    /// Never-run functions of each language for the first answer, over all rounds [default: 200, or 40 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    functions: Option<u32>,
    /// Pause before the first call of a function, in milliseconds: the time in which the pool refills.
    #[arg(long, value_name = "MS", default_value_t = 40)]
    spacing_ms: u64,
    /// Live Node sandboxes whose memory is measured.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) node_sandboxes: u32,
    /// Live Python sandboxes whose memory is measured.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) python_sandboxes: u32,
    /// The server's program [default: build/impuls].
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,
    /// Where the figures go as JSON [default: build/bench.json].
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// A PostgreSQL server, as `postgres://…`, for `async` instead of one that is started; databases are made in it and
    /// removed, which its user must be allowed to do.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// A Redis server, as `redis://…`, for `async` instead of one that is started; its database is emptied.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// What this program is besides: the bare servers that it measures beside Impuls.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Part {
    /// Gives back every HTTP body.
    #[command(hide = true)]
    EchoHttp,
    /// Gives back every byte.
    #[command(hide = true)]
    EchoSocket,
    /// Appends every HTTP body to a file.
    #[command(hide = true)]
    AppendHttp {
        /// The file.
        file: PathBuf,
    },
}

/// A measurement.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowName {
    /// First answer of functions that never ran, with prewarmed sandboxes.
    First,
    /// The same without prewarmed sandboxes, beside the bare start of the interpreter.
    FirstEmpty,
    /// Warm calls one at a time.
    Latency,
    /// Warm calls over 64 connections.
    Throughput,
    /// Asynchronous calls: accepted durably, and ended.
    Async,
    /// Warm calls from a controller through a worker, beside `serve`.
    Hop,
    /// Calls and cold starts with one to four workers.
    Workers,
    /// Handlers and programs in Go.
    Go,
    /// Memory and descriptors.
    Memory,
}

impl Options {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    pub(crate) fn wants(&self, row: RowName) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    /// Never-run functions of each language in one round.
    pub(crate) fn functions_per_round(&self) -> u32 {
        self.functions.unwrap_or(if self.quick { 40 } else { 200 }).div_ceil(self.rounds())
    }

    pub(crate) fn spacing(&self) -> Duration {
        Duration::from_millis(self.spacing_ms)
    }

    /// How long one load of one target lasts.
    pub(crate) fn load(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 5 })
    }

    /// Starts of one program in one round.
    pub(crate) fn starts(&self) -> u32 {
        if self.quick { 200 } else { 500 }
    }

    /// Calls of one target in one round, one at a time.
    pub(crate) fn calls(&self) -> u32 {
        if self.quick { 1_000 } else { 4_000 }
    }
}
