//! Retry policies and destinations as JSON.

use std::time::Duration;

use impuls_domain::{AsyncSettings, Destination, Destinations, FunctionId, RetryChange, RetryPolicy};
use serde::{Deserialize, Serialize};

use super::{Columns, Fields, damaged, saturate};
use crate::error::StoreError;

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
#[expect(missing_docs, reason = "fields are the columns of their names")]
#[derive(Debug)]
pub struct SettingsRow {
    pub policy: String,
    pub destinations: Option<String>,
}

impl SettingsRow {
    /// The row of what is stored.
    #[must_use]
    pub fn from_domain(policy: &RetryPolicy, destinations: &Destinations) -> Self {
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
pub fn settings(row: &dyn Columns) -> Result<AsyncSettings, StoreError> {
    let fields = Fields(row);
    let destinations = fields.optional_text("destinations")?;
    Ok(AsyncSettings {
        policy: policy(&fields.text("policy")?)?,
        destinations: destinations.map_or_else(|| Ok(Destinations::default()), |text| places(&text))?,
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
