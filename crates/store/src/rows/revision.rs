//! Revisions and the versions that stand for them.

use std::collections::BTreeMap;

use impuls_domain::{
    ArtifactDigest, Built, CodeLayout, CommandLine, Contract, DriverChoice, Environment, FunctionId, Limits,
    LoadFailure, Metadata, Revision, RevisionConfig, RevisionId,
};
use serde::{Deserialize, Serialize};

use super::function::version;
use super::{Columns, Fields, Key, damaged, micros, saturate};
use crate::error::StoreError;
use crate::function::VersionEntry;

/// A row of `revisions`.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct RevisionRow {
    pub id: Key,
    pub function: Key,
    pub artifact: [u8; 32],
    pub layout: &'static str,
    pub code_size: i64,
    pub runtime: String,
    pub contract: &'static str,
    pub handler: String,
    pub command: String,
    pub description: String,
    pub metadata: String,
    pub environment: String,
    pub limits: Limits,
    pub driver: &'static str,
    pub network: String,
    pub built: Option<[u8; 32]>,
    pub build_failure: Option<String>,
    pub created_at: i64,
}

/// Why a build failed, as stored.
#[derive(Serialize, Deserialize)]
struct FailureJson {
    class: String,
    message: String,
    file: Option<String>,
    line: Option<u32>,
}

impl RevisionRow {
    /// The row of a revision.
    pub fn from_domain(revision: &Revision) -> Result<Self, StoreError> {
        let config = &revision.config;
        let encoding = |error| StoreError::Backend { action: "encoding a revision", source: Box::new(error) };
        let environment = serde_json::to_string(config.environment.variables()).map_err(encoding)?;
        let command = serde_json::to_string(config.command.words()).map_err(encoding)?;
        let metadata = serde_json::to_string(config.metadata.labels()).map_err(encoding)?;
        let (built, build_failure) = match &revision.built {
            Built::AsIs => (None, None),
            Built::Archive(digest) => (Some(*digest.as_bytes()), None),
            Built::Failed(LoadFailure { class, message, file, line }) => {
                let (class, message) = (class.clone(), message.clone());
                let failure = FailureJson { class, message, file: file.clone(), line: *line };
                (None, Some(serde_json::to_string(&failure).map_err(encoding)?))
            }
        };
        Ok(Self {
            built,
            build_failure,
            id: *revision.id.as_uuid().as_bytes(),
            function: *revision.function.as_uuid().as_bytes(),
            artifact: *revision.artifact.as_bytes(),
            layout: revision.layout.as_str(),
            code_size: saturate(revision.code_size),
            runtime: config.runtime.as_str().to_owned(),
            contract: config.contract.as_str(),
            handler: config.handler.as_str().to_owned(),
            command,
            description: config.description.clone(),
            metadata,
            environment,
            limits: config.limits.clone(),
            driver: config.driver.as_str(),
            network: config.network.to_text(),
            created_at: micros(revision.created_at),
        })
    }
}

/// A revision, from a row that has the columns of `revision_columns!`.
pub(super) fn revision(row: &dyn Columns) -> Result<Revision, StoreError> {
    let fields = Fields(row);
    Ok(Revision {
        id: RevisionId::from_uuid(fields.uuid("r_id")?),
        function: FunctionId::from_uuid(fields.uuid("r_function")?),
        artifact: digest(fields.bytes("r_artifact")?, "r_artifact")?,
        layout: fields.one_of("r_layout", CodeLayout::parse)?,
        code_size: fields.number("r_code_size")?,
        built: built(&fields)?,
        config: RevisionConfig {
            runtime: fields.parse("r_runtime")?,
            contract: fields.one_of("r_contract", Contract::parse)?,
            handler: fields.parse("r_handler")?,
            command: command(&fields)?,
            description: fields.string("r_description")?,
            metadata: metadata(&fields)?,
            environment: environment(&fields)?,
            limits: limits(&fields)?,
            driver: fields.one_of("r_driver", DriverChoice::parse)?,
            network: fields.parse("r_network")?,
        },
        created_at: fields.instant("r_created_at")?,
    })
}

/// A version with its revision, from a row with the columns of `revision_columns!`, `v_number` and `v_published_at`.
pub fn version_entry(row: &dyn Columns) -> Result<VersionEntry, StoreError> {
    let fields = Fields(row);
    Ok(VersionEntry {
        number: version(&fields, "v_number")?,
        revision: revision(row)?,
        published_at: fields.instant("v_published_at")?,
    })
}

/// A digest from its bytes.
pub fn digest(bytes: &[u8], column: &str) -> Result<ArtifactDigest, StoreError> {
    bytes.try_into().map(ArtifactDigest::from_bytes).map_err(|error| damaged(column, error))
}

fn built(fields: &Fields<'_>) -> Result<Built, StoreError> {
    if let Some(bytes) = fields.optional_bytes("r_built")? {
        return digest(bytes, "r_built").map(Built::Archive);
    }
    let column = "r_build_failure";
    let Some(failure) = fields.optional_text(column)? else { return Ok(Built::AsIs) };
    let FailureJson { class, message, file, line } =
        serde_json::from_str(&failure).map_err(|error| damaged(column, error))?;
    Ok(Built::Failed(LoadFailure { class, message, file, line }))
}

fn environment(fields: &Fields<'_>) -> Result<Environment, StoreError> {
    let column = "r_environment";
    let variables: BTreeMap<String, String> =
        // Without the cause: it may quote a value, and values are secrets.
        serde_json::from_str(&fields.text(column)?).map_err(|_| damaged(column, "it is no JSON object of strings"))?;
    Environment::new(variables).map_err(|error| damaged(column, error))
}

fn metadata(fields: &Fields<'_>) -> Result<Metadata, StoreError> {
    let column = "r_metadata";
    let labels = serde_json::from_str(&fields.text(column)?).map_err(|error| damaged(column, error))?;
    Metadata::new(labels).map_err(|error| damaged(column, error))
}

fn command(fields: &Fields<'_>) -> Result<CommandLine, StoreError> {
    let column = "r_command";
    let words = serde_json::from_str(&fields.text(column)?).map_err(|error| damaged(column, error))?;
    CommandLine::new(words).map_err(|error| damaged(column, error))
}

fn limits(fields: &Fields<'_>) -> Result<Limits, StoreError> {
    let beyond = |error| damaged("limits", error);
    let limits = Limits::default();
    let limits = limits.with_memory_mib(fields.number("r_memory_mib")?).map_err(beyond)?;
    let limits = limits.with_timeout_ms(fields.number("r_timeout_ms")?).map_err(beyond)?;
    let limits = limits.with_milli_vcpu(fields.number("r_milli_vcpu")?).map_err(beyond)?;
    let limits = limits.with_concurrency(fields.number("r_concurrency")?).map_err(beyond)?;
    let limits = limits.with_max_concurrency(fields.optional_number("r_max_concurrency")?).map_err(beyond)?;
    let limits = limits.with_idle_timeout_secs(fields.number("r_idle_timeout_sec")?).map_err(beyond)?;
    limits.with_min_warm(fields.number("r_min_warm")?).map_err(beyond)
}
