//! `impuls import`: functions of earlier servers, into a running one.
//!
//! Each goes through the HTTP API of the server that it comes from, so it is validated, built, checked and warmed like any
//! deploy, and means what it meant there. A function that exists is left as it is, so an import can be repeated.

mod tables;
mod tree;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use impuls_cli::{Exit, ImportArgs};
use serde_json::Value;

/// The most bytes of a function's code, which is the server's own bound.
pub(crate) const CODE_LIMIT: u64 = 50 * 1024 * 1024;
/// How long one deploy may take, its build included.
const DEPLOY: Duration = Duration::from_secs(1_800);

/// Whose function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Impuls,
    GoFaas,
}

impl Dialect {
    /// Where its functions are created.
    const fn path(self) -> &'static str {
        match self {
            Self::Impuls => "/api/v1/functions",
            Self::GoFaas => "/functions",
        }
    }
}

/// A function as an earlier server has left it.
#[derive(Debug)]
struct Found {
    /// What to call it in the report.
    name: String,
    /// The request that creates it, or why there is none.
    request: Result<Value, String>,
    /// What else is to be said.
    remark: Option<String>,
}

/// Everything that was found.
#[derive(Debug)]
struct Left {
    dialect: Dialect,
    functions: Vec<Found>,
    /// What there is and is not taken.
    not_taken: Vec<String>,
}

/// What became of a function.
enum Taken {
    /// With this id.
    New(String),
    Exists,
    Refused(String),
}

/// Imports everything and reports on each function.
pub(crate) fn import(args: &ImportArgs, server: &str) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args, server))
}

async fn run(args: &ImportArgs, server: &str) -> anyhow::Result<ExitCode> {
    let left = if args.source.contains("://") {
        tables::read(&args.source, args.code.as_deref()).await?
    } else {
        tree::read(Path::new(&args.source))?
    };
    let client = reqwest::Client::builder().no_proxy().timeout(DEPLOY).build()?;
    let server = server.trim_end_matches('/');
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let url = url + left.dialect.path();
    let mut counts = [0_usize; 3];
    let mut out = std::io::stdout();
    for found in left.functions {
        let taken = match found.request {
            Ok(request) => create(&client, &url, &request).await?,
            Err(reason) => Taken::Refused(reason),
        };
        let remark = found.remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
        let (place, told) = match taken {
            Taken::New(id) => (0, format!("taken, with the id {id}")),
            Taken::Exists => (1, "exists, left as it is".to_owned()),
            Taken::Refused(reason) => (2, format!("NOT TAKEN: {reason}")),
        };
        if let Some(count) = counts.get_mut(place) {
            *count += 1;
        }
        writeln!(out, "{}: {told}{remark}", found.name)?;
    }
    for what in left.not_taken {
        writeln!(out, "not taken: {what}")?;
    }
    let [new, existing, refused] = counts;
    writeln!(out, "{new} functions taken, {existing} existed, {refused} not taken")?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { Exit::Refused.into() })
}

/// Has the server create a function. An error is the server's, and ends the import.
async fn create(client: &reqwest::Client, url: &str, request: &Value) -> anyhow::Result<Taken> {
    let reply = client.post(url).json(request).send().await;
    let reply =
        reply.with_context(|| format!("no server answers at {url}; start it, or name it with --server"))?;
    let status = reply.status();
    let body: Value = reply.json().await.unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let reason = || {
        // GoFaas' errors have what is wrong in their details.
        let told = text("/error/details").or_else(|| text("/error/message")).or_else(|| text("/message"));
        told.unwrap_or_else(|| format!("the server answered with status {status}"))
    };
    match status.as_u16() {
        201 if text("/status").as_deref() == Some("error") => {
            let why = text("/error/message").unwrap_or_default();
            Ok(Taken::Refused(format!("it is stored, and cannot be called: {why}")))
        }
        201 => Ok(Taken::New(text("/id").or_else(|| text("/data/id")).unwrap_or_default())),
        409 => Ok(Taken::Exists),
        500.. => bail!("the server failed: {}", reason()),
        _ => Ok(Taken::Refused(reason())),
    }
}

/// The text of a plain file that is no larger than code may be.
fn read_code(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(format!("{} is no plain file, and links are refused", path.display()));
    }
    if found.len() > CODE_LIMIT {
        return Err(format!("{} has more than {CODE_LIMIT} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(failed)
}
