//! Functions and aliases.

use impuls_domain::{
    Alias, AliasTarget, Function, FunctionId, FunctionState, LoadFailure, RevisionId, Scope, VersionNumber,
};
use impuls_store::{FunctionSnapshot, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::revision::revision;
use super::{Fields, Key, damaged, instant, micros, saturate};

const ACTIVE: &str = "active";
const ERROR: &str = "error";
const ERROR_BUT_SERVING: &str = "error-serving";

/// A row of `functions`.
#[derive(Debug)]
pub(crate) struct FunctionRow {
    pub(crate) id: Key,
    pub(crate) scope: String,
    pub(crate) name: String,
    pub(crate) latest: Key,
    pub(crate) latest_version: i64,
    pub(crate) state: &'static str,
    pub(crate) failure: Option<LoadFailure>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl FunctionRow {
    pub(crate) fn from_domain(function: &Function) -> Self {
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
            created_at: micros(function.created_at),
            updated_at: micros(function.updated_at),
        }
    }
}

/// A row of `aliases` with its `alias_targets`: version and weight, in order.
#[derive(Debug)]
pub(crate) struct AliasRow {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) updated_at: i64,
    pub(crate) targets: Vec<(i64, i64)>,
}

impl AliasRow {
    pub(crate) fn from_domain(alias: &Alias) -> Self {
        let targets = alias.targets().iter();
        Self {
            name: alias.name().as_str().to_owned(),
            description: alias.description.clone(),
            updated_at: micros(alias.updated_at),
            targets: targets.map(|to| (saturate(to.version.get()), i64::from(to.weight))).collect(),
        }
    }
}

/// A function with its newest revision and its aliases, from a row of `read::SNAPSHOT`.
pub(crate) fn snapshot(row: &SqliteRow) -> Result<FunctionSnapshot, StoreError> {
    let fields = Fields(row);
    let function = Function {
        id: FunctionId::from_uuid(fields.uuid("f_id")?),
        scope: Scope::new(fields.text("f_scope")?),
        name: fields.parse("f_name")?,
        latest: RevisionId::from_uuid(fields.uuid("f_latest")?),
        latest_version: version(&fields, "f_latest_version")?,
        state: state(&fields)?,
        created_at: fields.instant("f_created_at")?,
        updated_at: fields.instant("f_updated_at")?,
    };
    if fields.plain::<Option<&[u8]>>("r_id")?.is_none() {
        return Err(damaged("f_latest", format_args!("function {} has no such revision", function.id)));
    }
    Ok(FunctionSnapshot { function, latest: revision(row)?, aliases: aliases(row)? })
}

pub(super) fn version(fields: &Fields<'_>, column: &str) -> Result<VersionNumber, StoreError> {
    VersionNumber::new(fields.number(column)?).ok_or_else(|| damaged(column, "versions count from 1"))
}

fn state(fields: &Fields<'_>) -> Result<FunctionState, StoreError> {
    match fields.plain("f_state")? {
        ACTIVE => Ok(FunctionState::Active),
        state @ (ERROR | ERROR_BUT_SERVING) => {
            let failure = LoadFailure {
                class: fields.text("f_failure_class")?,
                message: fields.text("f_failure_message")?,
                file: fields.plain("f_failure_file")?,
                line: fields.optional_number("f_failure_line")?,
            };
            Ok(FunctionState::Error { failure, serving: state == ERROR_BUT_SERVING })
        }
        other => Err(damaged("f_state", format_args!("{other:?} is not known"))),
    }
}

/// Name, description, time of change, and version and weight of each target.
type AliasJson = (String, String, i64, Vec<(u64, u32)>);

fn aliases(row: &SqliteRow) -> Result<Vec<Alias>, StoreError> {
    let text: &str = row.try_get("aliases").map_err(|error| damaged("aliases", error))?;
    let all: Vec<AliasJson> = serde_json::from_str(text).map_err(|error| damaged("aliases", error))?;
    all.into_iter().map(alias).collect()
}

fn alias((name, description, updated_at, targets): AliasJson) -> Result<Alias, StoreError> {
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
