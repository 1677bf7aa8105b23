//! The one program: server, spawner and command line. Configuration, wiring and signals are here; what is wired
//! together is in the other crates, of which this one alone names the concrete back ends.

mod apply;
mod artifacts;
mod authenticate;
mod builds;
mod cluster;
mod collection;
mod dialects;
mod doctor;
mod edits;
mod feed;
mod fronts;
mod functions;
mod import;
mod logging;
mod offers;
mod place;
mod readiness;
mod repair;
mod rollout;
mod serve;
mod settings;
mod storage;
mod transfer;

use std::io::Write as _;
use std::process::ExitCode;

use impuls_cli::{Cli, Command, StoreCommand};

/// A call makes some dozen small allocations on the thread that also frees them, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: the spawner must stay a process with one thread.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "spawner") {
        return impuls_sandbox_process::spawner_main();
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "agent") {
        return impuls_agent::main(&std::env::args_os().skip(2).collect::<Vec<_>>());
    }
    let cli = match impuls_cli::parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match perform(cli) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do if standard error is closed.
            let _ = writeln!(std::io::stderr(), "impuls: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::serve(args.load()?).map(|()| ExitCode::SUCCESS),
        Command::Controller(args) => cluster::controller(args.load()?).map(|()| ExitCode::SUCCESS),
        Command::Worker(args) => cluster::worker(args.load()?).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::doctor(cli.globals.json, args.toolchains),
        Command::Store(StoreCommand::Apply(args)) => apply::apply(&args.load()?).map(|()| ExitCode::SUCCESS),
        Command::Store(StoreCommand::Schema { storage }) => {
            write!(std::io::stdout(), "{}", storage::schema(&storage)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Migrate(args) => transfer::migrate(*args).map(|()| ExitCode::SUCCESS),
        Command::Backup(args) => transfer::backup(*args).map(|()| ExitCode::SUCCESS),
        Command::Restore(args) => transfer::restore(*args).map(|()| ExitCode::SUCCESS),
        Command::Import(args) => import::import(&args, &cli.globals.server),
        Command::Spawner => Ok(impuls_sandbox_process::spawner_main()),
        Command::Client(command) => Ok(impuls_cli::run(command, &cli.globals)),
    }
}
