//! `deploy`.

use http::StatusCode;
use impuls_client::wire::{Function, FunctionFields};
use impuls_client::{Client, Reply};

use crate::args::DeployArgs;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::package::{Code, Entry, Package, PackageError};
use crate::text;

/// About so much of the end of what a build writes is remembered, to not be said twice.
const WRITTEN: usize = 1 << 20;

/// `deploy`: creates the function, or publishes a new version of it.
pub(crate) async fn deploy(client: &Client, args: DeployArgs, output: &mut Output) -> Result<Exit, CliError> {
    let progress = output.progress(format!("packing {}", args.path.display()));
    let mut settings = args.settings;
    settings.metadata.extend(args.labels);
    let package = Package::read(&args.path, settings, args.env_file.as_deref(), args.env)?;
    progress.set(format!("deploying {} ({})", package.name, text::size(package.code.size())));
    // A build may be long, and says what it does.
    let mut written = String::new();
    let mut log = |text: &str| {
        progress.log(text);
        if written.len() >= WRITTEN {
            written.clear();
        }
        written.push_str(text);
    };
    let reply = send(client, package, &mut log).await?;
    drop(progress);
    let function = &reply.value;
    if output.json {
        output.line(&reply.body)?;
    } else {
        output.line(summary(function))?;
    }
    if function.status == "error" {
        let reason =
            function.error.as_ref().map(|error| text::load_error_after(error, &written)).unwrap_or_default();
        output.note(&format!("error: the code of {} cannot be used: {reason}", function.name));
        return Ok(Exit::Refused);
    }
    if output.err_is_terminal && !output.json {
        output.note(&format!("Try it: impuls invoke {} --data '{{}}'", function.name));
    }
    Ok(Exit::Success)
}

fn summary(function: &Function) -> String {
    let version = text::number(function.version);
    let size = text::size(function.code_size);
    format!("{} version {version} ({}, {}, {size})", function.name, function.runtime, function.handler)
}

async fn send(
    client: &Client,
    package: Package,
    log: &mut (dyn FnMut(&str) + Send),
) -> Result<Reply<Function>, CliError> {
    let name = package.name.clone();
    if let Some(existing) = find(client, &name).await? {
        return update(client, &existing, update_fields(package, &existing.runtime), log).await;
    }
    let fields = create_fields(package)?;
    match client.create_function(&fields, log).await {
        // Somebody else created it meanwhile.
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => match find(client, &name).await? {
            Some(existing) => update(client, &existing, fields, log).await,
            None => Err(error.into()),
        },
        other => Ok(other?),
    }
}

/// The native API's function of this name. A name that only another API uses is free: its function is somebody else's.
async fn find(client: &Client, name: &str) -> Result<Option<Function>, CliError> {
    match client.function(name).await {
        Ok(reply) => Ok(Some(reply.value).filter(|function| function.scope.is_empty())),
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn update(
    client: &Client,
    existing: &Function,
    fields: FunctionFields,
    log: &mut (dyn FnMut(&str) + Send),
) -> Result<Reply<Function>, CliError> {
    let fields = FunctionFields { name: None, ..fields };
    // By its id: if it is deleted meanwhile, its name may mean another API's function.
    Ok(client.update_function(&existing.id, &fields, log).await?)
}

/// Everything that a new function needs.
fn create_fields(package: Package) -> Result<FunctionFields, PackageError> {
    let entry = package.entry.clone();
    let mut fields = given(package);
    if fields.runtime.is_none() {
        fields.runtime = Some(entry.as_ref().ok_or(PackageError::Runtime)?.family.to_owned());
    }
    fields.handler = fields
        .handler
        .or_else(|| Some(entry.map_or_else(|| "index.handler".to_owned(), |entry| entry.handler)));
    Ok(fields)
}

/// What is new. Runtime and handler stay, unless they are given or the code is in another language now.
fn update_fields(package: Package, runtime: &str) -> FunctionFields {
    let entry = package.entry.clone();
    let mut fields = given(package);
    if let Some(Entry { family, handler }) = entry
        && fields.runtime.is_none()
        && !is_of_family(runtime, family)
    {
        fields.runtime = Some(family.to_owned());
        fields.handler = fields.handler.or(Some(handler));
    }
    fields
}

fn is_of_family(runtime: &str, family: &str) -> bool {
    match family {
        "nodejs" => runtime.starts_with("node"),
        "typescript" => runtime.starts_with("typescript") || runtime == "ts" || runtime.ends_with("-ts"),
        _ => runtime.starts_with(family),
    }
}

/// What was given by flags, files and the code itself.
fn given(package: Package) -> FunctionFields {
    let settings = package.settings;
    let (code, zip) = match package.code {
        Code::Source(text) => (Some(text), None),
        Code::Archive(bytes) => (None, Some(bytes)),
    };
    FunctionFields {
        name: Some(package.name),
        description: settings.description,
        runtime: settings.runtime,
        handler: settings.handler,
        code,
        zip,
        memory_mb: settings.memory_mb,
        timeout_sec: settings.timeout_sec,
        environment: Some(settings.environment).filter(|environment| !environment.is_empty()),
        contract: settings.contract,
        command: settings.command,
        metadata: Some(settings.metadata).filter(|metadata| !metadata.is_empty()),
        concurrency: settings.concurrency,
        max_concurrency: settings.max_concurrency,
        vcpu: settings.vcpu,
        idle_timeout_sec: settings.idle_timeout_sec,
        min_warm: settings.min_warm,
        network: settings.network,
        ..FunctionFields::default()
    }
}
