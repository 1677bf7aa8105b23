//! From a parsed command line to an exit code.

use std::error::Error;
use std::process::ExitCode;

use impuls_client::Client;

use crate::args::{ClientCommand, DEFAULT_SERVER, Globals};
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::Output;

/// Performs a subcommand that talks to a server. Must not be called within an asynchronous runtime.
#[must_use]
pub fn run(command: ClientCommand, globals: &Globals) -> ExitCode {
    perform(command, globals, &mut Output::of_process(globals.json)).into()
}

/// Performs a subcommand on any streams.
pub(crate) fn perform(command: ClientCommand, globals: &Globals, output: &mut Output) -> Exit {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Start)
        .and_then(|runtime| runtime.block_on(dispatch(command, globals, output)));
    match result {
        Ok(exit) => exit,
        Err(error) => {
            let exit = error.exit();
            if exit != Exit::Success {
                output.note(&format!("error: {}", told(&error)));
            }
            exit
        }
    }
}

async fn dispatch(command: ClientCommand, globals: &Globals, output: &mut Output) -> Result<Exit, CliError> {
    if let ClientCommand::Completions { shell } = command {
        return commands::completions(shell, output);
    }
    // An empty variable is as good as none.
    let server = if globals.server.trim().is_empty() { DEFAULT_SERVER } else { &globals.server };
    let client = Client::new(server)?;
    match command {
        ClientCommand::Deploy(args) => commands::deploy(&client, *args, output).await,
        ClientCommand::List(args) => commands::list(&client, &args, output).await,
        ClientCommand::Get(args) => commands::get(&client, &args.name, output).await,
        ClientCommand::Invoke(args) => commands::invoke(&client, &args, output).await,
        ClientCommand::Invocations(command) => commands::invocations(&client, command, output).await,
        ClientCommand::Schedules(command) => commands::schedules(&client, command, output).await,
        ClientCommand::Logs(args) => commands::logs(&client, &args, output).await,
        ClientCommand::Alias(command) => commands::alias(&client, command, output).await,
        ClientCommand::Rollback(args) => commands::rollback(&client, &args, output).await,
        ClientCommand::Versions(args) => commands::versions(&client, &args.name, output).await,
        ClientCommand::Delete(args) => commands::delete(&client, &args, output).await,
        ClientCommand::Runtimes => commands::runtimes(&client, output).await,
        ClientCommand::Completions { shell } => commands::completions(shell, output),
    }
}

/// What failed and its first cause, in one line; what network libraries say in between helps nobody.
fn told(error: &dyn Error) -> String {
    let text = error.to_string();
    let root = std::iter::successors(error.source(), |cause| (*cause).source()).last();
    match root.map(ToString::to_string) {
        Some(root) if !text.contains(&root) => format!("{text}: {root}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
