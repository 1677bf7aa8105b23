//! The subcommands that talk to a server, one function each.

mod alias;
mod deploy;
mod invoke;
mod logs;
mod pages;
mod queued;
mod schedules;
mod show;

use clap_complete::Shell;
use impuls_client::Client;

use crate::args::{DeleteArgs, RollbackArgs, command};
use crate::error::{CliError, Exit};
use crate::output::Output;

pub(crate) use alias::alias;
pub(crate) use deploy::deploy;
pub(crate) use invoke::invoke;
pub(crate) use logs::logs;
pub(crate) use queued::invocations;
pub(crate) use schedules::schedules;
pub(crate) use show::{get, list, runtimes, versions};

/// `rollback`.
pub(crate) async fn rollback(
    client: &Client,
    args: &RollbackArgs,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let reply = client.rollback(&args.name, args.to).await?;
    if output.json {
        output.line(&reply.body)?;
    } else {
        let number = crate::text::number(reply.value.version);
        output.line(format!("{} rolled back; its current version is {number}", args.name))?;
    }
    Ok(Exit::Success)
}

/// `delete`. Asks on a terminal unless `--yes` is given.
pub(crate) async fn delete(
    client: &Client,
    args: &DeleteArgs,
    output: &mut Output,
) -> Result<Exit, CliError> {
    if !args.yes && !confirmed(&args.name, output)? {
        return Err(CliError::Unconfirmed);
    }
    let reply = client.delete_function(&args.name).await?;
    if output.json {
        output.line(&reply.body)?;
    } else {
        output.line(format!("{} deleted", args.name))?;
    }
    Ok(Exit::Success)
}

fn confirmed(name: &str, output: &mut Output) -> Result<bool, CliError> {
    if !output.input_is_terminal {
        return Ok(false);
    }
    output.note(&format!("Delete {name} with all its versions, aliases and logs? Type y to do so."));
    let answer = output.read_line()?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `completions`. Needs no server.
pub(crate) fn completions(shell: Shell, output: &mut Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    // The generators offer hidden subcommands too.
    let whole = command();
    let mut visible = clap::Command::new("impuls")
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    clap_complete::generate(shell, &mut visible, "impuls", &mut script);
    output.bytes(&script)?;
    Ok(Exit::Success)
}
