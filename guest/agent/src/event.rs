//! HTTP events: an event in the shape of Lambda's payload format 2.0 as a request, and a response as a result.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header, response};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpEvent {
    #[serde(default)]
    raw_path: Option<String>,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    request_context: RequestContext,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
struct RequestContext {
    http: Line,
}

#[derive(Deserialize)]
struct Line {
    method: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpResult {
    status_code: u16,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    body: String,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplyHead {
    status_code: u16,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
}

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) request: Request<()>,
    pub(crate) body: Bytes,
    /// How long the client said that the body is.
    pub(crate) length: Option<u64>,
}

/// The request that an event describes; any other event is posted to `/` as it is.
pub(crate) fn request(event: &Bytes) -> Result<Described, String> {
    let Ok(http) = serde_json::from_slice::<HttpEvent>(event) else {
        let post = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        let request = post.header(header::HOST, "localhost").body(()).map_err(|e| e.to_string())?;
        return Ok(Described { request, body: event.clone(), length: None });
    };
    let path = http.raw_path.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".to_owned());
    let uri =
        if http.raw_query_string.is_empty() { path } else { format!("{path}?{}", http.raw_query_string) };
    let method =
        Method::from_bytes(http.request_context.http.method.as_bytes()).map_err(|e| e.to_string())?;
    let body = match http.body {
        Some(text) if http.is_base64_encoded => STANDARD.decode(text).map_err(|e| e.to_string())?.into(),
        Some(text) => Bytes::from(text),
        None => Bytes::new(),
    };
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in &http.headers {
        if !is_of_the_connection(name) {
            request = request.header(name, value);
        }
    }
    if !http.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, "localhost");
    }
    if !http.cookies.is_empty() {
        request = request.header(header::COOKIE, http.cookies.join("; "));
    }
    let length = http.headers.get(header::CONTENT_LENGTH.as_str()).and_then(|value| value.parse().ok());
    Ok(Described { request: request.body(()).map_err(|e| e.to_string())?, body, length })
}

/// The head of a streamed reply. The length stays: whoever sends the body on must know it beforehand.
pub(crate) fn head(head: &response::Parts) -> Vec<u8> {
    let mut all = headers(&head.headers);
    if let Some(length) = texts(&head.headers, &header::CONTENT_LENGTH).into_iter().next() {
        all.insert(header::CONTENT_LENGTH.to_string(), length);
    }
    let cookies = texts(&head.headers, &header::SET_COOKIE);
    let head = ReplyHead { status_code: head.status.as_u16(), headers: all, cookies };
    // A structure of texts.
    serde_json::to_vec(&head).unwrap_or_default()
}

/// The result that a response becomes. A body that is no text is sent as base64.
pub(crate) fn result(head: &response::Parts, body: Bytes) -> Vec<u8> {
    let (text, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(bytes) => (STANDARD.encode(bytes.into_bytes()), true),
    };
    let result = HttpResult {
        status_code: head.status.as_u16(),
        headers: headers(&head.headers),
        cookies: texts(&head.headers, &header::SET_COOKIE),
        body: text,
        is_base64_encoded,
    };
    // A structure of texts.
    serde_json::to_vec(&result).unwrap_or_default()
}

fn headers(all: &HeaderMap) -> BTreeMap<String, String> {
    let names =
        all.keys().filter(|name| !is_of_the_connection(name.as_str()) && **name != header::SET_COOKIE);
    names.map(|name| (name.to_string(), texts(all, name).join(","))).collect()
}

fn texts(headers: &HeaderMap, name: &header::HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Headers that speak of one connection and not of the message (RFC 9110, 7.6.1), and those that the next
/// connection computes itself.
fn is_of_the_connection(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_event_becomes_its_request() {
        let event = br#"{"rawPath":"/a/b","rawQueryString":"x=1","headers":{"x-a":"1","connection":"close","content-length":"9"},
            "cookies":["a=1","b=2"],"requestContext":{"http":{"method":"PUT"}},"body":"aGk=","isBase64Encoded":true}"#;
        let Described { request, body, length } = request(&Bytes::from_static(event)).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::PUT, "/a/b?x=1"));
        assert_eq!((body.as_ref(), length), (&b"hi"[..], Some(9)));
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert!(!request.headers().contains_key("connection"));
    }

    #[test]
    fn any_other_event_is_posted() {
        let request = request(&Bytes::from_static(b"[1]")).unwrap().request;
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/"));
    }

    #[test]
    fn a_streamed_head_keeps_its_length_and_its_cookies() {
        let response = http::Response::builder()
            .status(201)
            .header("Content-Length", "12")
            .header("Transfer-Encoding", "chunked")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2");
        let head = head(&response.body(()).unwrap().into_parts().0);
        let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
        let expected = serde_json::json!({
            "statusCode": 201, "headers": {"content-length": "12"}, "cookies": ["a=1", "b=2"]
        });
        assert_eq!(head, expected);
    }
}
