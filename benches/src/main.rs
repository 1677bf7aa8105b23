//! `make bench`: measures Impuls beside its peers in one interleaved run and holds the figures against the budgets.
//! [`run`] has the order of events, [`rows`] the measurements. It uses the server as anybody would: the real program,
//! over HTTP. Figures are only ever measured here, never asserted in a test. How to read them: `docs/benchmarks.md`.

mod append;
mod bench;
mod cluster;
mod cores;
mod echo;
mod http;
mod load;
mod machine;
mod options;
mod peers;
mod proc;
mod processes;
mod report;
mod rows;
mod run;
mod server;
mod services;
mod socket;
mod stats;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::options::{Options, Part};

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.part {
        Some(Part::EchoHttp) => echo::serve_http(),
        Some(Part::EchoSocket) => echo::serve_socket(),
        Some(Part::AppendHttp { file }) => append::serve(file),
        None => run::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is closed.
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
