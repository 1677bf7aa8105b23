//! What creates or changes a function, and how it becomes an input of the use cases.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use impuls_control::{BuildLog, Code, ControlError, FunctionChange, LimitSettings, NewFunction, Settings};
use impuls_domain::limits;
use impuls_domain::{
    CommandLine, Contract, DriverChoice, Environment, FunctionName, Handler, Metadata, RuntimeName, Scope,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::network::NetworkObject;
use crate::problem::Problem;

/// A function to create, or what to change of one. A member that is absent or `null` gets its default on creation
/// and keeps its value in a change; a limit of 0 means its default in both. Unknown members are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
pub struct FunctionRequest {
    /// 1 to 255 letters, digits, `-` and `_`; not a UUID. Needed on creation; cannot be changed.
    #[schema(example = "hello-world", min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9_-]+$")]
    pub name: Option<String>,
    /// A runtime's version name or alias; needed on creation. `GET /api/v1/runtimes` lists them.
    #[schema(example = "nodejs20")]
    pub runtime: Option<String>,
    /// What to call, `file.function`; needed on creation.
    #[schema(example = "index.handler", min_length = 1, max_length = 255)]
    pub handler: Option<String>,
    /// The source text of one file, at most 50 MiB. Creation needs either `code` or `zip`.
    #[schema(example = "exports.handler = async (event) => ({ statusCode: 200, body: 'Hello' });")]
    pub code: Option<String>,
    /// A ZIP archive in base64; at most 50 MiB packed, 250 MiB unpacked and 65,000 entries.
    pub zip: Option<String>,
    /// What the owner says about it.
    #[schema(max_length = 1024)]
    pub description: Option<String>,
    /// Memory of one sandbox, in MiB.
    #[schema(default = 128, minimum = 64, maximum = 32768)]
    pub memory_mb: Option<i64>,
    /// Time for one invocation, in seconds.
    #[schema(default = 30, minimum = 1, maximum = 3600)]
    pub timeout_sec: Option<i64>,
    /// Environment variables; replaces all earlier ones. At most 64 KiB in all; names do not begin with `IMPULS_`.
    pub environment: Option<BTreeMap<String, String>>,
    /// The owner's labels; replaces all earlier ones. At most 64 of them and 4 KiB in all.
    pub metadata: Option<BTreeMap<String, String>>,
    /// How the code is shaped: `module` exports the handler, `scoped` defines it without exporting it, `program` is a
    /// whole program and `command` a command line for each call, `bootstrap` asks the AWS Lambda Runtime API for
    /// events, `http` listens on `$PORT`. The default is the first that the runtime has.
    pub contract: Option<String>,
    /// What is run, for the contracts `command` and `http`: words, or a text that becomes `/bin/sh -c` in the sandbox.
    pub command: Option<CommandRequest>,
    /// Invocations that one sandbox runs at once.
    #[schema(default = 1, minimum = 1, maximum = 1000)]
    pub concurrency: Option<i64>,
    /// Invocations of the function at once; 0 leaves only the server's own bound.
    #[schema(default = 0, minimum = 0, maximum = 100_000)]
    pub max_concurrency: Option<i64>,
    /// Processor share of one sandbox, in cores.
    #[schema(default = 1.0, minimum = 0.05, maximum = 64)]
    pub vcpu: Option<f64>,
    /// How long an unused sandbox is kept, in seconds.
    #[schema(default = 300, minimum = 1, maximum = 86_400)]
    pub idle_timeout_sec: Option<i64>,
    /// Sandboxes that are kept however long they are unused.
    #[schema(default = 0, minimum = 0, maximum = 1000)]
    pub min_warm: Option<i64>,
    /// The isolation: `auto` is the strongest that the server has, `process` is Linux namespaces.
    #[schema(default = "auto")]
    pub driver: Option<String>,
    /// What the sandbox may reach.
    pub network: Option<NetworkObject>,
}

/// A command line as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CommandRequest {
    /// A shell's command.
    Shell(String),
    /// The program and its arguments.
    Words(Vec<String>),
}

impl CommandRequest {
    fn into_words(self) -> Vec<String> {
        match self {
            Self::Shell(text) => ["/bin/sh", "-c", &text].map(str::to_owned).to_vec(),
            Self::Words(words) => words,
        }
    }
}

/// A ZIP archive.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes bodies that are read as bytes")]
pub(crate) struct Archive(Bytes);

/// What a timeout may be here, in seconds.
const TIMEOUT_SECS: RangeInclusive<u64> = 1..=*limits::TIMEOUT_MS.end() / 1_000;

/// The members that hold numbers, for whoever has only text.
pub(crate) const NUMBERS: [&str; 7] =
    ["memory_mb", "timeout_sec", "concurrency", "max_concurrency", "vcpu", "idle_timeout_sec", "min_warm"];

impl FunctionRequest {
    /// The function to create. Checks name, runtime, handler and code in this order, then the rest;
    /// `archive` is a body that is an archive.
    pub fn into_new(
        self,
        archive: Option<Bytes>,
        check_runtime: impl FnOnce(&RuntimeName) -> Result<(), ControlError>,
    ) -> Result<NewFunction, Problem> {
        let name = required("name", self.name.as_deref())?;
        let runtime = required("runtime", self.runtime.as_deref())?;
        check_runtime(&runtime)?;
        // A command line needs neither a handler nor code.
        let is_command = self.command.is_some();
        let handler = self.handler.as_deref().or(is_command.then_some("command"));
        let handler = required("handler", handler)?;
        let settings = self.settings();
        let code = code(self.code.filter(|code| !code.is_empty()), self.zip, archive)?;
        let code = code.or(is_command.then(Code::nothing));
        let code = code.ok_or_else(|| Problem::invalid("code", "code is required (or zip, an archive)"))?;
        let (scope, build_log) = (Scope::default(), BuildLog::nobody());
        Ok(NewFunction { scope, name, runtime, handler, code, settings: settings?, build_log })
    }

