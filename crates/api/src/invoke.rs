//! `POST /api/v1/functions/{name}/invoke`: from an event's bytes to the bytes of the reply.
//!
//! This is the hot path. The event and the result are never parsed here, unless `raw=true` asks for the result to
//! become the HTTP response itself.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use impuls_dispatch::Invoked;
use impuls_domain::{ErrorType, Failure, InvocationId, Logs, Qualifier};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::problem::Problem;
use crate::wire::invocation::log_text;

/// The name of the header that carries the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-impuls-request-id");
/// The name of the header that says how long the handler took, in milliseconds with three decimals.
pub const DURATION: HeaderName = HeaderName::from_static("x-impuls-duration");

/// What the query of a call may say. Unknown parameters are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct InvokeQuery {
    pub(crate) qualifier: Qualifier,
    pub(crate) raw: bool,
}

impl InvokeQuery {
    /// Reads `qualifier` and `raw`; `local` is accepted and means nothing: the sandbox is always the configured
    /// one.
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            match name {
                "qualifier" => {
                    let text = value.replace("%24", "$");
                    let qualifier = text.parse();
                    parsed.qualifier =
                        qualifier.map_err(|error| Problem::invalid("qualifier", describe(&error)))?;
                }
                "raw" => parsed.raw = boolean("raw", value)?,
                "local" => {
                    boolean("local", value)?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn boolean(name: &'static str, value: &str) -> Result<bool, Problem> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        other => Err(Problem::invalid(name, format!("{other:?} is neither true nor false"))),
    }
}

/// A reply, ready to be sent.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The status of a failed invocation: 504 after a timeout, else 500.
const fn failure_status(failure: &Failure) -> StatusCode {
    match failure.error_type {
        ErrorType::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorType::FunctionError
        | ErrorType::InitError
        | ErrorType::OutOfMemory
        | ErrorType::Exited
        | ErrorType::BadResponse
        | ErrorType::PlatformError
        | ErrorType::Cancelled
        | ErrorType::HookError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The seed's envelope: `{status_code, body, duration_ms, logs?, error?, error_type?, request_id, version}`.
pub(crate) fn envelope(invoked: &Invoked) -> Reply {
    let outcome = &invoked.outcome;
    let (status, null) = match &outcome.result {
        Ok(_) => (StatusCode::OK, Bytes::new()),
        Err(failure) => (failure_status(failure), Bytes::from_static(b"null")),
    };
    let result = outcome.result.as_ref().unwrap_or(&null);
    let mut body = BytesMut::with_capacity(result.len() + 160);
    body.put_slice(b"{\"status_code\":");
    body.put_slice(status.as_str().as_bytes());
    body.put_slice(b",\"body\":");
    body.put_slice(result);
    let milliseconds = rounded_ms(outcome.usage.duration);
    let _ = write!(
        body,
        ",\"duration_ms\":{milliseconds},\"request_id\":\"{}\",\"version\":{}",
        invoked.id, invoked.version
    );
    put_logs(&mut body, &outcome.logs);
    if let Err(failure) = &outcome.result {
        put_member(&mut body, "error", &failure.message);
        put_member(&mut body, "error_type", failure.error_type.as_str());
        if !failure.class.is_empty() {
            put_member(&mut body, "error_class", &failure.class);
        }
        if let Some(stack) = &failure.stack {
            put_member(&mut body, "stack", stack);
        }
    }
    body.put_u8(b'}');
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Reply { status, headers: own_headers(headers, invoked), body: body.freeze() }
}

/// Whole milliseconds, because clients of the seed read an integer; the header has the exact figure.
fn rounded_ms(duration: Duration) -> u128 {
    (duration.as_micros() + 500) / 1000
}

fn put_logs(body: &mut BytesMut, logs: &Logs) {
    if !logs.is_empty() {
        put_member(body, "logs", &log_text(logs));
    }
}

fn put_member(body: &mut BytesMut, name: &str, text: &str) {
    let _ = write!(body, ",\"{name}\":");
    // Writing text as JSON into memory cannot fail.
    let _ = serde_json::to_writer(body.writer(), text);
}

fn put_request_id(headers: &mut HeaderMap, id: InvocationId) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = id.as_uuid().as_hyphenated().encode_lower(&mut text);
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

fn own_headers(mut headers: HeaderMap, invoked: &Invoked) -> HeaderMap {
    put_request_id(&mut headers, invoked.id);
    let micros = u64::try_from(invoked.outcome.usage.duration.as_micros()).unwrap_or(u64::MAX);
    let mut text = BytesMut::with_capacity(24);
    // Writing into memory cannot fail.
    let _ = write!(text, "{}.{:03}", micros / 1000, micros % 1000);
    if let Ok(value) = HeaderValue::from_maybe_shared(text.freeze()) {
        headers.insert(DURATION, value);
    }
    headers
}

/// The reply of `raw=true`: what the function returned is the response. An object with a numeric `statusCode` gives
/// status, `headers`, `cookies` and `body` (`isBase64Encoded` honoured); anything else is the whole body. A failed
/// invocation, and a result that cannot be a response, is answered with the envelope.
pub(crate) fn raw(mut invoked: Invoked) -> Reply {
    let Ok(result) = &invoked.outcome.result else { return envelope(&invoked) };
    match shaped(result) {
        Ok(Some(mut reply)) => {
            reply.headers = own_headers(reply.headers, &invoked);
            reply
        }
        Ok(None) => {
            let mut headers = HeaderMap::with_capacity(4);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Reply { status: StatusCode::OK, headers: own_headers(headers, &invoked), body: result.clone() }
        }
        Err(message) => {
            invoked.outcome.result = Err(bad_response(message));
            envelope(&invoked)
        }
    }
}

/// The failure of a function whose result cannot be a response.
pub(crate) fn bad_response(message: String) -> Failure {
    Failure { error_type: ErrorType::BadResponse, class: String::new(), message, stack: None }
}

/// The head of a streamed reply.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// How long the body will be, if the function has said so.
    pub(crate) length: Option<u64>,
}

/// The most bytes of a streamed reply's head.
const HEAD_LIMIT: usize = 64 * 1024;

impl Head {
    /// Reads a function's description: a JSON object with `statusCode`, `headers` and `cookies` as in a result.
    pub(crate) fn parse(text: &[u8], id: InvocationId) -> Result<Self, String> {
        if text.len() > HEAD_LIMIT {
            return Err(format!("the head of the response has more than {HEAD_LIMIT} bytes"));
        }
        if text.first() != Some(&b'{') {
            return Err("the head of the response is no JSON object".to_owned());
        }
        let shape: Shape<'_> = serde_json::from_slice(text)
            .map_err(|error| format!("the head of the response cannot be read: {error}"))?;
        let status = shape.status.map_or(Ok(StatusCode::OK), status_of)?;
        let mut headers = headers_of(&shape)?;
        put_request_id(&mut headers, id);
        let mut given = shape.headers.iter().flatten();
        let length = given.find(|(name, _)| name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str()));
        let length = length.and_then(|(_, value)| match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_u64(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        });
        Ok(Self { status, headers, length })
    }

    /// The reply of a call that has ended, with this body.
    pub(crate) fn with(self, body: Bytes, invoked: &Invoked) -> Reply {
        Reply { status: self.status, headers: own_headers(self.headers, invoked), body }
    }
}

#[derive(serde::Deserialize)]
struct Shape<'a> {
    #[serde(rename = "statusCode", default, borrow)]
    status: Option<&'a RawValue>,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
    #[serde(rename = "multiValueHeaders", default)]
    multi_value_headers: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
    #[serde(rename = "isBase64Encoded", default)]
    is_base64_encoded: bool,
}

/// The response that a result describes; `None` if it describes none.
fn shaped(result: &Bytes) -> Result<Option<Reply>, String> {
    if result.first() != Some(&b'{') {
        return Ok(None);
    }
    let has_status: Status<'_> = serde_json::from_slice(result).unwrap_or_default();
    if has_status.status.is_none() {
        return Ok(None);
    }
    let shape: Shape<'_> = serde_json::from_slice(result)
        .map_err(|error| format!("the result with statusCode is no response: {error}"))?;
    let code = shape.status.map_or_else(|| Err("there is no statusCode".to_owned()), status_of)?;
    let (body, is_text) = body_of(&shape)?;
    let mut headers = headers_of(&shape)?;
    if !headers.contains_key(header::CONTENT_TYPE) {
        let kind = if is_text { "text/plain; charset=utf-8" } else { "application/json" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok(Some(Reply { status: code, headers, body }))
}

#[derive(Default, serde::Deserialize)]
struct Status<'a> {
    #[serde(rename = "statusCode", default, borrow)]
    status: Option<&'a RawValue>,
}

fn status_of(status: &RawValue) -> Result<StatusCode, String> {
    let status = status.get();
    let code = status.trim_matches('"').parse::<u16>().ok().filter(|code| (200..=599).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    code.ok_or_else(|| format!("statusCode {status} is not a whole number from 200 to 599"))
}

/// The bytes of the body, and whether they were given as text.
fn body_of(shape: &Shape<'_>) -> Result<(Bytes, bool), String> {
    let Some(body) = shape.body else { return Ok((Bytes::new(), true)) };
    let Ok(text) = serde_json::from_str::<String>(body.get()) else {
        let json = if body.get() == "null" { "" } else { body.get() };
        return Ok((Bytes::copy_from_slice(json.as_bytes()), json.is_empty()));
    };
    if !shape.is_base64_encoded {
        return Ok((Bytes::from(text), true));
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.map(|bytes| (Bytes::from(bytes), true)).map_err(|error| format!("body is not base64: {error}"))
}

fn headers_of(shape: &Shape<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let single = shape.headers.iter().flatten().map(|(name, value)| (name, std::slice::from_ref(value)));
    let multiple = shape
        .multi_value_headers
        .iter()
        .flatten()
        .filter_map(|(name, value)| Some((name, value.as_array()?.as_slice())));
    for (name, values) in single.chain(multiple) {
        let parsed =
            HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is not a header name"))?;
        if is_hop_by_hop(&parsed) {
            continue;
        }
        for value in values {
            headers.append(parsed.clone(), header_value(name, value)?);
        }
    }
    for cookie in shape.cookies.iter().flatten() {
        let value = HeaderValue::from_str(cookie).map_err(|_| format!("{cookie:?} is not a cookie"))?;
        headers.append(header::SET_COOKIE, value);
    }
    Ok(headers)
}

fn header_value(name: &str, value: &Value) -> Result<HeaderValue, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(format!("the value of header {name:?} is not text"));
        }
    };
    HeaderValue::from_str(&text)
        .map_err(|_| format!("the value of header {name:?} has characters that no header may have"))
}

/// Headers that belong to one connection and not to a response (RFC 9110 §7.6.1), and the length, which is ours.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    let own = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    own.contains(name) || name == "keep-alive"
}

#[cfg(test)]
mod tests;
