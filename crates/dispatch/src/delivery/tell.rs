//! Telling the end of an invocation to its destination: the invocation that does so, to be stored together with the end.

use std::collections::BTreeMap;

use impuls_domain::async_invocation::CHAIN_LIMIT;
use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::{
    AsyncInvocation, AsyncSettings, AsyncStatus, Completion, Destination, Destinations, Failure,
    InvocationId, Qualifier, RetryChange, Tally,
};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Room for what stands around the event and the result.
const ENVELOPE: usize = 128 * 1024;

/// Where this end is told, if anywhere.
pub(super) fn destination<'i>(
    invocation: &'i AsyncInvocation,
    completion: &Completion,
) -> Option<&'i Destination> {
    let Destinations { on_success, on_failure } = &invocation.destinations;
    let destination = match completion.status {
        AsyncStatus::Succeeded => on_success.as_ref(),
        AsyncStatus::Failed | AsyncStatus::Timeout | AsyncStatus::Dead => on_failure.as_ref(),
        AsyncStatus::Cancelled | AsyncStatus::Queued | AsyncStatus::Running => None,
    }?;
    if invocation.chain >= CHAIN_LIMIT {
        tracing::warn!(id = %invocation.id, limit = CHAIN_LIMIT, "an end is not told: too many follow from one another");
        return None;
    }
    Some(destination)
}

/// The invocation that tells it. `settings` are those of the function that is told.
pub(super) fn teller(
    invocation: &AsyncInvocation,
    completion: &Completion,
    destination: &Destination,
    (settings, function_name): (AsyncSettings, String),
) -> AsyncInvocation {
    let now = completion.completed_at;
    // An end that cannot be told is kept, whatever the policy says of the invocation itself.
    let kept = invocation.policy.with(RetryChange { dead_letter: Some(true), ..RetryChange::default() });
    let (function, qualifier, hook, policy, destinations) = match destination {
        Destination::Function(function, qualifier) => {
            (*function, qualifier.clone(), None, settings.policy, settings.destinations)
        }
        Destination::Hook(url) => {
            let policy = kept.unwrap_or(invocation.policy);
            (invocation.function, Qualifier::Latest, Some(url.clone()), policy, Destinations::default())
        }
    };
    AsyncInvocation {
        id: InvocationId::new(),
        function,
        qualifier,
        hook,
        event: envelope(invocation, completion, &function_name),
        context: Vec::new(),
        timeout: None,
        policy,
        destinations,
        key: None,
        origin: Some(invocation.id),
        chain: invocation.chain + 1,
        status: AsyncStatus::Queued,
        attempt: 0,
        tally: Tally::default(),
        not_before: now,
        created_at: now,
        ready_at: now,
        started_at: None,
        last_failure: None,
        completion: None,
    }
}

/// What a destination gets. Its members are part of the API.
#[derive(Serialize)]
struct Envelope<'a> {
    invocation_id: String,
    function: &'a str,
    qualifier: String,
    status: &'static str,
    attempts: u32,
    created_at: String,
    completed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<BTreeMap<&'static str, &'a str>>,
    /// What was left out because all of it together would be too large an event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted: Vec<&'static str>,
}

fn envelope(invocation: &AsyncInvocation, completion: &Completion, function: &str) -> Vec<u8> {
    let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let mut envelope = Envelope {
        invocation_id: invocation.id.to_string(),
        function,
        qualifier: invocation.qualifier.to_string(),
        status: completion.status.as_str(),
        attempts: invocation.attempt,
        created_at: text(invocation.created_at),
        completed_at: text(completion.completed_at),
        event: Some(raw(&invocation.event)),
        result: completion.result.as_ref().ok().map(|bytes| raw(bytes)),
        error: completion.result.as_ref().err().map(members),
        omitted: Vec::new(),
    };
    let length = |value: &Option<Box<RawValue>>| value.as_ref().map_or(0, |text| text.get().len());
    if length(&envelope.event) + length(&envelope.result) > PAYLOAD_LIMIT - ENVELOPE {
        envelope.event = None;
        envelope.omitted.push("event");
    }
    if length(&envelope.result) > PAYLOAD_LIMIT - ENVELOPE {
        envelope.result = None;
        envelope.omitted.push("result");
    }
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Bytes within JSON: as they are if they are JSON, else as a text; none are `null`.
fn raw(bytes: &[u8]) -> Box<RawValue> {
    let bytes = if bytes.is_empty() { b"null".as_slice() } else { bytes };
    let as_text = |_| serde_json::value::to_raw_value(&String::from_utf8_lossy(bytes)).ok();
    serde_json::from_slice(bytes)
        .or_else(|error: serde_json::Error| as_text(error).ok_or(()))
        .unwrap_or_default()
}

/// The most bytes of an error's text that are told.
const TEXT: usize = 16 * 1024;

fn members(failure: &Failure) -> BTreeMap<&'static str, &str> {
    let mut members = BTreeMap::from([("type", failure.error_type.as_str())]);
    let texts = [
        ("class", Some(&failure.class)),
        ("message", Some(&failure.message)),
        ("stack", failure.stack.as_ref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            members.insert(name, text.get(..text.floor_char_boundary(TEXT)).unwrap_or_default());
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use impuls_domain::{ErrorType, Logs, Outcome, RetryPolicy, Usage};
    use serde_json::Value;

    use super::*;

    fn told(event: &[u8], result: Result<Vec<u8>, Failure>) -> Value {
        let at = OffsetDateTime::UNIX_EPOCH;
        let mut invocation = super::super::verdict::tests::invocation(RetryPolicy::DEFAULT, Tally::default());
        invocation.event = event.to_vec();
        let outcome = Outcome { result, logs: Logs::default(), usage: Usage::default() };
        let completion = Completion::of(outcome, &RetryPolicy::DEFAULT, at);
        let envelope = envelope(&invocation, &completion, "f");
        assert!(envelope.len() <= PAYLOAD_LIMIT);
        serde_json::from_slice(&envelope).unwrap()
    }

    #[test]
    fn an_end_is_told_with_what_it_was_about() {
        let success = told(b"{\"a\": 1}", Ok(b"[2]".to_vec()));
        assert_eq!((&success["event"]["a"], &success["result"][0]), (&Value::from(1), &Value::from(2)));
        assert_eq!((&success["status"], &success["error"]), (&Value::from("succeeded"), &Value::Null));
        let long = "é".repeat(TEXT);
        let failure =
            Failure { error_type: ErrorType::Timeout, class: String::new(), message: long, stack: None };
        let failure = told(b"", Err(failure));
        assert_eq!((&failure["event"], &failure["error"]["type"]), (&Value::Null, &Value::from("Timeout")));
        assert_eq!(failure["error"]["message"].as_str().map(str::len), Some(TEXT));
    }

    #[test]
    fn what_is_no_json_is_a_text_and_what_is_too_large_is_named() {
        assert_eq!(told(b"not json", Ok(b"1".to_vec()))["event"], "not json");
        let large = format!("\"{}\"", "x".repeat(PAYLOAD_LIMIT - ENVELOPE - 2)).into_bytes();
        let both = told(&large, Ok(large.clone()));
        assert_eq!((&both["omitted"], &both["event"]), (&serde_json::json!(["event"]), &Value::Null));
        assert!(both["result"].is_string());
        let huge = format!("\"{}\"", "x".repeat(PAYLOAD_LIMIT - 2)).into_bytes();
        assert_eq!(told(&huge, Ok(huge.clone()))["omitted"], serde_json::json!(["event", "result"]));
    }
}
