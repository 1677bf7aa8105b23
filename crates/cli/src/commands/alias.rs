//! `alias`.

use impuls_client::Client;
use impuls_client::wire::{Alias, AliasFields};

use crate::args::AliasCommand;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::text;

/// `alias`.
pub(crate) async fn alias(
    client: &Client,
    command: AliasCommand,
    output: &mut Output,
) -> Result<Exit, CliError> {
    match command {
        AliasCommand::Set { name, spec, description } => {
            let fields = AliasFields { versions: spec.targets, description };
            let reply = client.set_alias(&name, &spec.alias, &fields).await?;
            show(&name, &[reply.value], &reply.body, output)?;
        }
        AliasCommand::Get { name, alias } => {
            let reply = client.alias(&name, &alias).await?;
            show(&name, &[reply.value], &reply.body, output)?;
        }
        AliasCommand::List { name } => {
            let reply = client.aliases(&name).await?;
            show(&name, &reply.value.aliases, &reply.body, output)?;
        }
        AliasCommand::Delete { name, alias } => {
            let body = client.delete_alias(&name, &alias).await?;
            if !output.json {
                output.line(format!("{alias} of {name} deleted"))?;
            } else if !body.is_empty() {
                output.line(&body)?;
            }
        }
    }
    Ok(Exit::Success)
}

fn show(function: &str, aliases: &[Alias], body: &[u8], output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return output.line(body);
    }
    if aliases.is_empty() {
        output
            .note(&format!("{function} has no aliases. Make one with `impuls alias set {function} live=1`."));
        return Ok(());
    }
    let rows = aliases.iter().map(|alias| {
        [
            alias.name.clone(),
            text::targets(&alias.versions),
            text::time(&alias.updated_at),
            alias.description.clone().unwrap_or_default(),
        ]
    });
    let header = ["ALIAS", "VERSIONS", "UPDATED", "DESCRIPTION"];
    output.line(text::table(header, rows.collect(), output.out_is_terminal))
}
