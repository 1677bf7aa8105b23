//! What use cases take and return, in the words of the domain. Parsing text is the API's work.

use std::time::Duration;

use bytes::Bytes;
use impuls_domain::{
    AliasName, AliasTarget, ArtifactDigest, CodeLayout, CommandLine, Contract, DriverChoice, Environment,
    FunctionId, FunctionName, Handler, LimitError, Limits, Metadata, NetworkPolicy, RevisionConfig,
    RevisionId, RuntimeName, Scope, VersionNumber,
};
use impuls_store::{FunctionKey, FunctionSnapshot};

use crate::error::ControlError;
use crate::rollout::BuildLog;

/// The most characters of a description.
pub const DESCRIPTION_LIMIT: usize = 1_024;
/// The most bytes of code: of a single source file, or of an archive before it is unpacked.
pub const CODE_LIMIT: usize = 50 * 1024 * 1024;
/// The most functions on one page of a list.
pub const FUNCTION_PAGE_LIMIT: u32 = 1_000;
/// The most versions on one page of a list.
pub const VERSION_PAGE_LIMIT: u32 = 1_000;
/// The most records of invocations on one page; each may hold 1 MiB of logs.
pub const INVOCATION_PAGE_LIMIT: u32 = 200;

/// Which function is meant: by id, or by its name within a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionRef(pub(crate) FunctionKey);

impl FunctionRef {
    /// What a text means: a UUID is an id, everything else a name within `scope`, or if nothing there has it, of the
    /// newest function that does. A text that no function can
    /// have as a name is a function that does not exist.
    pub fn parse(scope: Scope, text: &str) -> Result<Self, ControlError> {
        if let Ok(id) = text.parse() {
            return Ok(Self(FunctionKey::Id(id)));
        }
        let name = text.parse().map_err(|_| ControlError::FunctionNotFound(text.to_owned()))?;
        Ok(Self(FunctionKey::Name(scope, name)))
    }

    /// The function with this id.
    #[must_use]
    pub const fn of(id: FunctionId) -> Self {
        Self(FunctionKey::Id(id))
    }

    pub(crate) fn not_found(&self) -> ControlError {
        ControlError::FunctionNotFound(match &self.0 {
            FunctionKey::Id(id) => id.to_string(),
            FunctionKey::Name(_, name) | FunctionKey::NewestNamed(name) => name.to_string(),
        })
    }
}

impl From<FunctionId> for FunctionRef {
    fn from(id: FunctionId) -> Self {
        Self(FunctionKey::Id(id))
    }
}

/// Code as it is handed in; 1 to [`CODE_LIMIT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// The source of one file.
    Source(String),
    /// A ZIP archive.
    Zip(Bytes),
}

/// An archive without any entry: the record that ends every archive (APPNOTE 4.3.16), and nothing before it.
const EMPTY_ARCHIVE: &[u8; 22] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

impl Code {
    /// The code of a function that is a command line and nothing else.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::Zip(Bytes::from_static(EMPTY_ARCHIVE))
    }

    pub(crate) fn into_bytes(self) -> (CodeLayout, Bytes) {
        match self {
            Self::Source(text) => (CodeLayout::SingleFile, text.into()),
            Self::Zip(bytes) => (CodeLayout::Zip, bytes),
        }
    }
}

/// Limits that somebody asked for. `None` keeps what is there, or the default of a new function; zero means the
/// default in every field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Memory of one sandbox, in MiB.
    pub memory_mib: Option<u32>,
    /// Time for one invocation, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Processor share, in thousandths of a core.
    pub milli_vcpu: Option<u32>,
    /// Slots of one sandbox.
    pub concurrency: Option<u32>,
    /// Invocations of the function at once; the default is no bound of its own.
    pub max_concurrency: Option<u32>,
    /// How long an unused sandbox is kept, in seconds.
    pub idle_timeout_secs: Option<u64>,
    /// Sandboxes that are always kept.
    pub min_warm: Option<u32>,
}

