//! `list`, `get`, `versions`, `runtimes`.

use impuls_client::Client;
use impuls_client::wire::Function;

use super::pages;
use crate::args::ListArgs;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::text;

/// What the table of functions shows; above all not the code.
const LIST_FIELDS: &str = "name,runtime,status,version,memory_mb,timeout_sec,code_size,updated_at";

/// `list`.
pub(crate) async fn list(client: &Client, args: &ListArgs, output: &mut Output) -> Result<Exit, CliError> {
    let fields = (!output.json).then_some(LIST_FIELDS);
    let (functions, bodies) = pages::functions(client, args.limit, fields).await?;
    if output.json {
        output.line(pages::join(&bodies)?)?;
        return Ok(Exit::Success);
    }
    if functions.is_empty() {
        output.note("No functions yet. Deploy one with `impuls deploy PATH`.");
        return Ok(Exit::Success);
    }
    let header = ["NAME", "RUNTIME", "STATUS", "VERSION", "MEMORY", "TIMEOUT", "SIZE", "UPDATED"];
    let rows = functions.iter().map(|f| {
        [
            f.name.clone(),
            f.runtime.clone(),
            f.status.clone(),
            text::number(f.version),
            format!("{} MiB", f.memory_mb),
            format!("{} s", f.timeout_sec),
            text::size(f.code_size),
            text::time(&f.updated_at),
        ]
    });
    output.line(text::table(header, rows.collect(), output.out_is_terminal))?;
    Ok(Exit::Success)
}

/// `get`.
pub(crate) async fn get(client: &Client, name: &str, output: &mut Output) -> Result<Exit, CliError> {
    let reply = client.function(name).await?;
    if output.json {
        output.line(&reply.body)?;
    } else {
        output.line(details(&reply.value))?;
    }
    Ok(Exit::Success)
}

fn details(f: &Function) -> String {
    let environment = f.environment.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let metadata = f.metadata.iter().map(|(key, value)| format!("{key}={value}"));
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    text::pairs(vec![
        ("name", f.name.clone()),
        ("description", or_empty(&f.description)),
        ("status", f.status.clone()),
        ("error", f.error.as_ref().map(text::load_error).unwrap_or_default()),
        ("runtime", f.runtime.clone()),
        ("handler", f.handler.clone()),
        ("contract", f.contract.clone()),
        ("command", f.command.join(" ")),
        ("version", text::number(f.version)),
        ("code", format!("{}, {}, sha256 {}", f.package, text::size(f.code_size), f.code_sha256)),
        ("memory", format!("{} MiB", f.memory_mb)),
        ("vcpu", f.vcpu.to_string()),
        ("timeout", format!("{} s", f.timeout_sec)),
        ("idle timeout", format!("{} s", f.idle_timeout_sec)),
        ("concurrency", f.concurrency.to_string()),
        ("max concurrency", text::number(f.max_concurrency)),
        ("min warm", f.min_warm.to_string()),
        ("driver", f.driver.clone()),
        ("network", f.network.to_string()),
        ("environment", environment.collect::<Vec<_>>().join("\n")),
        ("metadata", metadata.collect::<Vec<_>>().join("\n")),
        ("created", text::time(&f.created_at)),
        ("updated", text::time(&f.updated_at)),
        ("id", f.id.clone()),
    ])
}

/// `versions`.
pub(crate) async fn versions(client: &Client, name: &str, output: &mut Output) -> Result<Exit, CliError> {
    let (versions, bodies) = pages::versions(client, name).await?;
    if output.json {
        output.line(pages::join(&bodies)?)?;
        return Ok(Exit::Success);
    }
    let header = ["VERSION", "RUNTIME", "HANDLER", "MEMORY", "SIZE", "SHA256", "PUBLISHED"];
    let rows = versions.iter().map(|v| {
        [
            text::number(v.version),
            v.runtime.clone(),
            v.handler.clone(),
            format!("{} MiB", v.memory_mb),
            text::size(v.code_size),
            v.code_sha256.chars().take(12).collect(),
            text::time(v.published_at.as_deref().unwrap_or_default()),
        ]
    });
    output.line(text::table(header, rows.collect(), output.out_is_terminal))?;
    Ok(Exit::Success)
}

/// `runtimes`.
pub(crate) async fn runtimes(client: &Client, output: &mut Output) -> Result<Exit, CliError> {
    let reply = client.runtimes().await?;
    if output.json {
        output.line(&reply.body)?;
        return Ok(Exit::Success);
    }
    if reply.value.runtimes.is_empty() {
        output.note("The server found no language runtime; `impuls doctor` says what to install.");
        return Ok(Exit::Success);
    }
    let header = ["RUNTIME", "ALIASES", "VERSION", "PROGRAM"];
    let rows = reply.value.runtimes.into_iter().map(|r| [r.name, r.aliases.join(", "), r.version, r.path]);
    output.line(text::table(header, rows.collect(), output.out_is_terminal))?;
    Ok(Exit::Success)
}