    /// The change that is asked for; `archive` is a body that is an archive.
    pub fn into_change(self, archive: Option<Bytes>) -> Result<FunctionChange, Problem> {
        let name: Option<FunctionName> = optional("name", self.name.as_deref())?;
        let runtime: Option<RuntimeName> = optional("runtime", self.runtime.as_deref())?;
        let handler: Option<Handler> = optional("handler", self.handler.as_deref())?;
        let settings = self.settings();
        let code = code(self.code, self.zip, archive)?;
        Ok(FunctionChange { name, runtime, handler, code, settings: settings?, ..FunctionChange::default() })
    }

    fn settings(&self) -> Result<Settings, Problem> {
        let environment = self.environment.clone().map(Environment::new).transpose();
        let metadata = self.metadata.clone().map(Metadata::new).transpose();
        let command = self.command.clone().map(|command| CommandLine::new(command.into_words())).transpose();
        let contracts = Contract::ALL.map(Contract::as_str).join(", ");
        Ok(Settings {
            contract: choice("contract", self.contract.as_deref(), Contract::parse, &contracts)?,
            command: command.map_err(|error| Problem::invalid("command", error))?,
            metadata: metadata.map_err(|error| Problem::invalid("metadata", error))?,
            description: self.description.clone(),
            environment: environment.map_err(|error| Problem::invalid("environment", error))?,
            limits: self.limits()?,
            driver: choice("driver", self.driver.as_deref(), DriverChoice::parse, "auto, process")?,
            network: self.network.as_ref().map(NetworkObject::to_policy).transpose()?,
        })
    }

    fn limits(&self) -> Result<LimitSettings, Problem> {
        Ok(LimitSettings {
            memory_mib: whole("memory_mb", self.memory_mb, &limits::MEMORY_MIB)?,
            timeout_ms: whole("timeout_sec", self.timeout_sec, &TIMEOUT_SECS)?
                .map(|secs: u64| secs.saturating_mul(1_000)),
            milli_vcpu: self.vcpu.map(milli_vcpu).transpose()?,
            concurrency: whole("concurrency", self.concurrency, &limits::CONCURRENCY)?,
            max_concurrency: whole("max_concurrency", self.max_concurrency, &limits::MAX_CONCURRENCY)?,
            idle_timeout_secs: whole("idle_timeout_sec", self.idle_timeout_sec, &limits::IDLE_TIMEOUT_SECS)?,
            min_warm: whole("min_warm", self.min_warm, &limits::MIN_WARM)?,
        })
    }
}

fn required<T: FromStr<Err: std::fmt::Display>>(field: &str, text: Option<&str>) -> Result<T, Problem> {
    let present = text.filter(|text| !text.is_empty());
    let missing = || Problem::invalid(field, format_args!("{field} is required"));
    present.ok_or_else(missing)?.parse().map_err(|error| Problem::invalid(field, error))
}

fn optional<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, Problem> {
    text.map(str::parse).transpose().map_err(|error| Problem::invalid(field, error))
}

fn choice<T>(
    field: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    supported: &str,
) -> Result<Option<T>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let refused =
        || Problem::invalid(field, format_args!("{text:?} is not supported; for now supported: {supported}"));
    parse(text).map(Some).ok_or_else(refused)
}

/// A whole number as the domain takes it. The domain checks the range too; here it only names it, for numbers that
/// the domain's type cannot hold.
fn whole<T>(field: &str, value: Option<i64>, range: &RangeInclusive<T>) -> Result<Option<T>, Problem>
where
    T: TryFrom<i64> + std::fmt::Display,
{
    let Some(value) = value else { return Ok(None) };
    let (min, max) = (range.start(), range.end());
    let refused =
        |_| Problem::invalid(field, format_args!("{value} is not possible; {min} to {max} are allowed"));
    T::try_from(value).map(Some).map_err(refused)
}

fn milli_vcpu(cores: f64) -> Result<u32, Problem> {
    let milli = (cores * 1_000.0).round();
    let is_default = cores == 0.0;
    if is_default
        || (f64::from(*limits::MILLI_VCPU.start())..=f64::from(*limits::MILLI_VCPU.end())).contains(&milli)
    {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within a range of u32"
        )]
        return Ok(milli as u32);
    }
    Err(Problem::invalid("vcpu", format_args!("{cores} is not possible; 0.05 to 64 are allowed")))
}

fn code(
    source: Option<String>,
    zip: Option<String>,
    archive: Option<Bytes>,
) -> Result<Option<Code>, Problem> {
    match (source, zip, archive) {
        (None, None, None) => Ok(None),
        (Some(source), None, None) => Ok(Some(Code::Source(source))),
        (None, Some(text), None) => Ok(Some(Code::Zip(decode(text)?))),
        (None, None, Some(bytes)) => Ok(Some(Code::Zip(bytes))),
        _ => Err(Problem::invalid("code", "give `code` or an archive, not both")),
    }
}

fn decode(mut text: String) -> Result<Bytes, Problem> {
    // `base64` of the shell breaks lines.
    text.retain(|c| !c.is_ascii_whitespace());
    let refused = |error| Problem::invalid("zip", format_args!("this is not base64: {error}"));
    STANDARD.decode(text).map(Bytes::from).map_err(refused)
}

#[cfg(test)]
mod tests;