fn or_default<T: PartialEq + Default>(asked: Option<T>, now: T, default: T) -> T {
    match asked {
        None => now,
        Some(value) if value == T::default() => default,
        Some(value) => value,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LimitSettings {
    fn apply(&self, now: &Limits) -> Result<Limits, LimitError> {
        let default = Limits::default();
        let max_concurrency = match self.max_concurrency {
            None => now.max_concurrency().map(std::num::NonZeroU32::get),
            Some(max) => Some(max).filter(|max| *max > 0),
        };
        Limits::default()
            .with_memory_mib(or_default(self.memory_mib, now.memory_mib(), default.memory_mib()))?
            .with_timeout_ms(or_default(self.timeout_ms, millis(now.timeout()), millis(default.timeout())))?
            .with_milli_vcpu(or_default(self.milli_vcpu, now.milli_vcpu(), default.milli_vcpu()))?
            .with_concurrency(or_default(self.concurrency, now.concurrency(), default.concurrency()))?
            .with_max_concurrency(max_concurrency)?
            .with_idle_timeout_secs(or_default(
                self.idle_timeout_secs,
                now.idle_timeout().as_secs(),
                default.idle_timeout().as_secs(),
            ))?
            .with_min_warm(or_default(self.min_warm, now.min_warm(), default.min_warm()))
    }
}

/// Settings that somebody asked for. `None` keeps what is there, or the default of a new function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How the code is shaped.
    pub contract: Option<Contract>,
    /// What is run, for the contracts `command` and `http`.
    pub command: Option<CommandLine>,
    /// The owner's labels, all of them.
    pub metadata: Option<Metadata>,
    /// What the owner says about it; at most [`DESCRIPTION_LIMIT`] characters.
    pub description: Option<String>,
    /// The whole environment.
    pub environment: Option<Environment>,
    /// What it may use.
    pub limits: LimitSettings,
    /// Which isolation it asks for.
    pub driver: Option<DriverChoice>,
    /// Which network it has.
    pub network: Option<NetworkPolicy>,
}

impl Settings {
    pub(crate) fn apply(&self, now: RevisionConfig) -> Result<RevisionConfig, ControlError> {
        let description = self.description.clone().unwrap_or(now.description);
        let length = description.chars().count();
        if length > DESCRIPTION_LIMIT {
            return Err(ControlError::Description(length));
        }
        Ok(RevisionConfig {
            contract: self.contract.unwrap_or(now.contract),
            command: self.command.clone().unwrap_or(now.command),
            metadata: self.metadata.clone().unwrap_or(now.metadata),
            description,
            environment: self.environment.clone().unwrap_or(now.environment),
            limits: self.limits.apply(&now.limits)?,
            driver: self.driver.unwrap_or(now.driver),
            network: self.network.clone().unwrap_or(now.network),
            runtime: now.runtime,
            handler: now.handler,
        })
    }
}

/// A function to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFunction {
    /// What its name is unique within.
    pub scope: Scope,
    /// Its name.
    pub name: FunctionName,
    /// Its language, by version name or alias.
    pub runtime: RuntimeName,
    /// Which function of the code is called.
    pub handler: Handler,
    /// Its code.
    pub code: Code,
    /// Everything else.
    pub settings: Settings,
    /// Who is told what a build writes.
    pub build_log: BuildLog,
}

impl NewFunction {
    pub(crate) fn config(&self, default_network: &NetworkPolicy) -> Result<RevisionConfig, ControlError> {
        self.settings.apply(RevisionConfig {
            runtime: self.runtime.clone(),
            contract: Contract::default(),
            command: CommandLine::default(),
            metadata: Metadata::default(),
            handler: self.handler.clone(),
            description: String::new(),
            environment: Environment::default(),
            limits: Limits::default(),
            driver: DriverChoice::default(),
            network: default_network.clone(),
        })
    }
}

/// A change of a function; `None` keeps what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionChange {
    /// The name that the caller believes the function has.
    pub name: Option<FunctionName>,
    /// The newest revision that the caller knows; [`ControlError::Contended`] if there is a newer one.
    pub expected: Option<RevisionId>,
    /// Another name within the same scope. Id, versions, records and aliases stay.
    pub rename: Option<FunctionName>,
    /// Another language.
    pub runtime: Option<RuntimeName>,
    /// Another function of the code.
    pub handler: Option<Handler>,
    /// Other code.
    pub code: Option<Code>,
    /// Everything else.
    pub settings: Settings,
    /// Who is told what a build writes.
    pub build_log: BuildLog,
}

impl FunctionChange {
    pub(crate) fn config(&self, now: &RevisionConfig) -> Result<RevisionConfig, ControlError> {
        let now = self.settings.apply(now.clone())?;
        Ok(RevisionConfig {
            runtime: self.runtime.clone().unwrap_or(now.runtime),
            handler: self.handler.clone().unwrap_or(now.handler),
            ..now
        })
    }
}

/// An alias as somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAlias {
    /// Its name.
    pub name: AliasName,
    /// The versions it points at.
    pub targets: Vec<AliasTarget>,
    /// What the owner says about it; at most [`DESCRIPTION_LIMIT`] characters.
    pub description: String,
}

/// Which functions to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionListQuery {
    /// Only functions created before this one, which an earlier page named.
    pub before: Option<FunctionId>,
    /// At most so many, 1 to [`FUNCTION_PAGE_LIMIT`]; `None` lists all.
    pub limit: Option<u32>,
}

/// Functions, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionList {
    /// The functions of this page.
    pub functions: Vec<FunctionSnapshot>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<FunctionId>,
    /// How many functions there are in all.
    pub total: u64,
}

/// The code of one version, as it was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFile {
    /// The version it belongs to.
    pub version: VersionNumber,
    /// Whether the bytes are a source file or an archive.
    pub layout: CodeLayout,
    /// A name for a file that holds the bytes.
    pub file_name: String,
    /// Their digest.
    pub digest: ArtifactDigest,
    /// The bytes.
    pub bytes: Bytes,
}
