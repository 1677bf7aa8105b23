//! `invoke --async` and `invocations`.

use bytes::Bytes;
use impuls_client::wire::QueuedInvocation;
use impuls_client::{Client, QueuedQuery, Reply, SubmitOptions};

use super::invoke::show_body;
use crate::args::{AsyncArgs, InvocationsArgs, InvocationsCommand};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::text;

fn millis(span: std::time::Duration) -> String {
    format!("{}ms", span.as_millis())
}

/// `invoke --async`: the id on standard output.
pub(super) async fn submit(
    client: &Client,
    name: &str,
    (event, qualifier): (Bytes, Option<String>),
    args: &AsyncArgs,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let options = SubmitOptions {
        qualifier,
        delay: args.delay.map(millis),
        timeout: args.timeout.map(millis),
        max_retries: args.max_retries,
        retry_delay: args.retry_delay.map(millis),
        idempotency_key: args.idempotency_key.clone(),
    };
    let reply = client.submit(name, event, options).await?;
    if output.json {
        output.line(&reply.body)?;
    } else {
        output.line(&reply.value.id)?;
        if output.err_is_terminal {
            output.note(&format!("(accepted; see `impuls invocations get {}`)", reply.value.id));
        }
    }
    Ok(Exit::Success)
}

/// `invocations`.
pub(crate) async fn invocations(
    client: &Client,
    command: InvocationsCommand,
    output: &mut Output,
) -> Result<Exit, CliError> {
    match command {
        InvocationsCommand::List(args) => list(client, args, output).await,
        InvocationsCommand::Get { id, wait } => {
            let reply = client.invocation(&id, wait.map(millis).as_deref()).await?;
            show(&reply, output)
        }
        InvocationsCommand::Cancel { id } => {
            let reply = client.cancel(&id).await?;
            told(&reply.body, format!("{id} cancelled"), output)
        }
        InvocationsCommand::Redrive { id: Some(id), .. } => {
            let reply = client.redrive(&id).await?;
            told(&reply.body, format!("{id} waits again"), output)
        }
        InvocationsCommand::Redrive { id: None, all } => {
            let reply = client.redrive_all(&all.unwrap_or_default()).await?;
            told(&reply.body, format!("{} dead letters wait again", reply.value.redriven), output)
        }
    }
}

fn told(body: &Bytes, text: String, output: &mut Output) -> Result<Exit, CliError> {
    if output.json {
        output.line(body)?
    } else {
        output.line(text)?
    }
    Ok(Exit::Success)
}

async fn list(client: &Client, args: InvocationsArgs, output: &mut Output) -> Result<Exit, CliError> {
    let InvocationsArgs { function, status, since, until, limit, cursor } = args;
    let query = QueuedQuery { function, status, since, until, limit: Some(limit), cursor };
    let reply = client.list_invocations(&query).await?;
    if output.json {
        output.line(&reply.body)?;
        return Ok(Exit::Success);
    }
    if reply.value.items.is_empty() {
        output.note("No such calls. Make one with `impuls invoke NAME --async`.");
        return Ok(Exit::Success);
    }
    let header = ["ID", "FUNCTION", "STATUS", "ATTEMPTS", "ACCEPTED", "ERROR"];
    let rows = reply.value.items.iter().map(|one| {
        [
            one.id.clone(),
            one.function.clone().unwrap_or_default(),
            if one.kind == "hook" { format!("{} (hook)", one.status) } else { one.status.clone() },
            one.attempts.to_string(),
            text::time(&one.created_at),
            one.error.as_ref().map(|error| first_line(&error.message)).unwrap_or_default(),
        ]
    });
    output.line(text::table(header, rows.collect(), output.out_is_terminal))?;
    if let Some(next) = &reply.value.next_cursor {
        output.note(&format!("There may be more: --cursor {next}"));
    }
    Ok(Exit::Success)
}

/// The beginning of a message, for a table.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(60).collect()
}

/// The result on standard output, logs and everything else on standard error.
fn show(reply: &Reply<QueuedInvocation>, output: &mut Output) -> Result<Exit, CliError> {
    let one = &reply.value;
    let has_failed = !matches!(one.status.as_str(), "queued" | "running" | "succeeded");
    let exit = if has_failed { Exit::FunctionFailed } else { Exit::Success };
    if output.json {
        output.line(&reply.body)?;
        return Ok(exit);
    }
    if let Some(logs) = one.logs.as_deref().filter(|logs| !logs.is_empty()) {
        output.note(logs.trim_end_matches('\n'));
    }
    if let Some(error) = &one.error {
        let (class, stack) = (error.class.as_deref(), error.stack.as_deref());
        output.note(&text::failure(&error.kind, class, &error.message, stack));
    }
    let when = match (&one.not_before, &one.completed_at) {
        (Some(next), _) => format!(", next not before {}", text::time(next)),
        (None, Some(end)) => format!(", ended {}", text::time(end)),
        (None, None) => String::new(),
    };
    let took = one.duration_ms.map(|ms| format!(", {}", text::milliseconds(ms))).unwrap_or_default();
    output.note(&format!("({}, attempts: {}{when}{took})", one.status, one.attempts));
    if one.status == "succeeded" {
        show_body(one.result.as_ref().map_or("null", |body| body.get()), output)?;
    }
    Ok(exit)
}
