//! `schedules`.

use impuls_client::Client;
use impuls_client::wire::{Schedule, ScheduleFields};
use serde_json::value::RawValue;

use super::invoke::event;
use crate::args::{ScheduleArgs, SchedulesCommand};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::text;

/// `schedules`.
pub(crate) async fn schedules(
    client: &Client,
    command: SchedulesCommand,
    output: &mut Output,
) -> Result<Exit, CliError> {
    match command {
        SchedulesCommand::Set(args) => set(client, args, output).await?,
        SchedulesCommand::List { name } => {
            let reply = client.schedules(&name).await?;
            show(&name, &reply.value.schedules, &reply.body, output)?;
        }
        SchedulesCommand::Get { name, schedule } => {
            let reply = client.schedule(&name, &schedule).await?;
            show(&name, &[reply.value], &reply.body, output)?;
        }
        SchedulesCommand::Delete { name, schedule } => {
            let body = client.delete_schedule(&name, &schedule).await?;
            if !output.json {
                output.line(format!("{schedule} of {name} deleted"))?;
            } else if !body.is_empty() {
                output.line(&body)?;
            }
        }
    }
    Ok(Exit::Success)
}

async fn set(client: &Client, args: ScheduleArgs, output: &mut Output) -> Result<(), CliError> {
    let every = args.every.map(|span| if span.subsec_nanos() == 0 { Ok(span.as_secs()) } else { Err(()) });
    let interval_sec = every.transpose().map_err(|()| CliError::Interval)?;
    let event = match args.data.as_deref() {
        None => None,
        Some(data) => {
            let text = event(Some(data), output)?;
            let event: Box<RawValue> = serde_json::from_slice(&text).map_err(CliError::Event)?;
            Some(event)
        }
    };
    let fields = ScheduleFields {
        cron: args.cron,
        time_zone: args.time_zone,
        interval_sec,
        qualifier: args.qualifier,
        event,
        enabled: args.disabled.then_some(false),
    };
    let reply = client.set_schedule(&args.name, &args.schedule, &fields).await?;
    show(&args.name, &[reply.value], &reply.body, output)
}

fn show(function: &str, all: &[Schedule], body: &[u8], output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return output.line(body);
    }
    if all.is_empty() {
        output.note(&format!(
            "{function} has no schedules. Make one with `impuls schedules set {function} daily --cron '0 9 * * *'`."
        ));
        return Ok(());
    }
    let time = |at: &Option<String>| at.as_deref().map(text::time).unwrap_or_default();
    let rows = all.iter().map(|one| {
        let when = match (&one.cron, one.interval_sec) {
            (Some(cron), _) => format!("{cron} ({})", one.time_zone.as_deref().unwrap_or("UTC")),
            (None, seconds) => format!("every {} s", text::number(seconds)),
        };
        let next = if one.enabled { time(&one.next_tick) } else { "disabled".to_owned() };
        [one.name.clone(), when, one.qualifier.clone(), next, time(&one.last_tick)]
    });
    let header = ["SCHEDULE", "WHEN", "VERSION", "NEXT", "LAST"];
    output.line(text::table(header, rows.collect(), output.out_is_terminal))
}
