//! Retry policies and destinations as JSON.

use std::time::Duration;

use impuls_domain::{AsyncSettings, Destination, Destinations, FunctionId, RetryChange, RetryPolicy};
use impuls_store::StoreError;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use super::{Fields, damaged, saturate};

#[derive(Serialize, Deserialize)]
struct Policy {
    max_retries: u32,
    first_wait_ms: u64,
    max_wait_ms: u64,
    max_age_ms: u64,
    dead_letter: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Function(FunctionId, String),
    Hook(String),
}

#[derive(Serialize, Deserialize)]
struct Places {
    on_success: Option<Place>,
    on_failure: Option<Place>,
}

/// A policy and destinations as columns.
#[derive(Debug)]
pub(crate) struct SettingsRow {
    pub(crate) policy: String,
    pub(crate) destinations: Option<String>,
}

impl SettingsRow {
    pub(crate) fn from_domain(policy: &RetryPolicy, destinations: &Destinations) -> Self {
        let ms = |span: Duration| saturate(span.as_millis()).unsigned_abs();
        let policy = Policy {
            max_retries: policy.max_retries(),
            first_wait_ms: ms(policy.first_wait()),
            max_wait_ms: ms(policy.max_wait()),
            max_age_ms: ms(policy.max_age()),
            dead_letter: policy.dead_letter(),
        };
        let place = |destination: &Option<Destination>| {
            destination.as_ref().map(|destination| match destination {
                Destination::Function(id, qualifier) => Place::Function(*id, qualifier.to_string()),
                Destination::Hook(url) => Place::Hook(url.to_string()),
            })
        };
        let Destinations { on_success, on_failure } = destinations;
        let places = Places { on_success: place(on_success), on_failure: place(on_failure) };
        let has_any = places.on_success.is_some() || places.on_failure.is_some();
        Self {
            policy: serde_json::to_string(&policy).unwrap_or_default(),
            destinations: has_any.then(|| serde_json::to_string(&places).unwrap_or_default()),
        }
    }
}

/// The policy and the destinations in a row.
pub(crate) fn settings(row: &SqliteRow) -> Result<AsyncSettings, StoreError> {
    let fields = Fields(row);
    let destinations: Option<&str> = fields.plain("destinations")?;
    Ok(AsyncSettings {
        policy: policy(fields.plain("policy")?)?,
        destinations: destinations.map_or_else(|| Ok(Destinations::default()), places)?,
    })
}

fn policy(text: &str) -> Result<RetryPolicy, StoreError> {
    let stored: Policy = serde_json::from_str(text).map_err(|error| damaged("policy", error))?;
    let change = RetryChange {
        max_retries: Some(stored.max_retries),
        first_wait: Some(Duration::from_millis(stored.first_wait_ms)),
        max_wait: Some(Duration::from_millis(stored.max_wait_ms)),
        max_age: Some(Duration::from_millis(stored.max_age_ms)),
        dead_letter: Some(stored.dead_letter),
    };
    RetryPolicy::DEFAULT.with(change).map_err(|error| damaged("policy", error))
}

fn places(text: &str) -> Result<Destinations, StoreError> {
    let stored: Places = serde_json::from_str(text).map_err(|error| damaged("destinations", error))?;
    let place = |place: Option<Place>| -> Result<_, StoreError> {
        Ok(match place {
            None => None,
            Some(Place::Function(id, qualifier)) => Some(Destination::Function(
                id,
                qualifier.parse().map_err(|error| damaged("destinations", error))?,
            )),
            Some(Place::Hook(url)) => {
                Some(Destination::Hook(url.parse().map_err(|error| damaged("destinations", error))?))
            }
        })
    };
    Ok(Destinations { on_success: place(stored.on_success)?, on_failure: place(stored.on_failure)? })
}
