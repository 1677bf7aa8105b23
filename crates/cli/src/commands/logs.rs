//! `logs`.

use std::collections::HashSet;
use std::time::Duration;

use impuls_client::wire::InvocationRecord;
use impuls_client::{Client, LogsQuery, Reply};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::args::LogsArgs;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::text;

/// How often `-f` asks for news.
const POLL: Duration = Duration::from_secs(1);
/// How many records `-f` asks for at a time.
const PAGE: u32 = 100;
/// How many pages `-f` reads at most to catch up; what lies further back is not shown.
const PAGES: u32 = 10;
/// How many invocations to print first when nothing else is asked for.
const FIRST: u32 = 20;

/// The records of a page as the server wrote them.
#[derive(Deserialize)]
struct RawPage {
    items: Vec<Box<RawValue>>,
}

/// `logs`: past invocations, the oldest first.
pub(crate) async fn logs(client: &Client, args: &LogsArgs, output: &mut Output) -> Result<Exit, CliError> {
    let limit = Some(args.limit.unwrap_or(FIRST));
    let query = LogsQuery { limit, offset: None, status: args.status.clone() };
    let reply = client.logs(&args.name, &query).await?;
    if args.follow {
        return follow(client, args, reply, output).await;
    }
    if output.json {
        output.line(&reply.body)?;
        return Ok(Exit::Success);
    }
    if reply.value.items.is_empty() {
        output.note(&format!("{} has no such invocations yet.", args.name));
    }
    for record in reply.value.items.iter().rev() {
        output.line(entry(record))?;
    }
    Ok(Exit::Success)
}

/// Prints what is there, then what comes, until the program is stopped or the server fails. As JSON, one record per
/// line.
async fn follow(
    client: &Client,
    args: &LogsArgs,
    first: Reply<impuls_client::wire::LogList>,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let mut seen = HashSet::new();
    let mut news = unseen(first, &mut seen)?;
    loop {
        for (record, raw) in news.iter().rev() {
            if output.json { output.line(raw.get())? } else { output.line(entry(record))? }
        }
        tokio::time::sleep(POLL).await;
        news = Vec::new();
        let mut current = HashSet::new();
        for page in 0..PAGES {
            let query =
                LogsQuery { limit: Some(PAGE), offset: Some(page * PAGE), status: args.status.clone() };
            let reply = client.logs(&args.name, &query).await?;
            let count = reply.value.items.len();
            current.extend(reply.value.items.iter().map(|record| record.id.clone()));
            let page = unseen(reply, &mut seen)?;
            let all_new = page.len() == count && count == PAGE as usize;
            news.extend(page);
            if !all_new {
                break;
            }
        }
        // Older ones cannot come again, except behind a record of a call that took very long.
        if seen.len() > (PAGE * PAGES) as usize {
            seen = current;
        }
    }
}

/// The records of a page that were not seen before, each with its JSON.
fn unseen(
    reply: Reply<impuls_client::wire::LogList>,
    seen: &mut HashSet<String>,
) -> Result<Vec<(InvocationRecord, Box<RawValue>)>, CliError> {
    let raw: RawPage = serde_json::from_slice(&reply.body).map_err(impuls_client::ClientError::Reply)?;
    let both = reply.value.items.into_iter().zip(raw.items);
    Ok(both.filter(|(record, _)| seen.insert(record.id.clone())).collect())
}

/// One invocation: a line about it, its logs indented, its error.
fn entry(record: &InvocationRecord) -> String {
    let mut line = format!(
        "{}  {}  version {}  {}",
        text::time(&record.started_at),
        record.status,
        text::number(record.version),
        text::milliseconds(record.duration_ms),
    );
    if let Some(init) = record.init_ms {
        line = format!("{line}  (cold start {})", text::milliseconds(init));
    }
    line = format!("{line}  {}", record.id);
    let error = record.error.as_ref().map(|error| {
        text::failure(&error.kind, error.class.as_deref(), &error.message, error.stack.as_deref())
    });
    let below = record.logs.lines().map(str::to_owned);
    let below = below.chain(error.iter().flat_map(|error| error.lines().map(str::to_owned)));
    std::iter::once(line).chain(below.map(|text| format!("  {text}"))).collect::<Vec<_>>().join("\n")
}
