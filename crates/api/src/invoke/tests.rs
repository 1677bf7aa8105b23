use impuls_domain::{InvocationId, LogLevel, Outcome, Usage, VersionNumber};

use super::*;

fn invoked(result: Result<&str, ErrorType>) -> Invoked {
    let failure = |error_type| Failure {
        error_type,
        class: "TypeError".to_owned(),
        message: "no \"quotes\"".to_owned(),
        stack: None,
    };
    let usage = Usage { duration: Duration::from_micros(1_600), ..Usage::default() };
    let result = result.map(|text| Bytes::copy_from_slice(text.as_bytes())).map_err(failure);
    let outcome = Outcome { result, logs: Logs::default(), usage };
    Invoked { id: InvocationId::new(), version: VersionNumber::FIRST, outcome }
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn the_envelope_holds_the_result_untouched() {
    let reply = envelope(&invoked(Ok(r#"{"statusCode":404,"body":"x"}"#)));
    let value = json(&reply);
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(value["status_code"], 200);
    assert_eq!(value["body"]["statusCode"], 404);
    assert_eq!(value["duration_ms"], 2);
    assert!(value.get("logs").is_none() && value.get("error").is_none());
    assert_eq!(reply.headers[DURATION], "1.600");
}

#[test]
fn a_failure_keeps_the_envelope_and_names_its_type() {
    for (error_type, status) in [(ErrorType::Timeout, 504), (ErrorType::FunctionError, 500)] {
        let reply = envelope(&invoked(Err(error_type)));
        let value = json(&reply);
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(value["status_code"], status);
        assert_eq!(value["body"], Value::Null);
        assert_eq!(value["error"], "no \"quotes\"");
        assert_eq!(value["error_type"], error_type.as_str());
    }
}

#[test]
fn logs_are_one_text() {
    let mut call = invoked(Ok("null"));
    call.outcome.logs.push(LogLevel::Stdout, "a \"b\"\nc");
    assert_eq!(json(&envelope(&call))["logs"], "a \"b\"\nc");
}

#[test]
fn a_result_with_a_status_is_the_response() {
    let result = r#"{"statusCode":201,"headers":{"Content-Type":"text/html","X-N":7},"cookies":["a=1","b=2"],"body":"<p>"}"#;
    let reply = raw(invoked(Ok(result)));
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "text/html");
    assert_eq!(reply.headers["x-n"], "7");
    assert_eq!(reply.headers.get_all(header::SET_COOKIE).iter().count(), 2);
    assert_eq!(reply.body, "<p>");
}

#[test]
fn a_result_without_status_is_the_whole_body() {
    for result in [r#"{"a":1}"#, "[1]", "\"text\"", "null"] {
        let reply = raw(invoked(Ok(result)));
        assert_eq!((reply.status, reply.body.as_ref()), (StatusCode::OK, result.as_bytes()));
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    }
}

#[test]
fn a_base64_body_is_decoded() {
    let reply = raw(invoked(Ok(r#"{"statusCode":200,"body":"AAEC","isBase64Encoded":true}"#)));
    assert_eq!(reply.body.as_ref(), [0, 1, 2]);
}

#[test]
fn a_result_that_cannot_be_a_response_is_a_bad_response() {
    for result in [
        r#"{"statusCode":"abc"}"#,
        r#"{"statusCode":99}"#,
        r#"{"statusCode":200,"headers":{"a b":"c"}}"#,
        r#"{"statusCode":200,"headers":{"a":"b\r\nc: d"}}"#,
        r#"{"statusCode":200,"body":"%","isBase64Encoded":true}"#,
    ] {
        let reply = raw(invoked(Ok(result)));
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{result}");
        assert_eq!(json(&reply)["error_type"], "BadResponse", "{result}");
    }
}

#[test]
fn a_function_cannot_break_the_framing_of_the_connection() {
    let result = r#"{"statusCode":200,"headers":{"Transfer-Encoding":"chunked","Content-Length":"9","Connection":"close"},"body":"x"}"#;
    let reply = raw(invoked(Ok(result)));
    assert!(!reply.headers.contains_key(header::TRANSFER_ENCODING));
    assert!(!reply.headers.contains_key(header::CONTENT_LENGTH));
    assert!(!reply.headers.contains_key(header::CONNECTION));
}

#[test]
fn the_query_names_qualifier_and_raw() {
    let query = InvokeQuery::parse("local=true&raw=1&qualifier=live&x=y").unwrap();
    assert!(query.raw);
    assert_eq!(query.qualifier, "live".parse().unwrap());
    assert_eq!(InvokeQuery::parse("qualifier=%24LATEST").unwrap().qualifier, Qualifier::Latest);
    assert!(InvokeQuery::parse("raw=perhaps").is_err());
    assert!(InvokeQuery::parse("qualifier=a%20b").is_err());
}

#[test]
fn the_head_of_a_streamed_reply_is_read() {
    let id = InvocationId::new();
    let text = br#"{"statusCode":206,"headers":{"Content-Length":"7","X-A":"1","Connection":"x"},"cookies":["a=1","b=2"]}"#;
    let head = Head::parse(text, id).unwrap();
    assert_eq!((head.status.as_u16(), head.length), (206, Some(7)));
    assert_eq!(head.headers["x-a"], "1");
    assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(head.headers[REQUEST_ID], id.to_string());
    assert!(!head.headers.contains_key("connection") && !head.headers.contains_key("content-length"));
    assert_eq!(Head::parse(b"{}", id).unwrap().status, StatusCode::OK);
    let long = format!(r#"{{"headers":{{"a":"{}"}}}}"#, "x".repeat(HEAD_LIMIT));
    for text in ["", "[]", r#"{"statusCode":99}"#, r#"{"headers":{"a b":"1"}}"#, &long] {
        assert!(Head::parse(text.as_bytes(), id).is_err());
    }
}
