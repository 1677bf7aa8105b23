//! `invoke`.

use std::path::PathBuf;

use bytes::Bytes;
use impuls_client::wire::Envelope;
use impuls_client::{Client, Reply};
use serde_json::Value;

use super::queued;
use crate::args::InvokeArgs;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::text;

/// `invoke`: the result on standard output, logs and everything else on standard error.
pub(crate) async fn invoke(
    client: &Client,
    args: &InvokeArgs,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let event = event(args.data.as_deref(), output)?;
    if args.queued.is_async {
        let what = (event, args.qualifier.clone());
        return queued::submit(client, &args.name, what, &args.queued, output).await;
    }
    let progress = output.progress(format!("running {}", args.name));
    let qualifier = args.qualifier.as_deref();
    if args.raw && !output.json {
        let reply = client.invoke_raw(&args.name, qualifier, event).await?;
        drop(progress);
        output.bytes(&reply.body)?;
        return Ok(if reply.status.is_server_error() { Exit::FunctionFailed } else { Exit::Success });
    }
    let reply = client.invoke(&args.name, qualifier, event).await?;
    drop(progress);
    show(&reply, output)?;
    Ok(if reply.value.error.is_some() { Exit::FunctionFailed } else { Exit::Success })
}

/// The event that `--data` or standard input has.
pub(super) fn event(data: Option<&str>, output: &mut Output) -> Result<Bytes, CliError> {
    match data {
        Some("@-") => output.read_input().map(Bytes::from),
        Some(data) => match data.strip_prefix('@') {
            Some(path) => {
                let path = PathBuf::from(path);
                let read = std::fs::read(&path);
                read.map(Bytes::from).map_err(|source| CliError::Read { path, source })
            }
            None => Ok(Bytes::copy_from_slice(data.as_bytes())),
        },
        None if output.input_is_terminal => Ok(Bytes::new()),
        None => output.read_input().map(Bytes::from),
    }
}

fn show(reply: &Reply<Envelope>, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return output.line(&reply.body);
    }
    let envelope = &reply.value;
    if let Some(logs) = envelope.logs.as_deref().filter(|logs| !logs.is_empty()) {
        output.note(logs.trim_end_matches('\n'));
    }
    match &envelope.error {
        Some(error) => {
            let kind = envelope.error_type.as_deref().unwrap_or("error");
            let (class, stack) = (envelope.error_class.as_deref(), envelope.stack.as_deref());
            output.note(&text::failure(kind, class, error, stack));
        }
        None => show_body(envelope.body.as_ref().map_or("null", |body| body.get()), output)?,
    }
    if output.err_is_terminal {
        let version = text::number(envelope.version);
        let took = text::milliseconds(envelope.duration_ms);
        output.note(&format!("({took}, version {version}, request {})", envelope.request_id));
    }
    Ok(())
}

/// Indented for people, byte for byte for programs.
pub(super) fn show_body(body: &str, output: &mut Output) -> Result<(), CliError> {
    if !output.out_is_terminal {
        return output.bytes(body.as_bytes());
    }
    let pretty = serde_json::from_str::<Value>(body).and_then(|value| serde_json::to_string_pretty(&value));
    output.line(pretty.unwrap_or_else(|_| body.to_owned()))
}
