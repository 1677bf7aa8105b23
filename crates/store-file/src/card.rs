//! What a metadata file says, in the words of the HTTP API, which are those of the first Impuls: a function of a list
//! that was saved is one.

use std::collections::BTreeMap;

use impuls_domain::NetworkPolicy;
use impuls_store::FunctionSnapshot;
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The members of a metadata file.
pub(crate) type Members = Map<String, Value>;

/// The member that has the source text of a function that is one file.
pub(crate) const CODE: &str = "code";
/// What it means that a member is not there.
#[derive(Clone, Copy)]
enum Absent {
    /// Nothing: it is needed, or what it was stays.
    Kept,
    Words,
    Text,
    Map,
    /// Zero, which stands for the default.
    Default,
}

/// Members that a change of is a change of the function, and what their absence means.
const EDITABLE: [(&str, Absent); 16] = [
    ("runtime", Absent::Kept),
    ("handler", Absent::Kept),
    ("contract", Absent::Kept),
    ("driver", Absent::Kept),
    ("network", Absent::Kept),
    ("command", Absent::Words),
    ("description", Absent::Text),
    ("environment", Absent::Map),
    ("metadata", Absent::Map),
    ("memory_mb", Absent::Default),
    ("timeout_sec", Absent::Default),
    ("vcpu", Absent::Default),
    ("concurrency", Absent::Default),
    ("max_concurrency", Absent::Default),
    ("idle_timeout_sec", Absent::Default),
    ("min_warm", Absent::Default),
];

impl Absent {
    fn value(self) -> Option<Value> {
        match self {
            Self::Kept => None,
            Self::Words => Some(json!([])),
            Self::Text => Some(json!("")),
            Self::Map => Some(json!({})),
            Self::Default => Some(json!(0)),
        }
    }
}

/// Members that tell something and change nothing; those of the first Impuls and of the HTTP API's lists among them.
const TOLD: [&str; 13] = [
    "id",
    "scope",
    "status",
    "error",
    "version",
    "revision_id",
    "package",
    "code_sha256",
    "code_size",
    "code_path",
    "created_at",
    "updated_at",
    "timeout_ms",
];

#[derive(Serialize)]
struct Card<'a> {
    id: String,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    runtime: &'a str,
    handler: &'a str,
    contract: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    memory_mb: u32,
    timeout_sec: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    vcpu: f64,
    concurrency: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrency: Option<u32>,
    idle_timeout_sec: u64,
    min_warm: u32,
    driver: &'static str,
    network: Value,
    version: u64,
    created_at: String,
    updated_at: String,
}

/// The metadata file of a function, with its source text if it is one file.
pub(crate) fn render(snapshot: &FunctionSnapshot, code: Option<&str>) -> Result<String, serde_json::Error> {
    let (function, config) = (&snapshot.function, &snapshot.latest.config);
    let limits = &config.limits;
    let card = Card {
        id: function.id.to_string(),
        name: function.name.as_str(),
        scope: function.scope.as_str(),
        description: &config.description,
        runtime: config.runtime.as_str(),
        handler: config.handler.as_str(),
        contract: config.contract.as_str(),
        command: config.command.words(),
        code,
        memory_mb: limits.memory_mib(),
        timeout_sec: u64::try_from(limits.timeout().as_millis().div_ceil(1_000)).unwrap_or(u64::MAX),
        environment: config.environment.variables(),
        metadata: config.metadata.labels(),
        vcpu: f64::from(limits.milli_vcpu()) / 1_000.0,
        concurrency: limits.concurrency(),
        max_concurrency: limits.max_concurrency().map(std::num::NonZeroU32::get),
        idle_timeout_sec: limits.idle_timeout().as_secs(),
        min_warm: limits.min_warm(),
        driver: config.driver.as_str(),
        network: network(&config.network),
        version: function.latest_version.get(),
        created_at: timestamp(function.created_at),
        updated_at: timestamp(function.updated_at),
    };
    Ok(serde_json::to_string_pretty(&card)? + "\n")
}

fn network(policy: &NetworkPolicy) -> Value {
    match policy {
        NetworkPolicy::Off | NetworkPolicy::Egress => policy.to_text().into(),
        NetworkPolicy::Allow(list) => json!({ "allow": list.to_texts() }),
    }
}

fn timestamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// The members of a metadata file that belongs to a function of this name.
pub(crate) fn read(text: &[u8], name: &str) -> Result<Members, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(members) = value else { return Err("it is no JSON object".to_owned()) };
    match members.get("name") {
        None => {}
        Some(Value::String(said)) if said == name => {}
        Some(other) => {
            return Err(format!(
                "it says that its name is {other}, and its file belongs to {name:?}; give both the same name"
            ));
        }
    }
    let known = |member: &str| {
        member == "name"
            || member == CODE
            || TOLD.contains(&member)
            || EDITABLE.iter().any(|(editable, _)| *editable == member)
    };
    match members.keys().find(|member| !known(member)) {
        Some(unknown) => {
            Err(format!("it has the member {unknown:?}, which is not known; correct or remove it"))
        }
        None => Ok(members),
    }
}

/// What somebody has changed, the code apart.
pub(crate) fn changes(before: &Members, after: &Members) -> Members {
    let mut changed = Members::new();
    for (name, absent) in EDITABLE {
        let (was, is) = (before.get(name), after.get(name).filter(|value| !value.is_null()));
        let value = match is {
            Some(value) if was != Some(value) => Some(value.clone()),
            None if was.is_some() => absent.value(),
            _ => None,
        };
        changed.extend(value.map(|value| (name.to_owned(), value)));
    }
    changed
}

/// What of a new function's metadata file the HTTP API takes, the code apart.
pub(crate) fn request(members: &Members) -> Members {
    let taken = |name: &str| EDITABLE.iter().any(|(editable, _)| *editable == name);
    members
        .iter()
        .filter(|(name, _)| taken(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Members {
        let Value::Object(members) = value else { panic!("{value}") };
        members
    }

    #[test]
    fn what_somebody_edits_is_a_change_and_what_is_told_is_none() {
        let before =
            members(json!({"memory_mb": 128, "environment": {"A": "1"}, "version": 3, "driver": "auto"}));
        let check = |after: Value, expected: Value| {
            assert_eq!(Value::Object(changes(&before, &members(after))), expected);
        };
        check(json!({"memory_mb": 128, "environment": {"A": "1"}, "version": 9}), json!({}));
        check(json!({"memory_mb": 256, "environment": {"A": "1"}}), json!({"memory_mb": 256}));
        check(json!({"memory_mb": 128, "environment": null}), json!({"environment": {}}));
        check(json!({"environment": {"A": "1"}}), json!({"memory_mb": 0}));
    }

    #[test]
    fn files_that_are_no_functions_are_refused_with_what_to_do() {
        let check = |text: &str, expected: &str| {
            let refused = read(text.as_bytes(), "hello").unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        };
        check("{", "not JSON");
        check("[]", "no JSON object");
        check(r#"{"name": "../x"}"#, "give both the same name");
        check(r#"{"memory_md": 1}"#, "\"memory_md\", which is not known");
        assert!(read(br#"{"name": "hello", "id": "x", "code_path": "y"}"#, "hello").is_ok());
    }
}
