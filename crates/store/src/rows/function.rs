//! Functions and aliases.

use std::borrow::Cow;

use impuls_domain::{
    Alias, AliasTarget, DeployStep, Function, FunctionId, FunctionState, LoadFailure, RevisionId, Scope,
    StateLog, VersionNumber,
};

use super::revision::revision;
use super::{Columns, Fields, Key, damaged, instant, micros, saturate};
use crate::error::StoreError;
use crate::function::{FunctionSnapshot, ListedFunctions};

const ACTIVE: &str = "active";
const ERROR: &str = "error";
const ERROR_BUT_SERVING: &str = "error-serving";

/// A row of `functions`.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct FunctionRow {
    pub id: Key,
    pub scope: String,
    pub name: String,
    pub latest: Key,
    pub latest_version: i64,
    pub state: &'static str,
    pub failure: Option<LoadFailure>,
    /// Steps and instants as JSON.
    pub state_log: String,
    pub created_at: i64,
    pub updated_at: i64,
}

impl FunctionRow {
    /// The row of a function.
    #[must_use]
    pub fn from_domain(function: &Function) -> Self {
        let (state, failure) = match &function.state {
            FunctionState::Active => (ACTIVE, None),
            FunctionState::Error { failure, serving } => {
                (if *serving { ERROR_BUT_SERVING } else { ERROR }, Some(failure.clone()))
            }
        };
        Self {
            id: *function.id.as_uuid().as_bytes(),
            scope: function.scope.as_str().to_owned(),
            name: function.name.as_str().to_owned(),
            latest: *function.latest.as_uuid().as_bytes(),
            latest_version: saturate(function.latest_version.get()),
            state,
            failure,
            state_log: encode_log(&function.state_log),
            created_at: micros(function.created_at),
            updated_at: micros(function.updated_at),
        }
    }
}

/// A row of `aliases` with its `alias_targets`: version and weight, in order.
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct AliasRow {
    pub name: String,
    pub description: String,
    pub updated_at: i64,
    pub targets: Vec<(i64, i64)>,
}

impl AliasRow {
    /// The rows of an alias.
    #[must_use]
    pub fn from_domain(alias: &Alias) -> Self {
        let targets = alias.targets().iter();
        Self {
            name: alias.name().as_str().to_owned(),
            description: alias.description.clone(),
            updated_at: micros(alias.updated_at),
            targets: targets.map(|to| (saturate(to.version.get()), i64::from(to.weight))).collect(),
        }
    }
}

/// A function with its newest revision and its aliases, from a row with the columns of `function_columns!`,
/// `revision_columns!` and the aliases as JSON: `[[name, description, updated_at, [[version, weight], …]], …]`.
pub fn snapshot(row: &dyn Columns) -> Result<FunctionSnapshot, StoreError> {
    let fields = Fields(row);
    let function = Function {
        id: FunctionId::from_uuid(fields.uuid("f_id")?),
        scope: Scope::new(fields.string("f_scope")?),
        name: fields.parse("f_name")?,
        latest: RevisionId::from_uuid(fields.uuid("f_latest")?),
        latest_version: version(&fields, "f_latest_version")?,
        state: state(&fields)?,
        state_log: state_log(&fields)?,
        created_at: fields.instant("f_created_at")?,
        updated_at: fields.instant("f_updated_at")?,
    };
    if fields.optional_bytes("r_id")?.is_none() {
        return Err(damaged("f_latest", format_args!("function {} has no such revision", function.id)));
    }
    Ok(FunctionSnapshot { function, latest: revision(row)?, aliases: aliases(row)? })
}

/// A page of functions from such rows. An error where not even an id can be read.
pub fn listed(rows: impl IntoIterator<Item = impl Columns>) -> Result<ListedFunctions, StoreError> {
    let mut page = ListedFunctions::default();
    for row in rows {
        let id = FunctionId::from_uuid(Fields(&row).uuid("f_id")?);
        page.last = Some(id);
        match snapshot(&row) {
            Ok(function) => page.functions.push(function),
            Err(error) => page.unreadable.push((id, error)),
        }
    }
    Ok(page)
}

pub(super) fn version(fields: &Fields<'_>, column: &str) -> Result<VersionNumber, StoreError> {
    VersionNumber::new(fields.number(column)?).ok_or_else(|| damaged(column, "versions count from 1"))
}

fn state(fields: &Fields<'_>) -> Result<FunctionState, StoreError> {
    match fields.text("f_state")?.as_ref() {
        ACTIVE => Ok(FunctionState::Active),
        state @ (ERROR | ERROR_BUT_SERVING) => {
            let failure = LoadFailure {
                class: fields.string("f_failure_class")?,
                message: fields.string("f_failure_message")?,
                file: fields.optional_string("f_failure_file")?,
                line: fields.optional_number("f_failure_line")?,
            };
            Ok(FunctionState::Error { failure, serving: state == ERROR_BUT_SERVING })
        }
        other => Err(damaged("f_state", format_args!("{other:?} is not known"))),
    }
}

fn encode_log(log: &StateLog) -> String {
    let steps: Vec<(&str, i64)> = log.steps().iter().map(|(step, at)| (step.as_str(), micros(*at))).collect();
    // Words and numbers.
    serde_json::to_string(&steps).unwrap_or_else(|_| "[]".to_owned())
}

fn state_log(fields: &Fields<'_>) -> Result<StateLog, StoreError> {
    let wrong = |error: &dyn std::fmt::Display| damaged("f_state_log", error);
    let steps: Vec<(String, i64)> =
        serde_json::from_str(&fields.text("f_state_log")?).map_err(|error| wrong(&error))?;
    let mut log = StateLog::default();
    for (step, at) in steps {
        let known = DeployStep::parse(&step).ok_or_else(|| wrong(&format_args!("{step:?} is not known")))?;
        log.push(known, instant(at).map_err(|error| wrong(&error))?);
    }
    Ok(log)
}

/// Name, description, time of change, and version and weight of each target.
type AliasJson = (String, String, i64, Vec<(u64, u32)>);

fn aliases(row: &dyn Columns) -> Result<Vec<Alias>, StoreError> {
    // Made by the database out of columns, so what is restored are the texts in it.
    let text = row.text("aliases")?.unwrap_or(Cow::Borrowed("[]"));
    let all: Vec<AliasJson> = serde_json::from_str(&text).map_err(|error| damaged("aliases", error))?;
    all.into_iter().map(|stored| alias(row, stored)).collect()
}

fn alias(
    row: &dyn Columns,
    (name, description, updated_at, targets): AliasJson,
) -> Result<Alias, StoreError> {
    let description = row.restore(Cow::Owned(description)).into_owned();
    let target = |(version, weight)| {
        let version =
            VersionNumber::new(version).ok_or_else(|| damaged("version", "versions count from 1"))?;
        Ok(AliasTarget { version, weight })
    };
    let targets = targets.into_iter().map(target).collect::<Result<_, StoreError>>()?;
    let name = name.parse().map_err(|error| damaged("name", error))?;
    let updated_at = instant(updated_at).map_err(|error| damaged("updated_at", error))?;
    Alias::new(name, targets, description, updated_at).map_err(|error| damaged("alias_targets", error))
}
