//! Function URLs: any request to `/fn/{name}` and below becomes an event of the function, and its result the response.
//!
//! The event has the shape of AWS Lambda's payload format 2.0
//! (<https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads>); the response is rendered as that
//! of `?raw=true`, or sent while the function makes it if it streams. A function with the contract `http` gets the
//! request itself, and its body while it arrives.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use hyper::body::Body as _;
use impuls_dispatch::{Duplex, FunctionRef, Input, InvokeOptions, Invoked};
use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::{Contract, InvocationId, Logs, Qualifier};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::app::App;
use crate::extract::Authenticated;
use crate::problem::Problem;
use crate::streamed::{self, Incoming};
use crate::upload;

/// What the paths begin with.
pub(crate) const PREFIX: &str = "/fn/";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<&'a str>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    http: Line<'a>,
    request_id: String,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: i128,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'static str,
    user_agent: &'a str,
}

/// Where a path leads: the function, which revision of it, and the path that the function sees.
fn target(path: &str) -> Result<(&str, Qualifier, &str), Problem> {
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    let (function, inner) = match rest.find('/') {
        Some(at) => rest.split_at_checked(at).unwrap_or((rest, "/")),
        None => (rest, "/"),
    };
    let (name, qualifier) = match function.split_once(':').or_else(|| function.split_once("%3A")) {
        Some((name, text)) => {
            let qualifier = text.replace("%24", "$").parse();
            (name, qualifier.map_err(|error| Problem::invalid("qualifier", error))?)
        }
        None => (function, Qualifier::Latest),
    };
    Ok((name, qualifier, inner))
}

/// Any method at `/fn/{name}`, `/fn/{name}/…` and `/fn/{name}:{qualifier}/…`.
pub(crate) async fn call(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (name, qualifier, path) = target(parts.uri.path())?;
    let callee = app.dispatch.callee(&caller, FunctionRef::Text(name), qualifier).await?;
    let reads = callee.contract() == Contract::Http && !body.is_end_stream();
    let (input, bytes) = if reads {
        (Some(Box::new(Incoming::new(body)) as Box<dyn Input>), Bytes::new())
    } else {
        let request = Request::from_parts(head_of(&parts), body);
        (None, upload::read(request, PAYLOAD_LIMIT, &app.uploads).await?.bytes)
    };
    let id = InvocationId::new();
    let event = event(&parts, (name, path), id, &bytes);
    drop(bytes);
    let options = InvokeOptions { id: Some(id), ..InvokeOptions::default() };
    let (duplex, output) = Duplex::new(input);
    let dispatch = app.dispatch.clone();
    let call = async move { dispatch.call(callee, event, options, Some(duplex)).await.map(for_strangers) };
    streamed::respond(&parts.method, id, call, output).await
}

/// Whoever knows a URL may call it, so what a failed function says of its own code and what it has logged is for its
/// owner alone, who finds both in the function's log.
fn for_strangers(mut invoked: Invoked) -> Invoked {
    invoked.outcome.logs = Logs::default();
    if let Err(failure) = &mut invoked.outcome.result {
        failure.stack = None;
    }
    invoked
}

/// What reading a body looks at.
fn head_of(parts: &Parts) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.headers.clone_from(&parts.headers);
    head
}

fn event(parts: &Parts, (name, path): (&str, &str), id: InvocationId, body: &Bytes) -> Bytes {
    let query = parts.uri.query().unwrap_or_default();
    let text =
        |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now = OffsetDateTime::now_utc();
    // Apache's common log format, as the original has it.
    let format = format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    let (body, is_base64_encoded) = match std::str::from_utf8(body) {
        Ok("") => (None, false),
        Ok(text) => (Some(text.to_owned()), false),
        Err(_) => (Some(STANDARD.encode(body)), true),
    };
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: path,
        raw_query_string: query,
        cookies: cookies(&parts.headers),
        headers: headers(&parts.headers),
        query_string_parameters: parameters(query),
        request_context: Context {
            account_id: "anonymous",
            api_id: name,
            domain_name: text(&header::HOST),
            http: Line {
                method: parts.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip: "127.0.0.1",
                user_agent: text(&header::USER_AGENT),
            },
            request_id: id.to_string(),
            route_key: "$default",
            stage: "$default",
            time: now.format(format).unwrap_or_default(),
            time_epoch: now.unix_timestamp_nanos() / 1_000_000,
        },
        body,
        is_base64_encoded,
    };
    // A structure of texts.
    Bytes::from(serde_json::to_vec(&event).unwrap_or_default())
}

fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';').map(str::trim).filter(|cookie| !cookie.is_empty())).collect()
}

/// Headers with their names in lower case; values of one name are joined by commas. Cookies are elsewhere.
fn headers(all: &HeaderMap) -> BTreeMap<&str, String> {
    let joined = |name: &HeaderName| {
        let values: Vec<_> =
            all.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.join(",")
    };
    all.keys().filter(|name| **name != header::COOKIE).map(|name| (name.as_str(), joined(name))).collect()
}

/// Query parameters, decoded; values of one name are joined by commas.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        parameters
            .entry(decoded(name))
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    parameters
}

/// Text of a query: `+` is a space, `%XX` a byte. What is no such sequence stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hexadecimal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, tail.split_at_checked(2)) {
            (b'%', Some((digits, after))) if digits.iter().all(u8::is_ascii_hexdigit) => {
                bytes.extend(hexadecimal(digits));
                rest = after;
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: (&str, &str, &str)) {
        let (name, qualifier, inner) = target(path).unwrap();
        assert_eq!((name, qualifier.to_string().as_str(), inner), expected, "{path}");
    }

    #[test]
    fn paths_name_function_and_qualifier() {
        check("/fn/hello", ("hello", "$LATEST", "/"));
        check("/fn/hello/", ("hello", "$LATEST", "/"));
        check("/fn/hello/a/b%20c", ("hello", "$LATEST", "/a/b%20c"));
        check("/fn/hello:3/a:b", ("hello", "3", "/a:b"));
        check("/fn/hello:live", ("hello", "live", "/"));
    }

    #[test]
    fn query_parameters_are_decoded_and_joined() {
        let parameters = parameters("a=1&a=2&b=x%20y+z&c&d=%zz%4");
        let pairs: Vec<(&str, &str)> = parameters.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("a", "1,2"), ("b", "x y z"), ("c", ""), ("d", "%zz%4")]);
    }

    #[test]
    fn a_request_becomes_an_event() {
        let request = Request::put("/fn/f/p?x=1")
            .header("Host", "h")
            .header("X-A", "1")
            .header("X-A", "2")
            .header("Cookie", "a=1; b=2")
            .body(())
            .unwrap();
        let parts = request.into_parts().0;
        let id = InvocationId::new();
        let event = event(&parts, ("f", "/p"), id, &Bytes::from_static(b"\xff"));
        let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
        assert_eq!((&event["version"], &event["rawPath"]), (&"2.0".into(), &"/p".into()));
        assert_eq!(event["cookies"], serde_json::json!(["a=1", "b=2"]));
        assert_eq!(event["headers"], serde_json::json!({"host": "h", "x-a": "1,2"}));
        assert_eq!(event["requestContext"]["http"]["method"], "PUT");
        assert_eq!(event["requestContext"]["requestId"], id.to_string());
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&"/w==".into(), &true.into()));
    }
}
