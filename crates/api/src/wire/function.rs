//! Functions and their versions, as replies have them.

use std::collections::BTreeMap;

use impuls_control::{FunctionSnapshot, VersionEntry};
use impuls_domain::{CodeLayout, FunctionState, LoadFailure, Revision};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::network::NetworkObject;
use super::timestamp;

/// Code and settings of one deploy.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Revision)]
pub struct RevisionObject {
    /// The id of the deploy.
    pub revision_id: Uuid,
    /// What the owner wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The language by its version name.
    #[schema(example = "nodejs20")]
    pub runtime: String,
    /// What is called.
    #[schema(example = "index.handler")]
    pub handler: String,
    /// How the code is shaped: `module`, `scoped`, `program`, `command`, `bootstrap` or `http`.
    pub contract: String,
    /// What is run, for the contracts `command` and `http`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The owner's labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// `source` for the text of one file, `zip` for an archive.
    pub package: String,
    /// SHA-256 of the code's bytes, in hexadecimal.
    pub code_sha256: String,
    /// Size of the code, in bytes.
    pub code_size: u64,
    /// Memory of one sandbox, in MiB.
    pub memory_mb: u32,
    /// Time for one invocation, in seconds, rounded up.
    pub timeout_sec: u64,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Processor share of one sandbox, in cores.
    pub vcpu: f64,
    /// Invocations that one sandbox runs at once.
    pub concurrency: u32,
    /// Invocations of the function at once; absent when only the server's own bound holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// How long an unused sandbox is kept, in seconds.
    pub idle_timeout_sec: u64,
    /// Sandboxes that are kept however long they are unused.
    pub min_warm: u32,
    /// The isolation it asks for: `auto` or `process`.
    pub driver: String,
    /// What the sandbox may reach.
    pub network: NetworkObject,
}

impl From<&Revision> for RevisionObject {
    fn from(revision: &Revision) -> Self {
        let (config, limits) = (&revision.config, &revision.config.limits);
        Self {
            revision_id: revision.id.as_uuid(),
            description: Some(config.description.clone()).filter(|text| !text.is_empty()),
            runtime: config.runtime.to_string(),
            handler: config.handler.to_string(),
            contract: config.contract.as_str().to_owned(),
            command: config.command.words().to_vec(),
            metadata: config.metadata.labels().clone(),
            package: package(&revision.layout).to_owned(),
            code_sha256: revision.artifact.to_string(),
            code_size: revision.code_size,
            memory_mb: limits.memory_mib(),
            timeout_sec: limits.timeout().as_millis().div_ceil(1_000) as u64,
            environment: config.environment.variables().clone(),
            vcpu: f64::from(limits.milli_vcpu()) / 1_000.0,
            concurrency: limits.concurrency(),
            max_concurrency: limits.max_concurrency().map(std::num::NonZeroU32::get),
            idle_timeout_sec: limits.idle_timeout().as_secs(),
            min_warm: limits.min_warm(),
            driver: config.driver.as_str().to_owned(),
            network: NetworkObject::from(&config.network),
        }
    }
}

const fn package(layout: &CodeLayout) -> &'static str {
    match layout {
        CodeLayout::SingleFile => "source",
        CodeLayout::Zip => "zip",
    }
}

/// Why code cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LoadError)]
pub struct LoadErrorObject {
    /// The language's own name of the error.
    #[serde(rename = "type")]
    #[schema(example = "SyntaxError")]
    pub class: String,
    /// One sentence for a person.
    pub message: String,
    /// The file within the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line within the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl From<&LoadFailure> for LoadErrorObject {
    fn from(failure: &LoadFailure) -> Self {
        let LoadFailure { class, message, file, line } = failure.clone();
        Self { class, message, file, line }
    }
}

/// A function.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Function)]
pub struct FunctionObject {
    /// Its key, for life.
    pub id: Uuid,
    /// Its name.
    #[schema(example = "hello-world")]
    pub name: String,
    /// What the name is unique within; absent for functions of this API. Other APIs have scopes of their own, and a
    /// name here means the function of this API before any other.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(example = "gofaas/1.0.0")]
    pub scope: String,
    /// `active`, or `error` when the newest code cannot be loaded.
    pub status: String,
    /// Why the newest code cannot be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<LoadErrorObject>,
    /// The newest version.
    pub version: u64,
    /// The newest version's settings.
    #[serde(flatten)]
    pub revision: RevisionObject,
    /// The source text, when the code is one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it was created (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last deployed (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Every member that a function may have, for `fields`.
pub const MEMBERS: [&str; 29] = [
    "id",
    "name",
    "scope",
    "status",
    "error",
    "version",
    "revision_id",
    "description",
    "runtime",
    "handler",
    "contract",
    "command",
    "metadata",
    "package",
    "code",
    "code_sha256",
    "code_size",
    "memory_mb",
    "timeout_sec",
    "environment",
    "vcpu",
    "concurrency",
    "max_concurrency",
    "idle_timeout_sec",
    "min_warm",
    "driver",
    "network",
    "created_at",
    "updated_at",
];

impl FunctionObject {
    /// The function as it is, with its source text if that was read.
    #[must_use]
    pub fn new(snapshot: &FunctionSnapshot, code: Option<String>) -> Self {
        let function = &snapshot.function;
        let (status, error) = match &function.state {
            FunctionState::Active => ("active", None),
            FunctionState::Error { failure, .. } => ("error", Some(failure.into())),
        };
        Self {
            id: function.id.as_uuid(),
            name: function.name.to_string(),
            scope: function.scope.as_str().to_owned(),
            status: status.to_owned(),
            error,
            version: function.latest_version.get(),
            revision: (&snapshot.latest).into(),
            code,
            created_at: timestamp(function.created_at),
            updated_at: timestamp(function.updated_at),
        }
    }
}

/// Functions, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionList {
    /// The functions of this page; with `fields`, only those members of each.
    #[schema(value_type = Vec<FunctionObject>)]
    pub functions: Vec<serde_json::Value>,
    /// How many functions there are in all.
    pub count: u64,
    /// Where the next page starts; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The answer to a deletion.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Deleted {
    /// One sentence for a person.
    pub message: &'static str,
    /// What was deleted.
    pub name: String,
}

/// A published version of a function.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionObject {
    /// The function's id.
    pub id: Uuid,
    /// Its number, from 1.
    pub version: u64,
    /// Its settings.
    #[serde(flatten)]
    pub revision: RevisionObject,
    /// When it was published (RFC 3339).
    #[schema(format = DateTime)]
    pub published_at: String,
}

impl From<&VersionEntry> for VersionObject {
    fn from(entry: &VersionEntry) -> Self {
        Self {
            id: entry.revision.function.as_uuid(),
            version: entry.number.get(),
            revision: (&entry.revision).into(),
            published_at: timestamp(entry.published_at),
        }
    }
}

/// Versions, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VersionList {
    /// The versions of this page.
    pub versions: Vec<VersionObject>,
    /// How many this page has.
    pub count: usize,
    /// Where the next page starts; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
