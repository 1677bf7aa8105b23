use std::io;

use impuls_control::RuntimeRefusal;
use impuls_domain::{Limits, VersionNumber};
use impuls_sandbox::SandboxError;

use super::*;

fn parts(problem: impl Into<Problem>) -> (u16, Option<u64>, serde_json::Value) {
    let (status, retry_after, body) = problem.into().render();
    (status.as_u16(), retry_after, serde_json::from_slice(&body).unwrap())
}

/// Checks status and kind, and the detail unless the platform failed, which shows no text.
fn check(problem: impl Into<Problem>, status: u16, kind: &str, detail: Option<&str>) {
    let (found, _, body) = parts(problem);
    assert_eq!(
        (found, body["type"].as_str().unwrap()),
        (status, format!("urn:impuls:problem:{kind}").as_str())
    );
    assert_eq!(body["status"], status);
    assert_eq!(body["error"], true);
    assert_eq!(body["message"], body["detail"]);
    match detail {
        Some(detail) => {
            assert_eq!(body["detail"], detail);
            assert!(body.get("id").is_none());
        }
        None => {
            let id = body["id"].as_str().unwrap();
            assert!(body["detail"].as_str().unwrap().ends_with(id));
        }
    }
}

#[test]
fn every_refusal_of_a_use_case_has_its_status() {
    use ControlError as E;
    let f = || "f".parse().unwrap();
    check(E::Denied, 403, "denied", Some("you are not allowed to manage functions"));
    check(E::FunctionNotFound("f".into()), 404, "function-not-found", Some("function f not found"));
    let version = VersionNumber::FIRST;
    check(
        E::VersionNotFound { function: f(), version },
        404,
        "version-not-found",
        Some("function f has no version 1"),
    );
    let alias = "live".parse().unwrap();
    check(
        E::AliasNotFound { function: f(), alias },
        404,
        "alias-not-found",
        Some("function f has no alias live"),
    );
    check(E::NameTaken(f()), 409, "name-taken", Some("function f already exists"));
    check(
        E::NothingToRollBack(f()),
        409,
        "nothing-to-roll-back",
        Some("function f has only one version; there is nothing to roll back to"),
    );
    check(
        E::Contended(f()),
        409,
        "contended",
        Some("function f is being changed by somebody else; try again"),
    );
    let hint = "install the package nodejs".to_owned();
    let missing = RuntimeRefusal::NotInstalled { name: "nodejs18".parse().unwrap(), hint };
    check(
        E::Runtime(missing),
        400,
        "runtime-unavailable",
        Some("runtime: runtime nodejs18 is not installed on this server; install the package nodejs"),
    );
    let limit = Limits::default().with_memory_mib(1).unwrap_err();
    check(
        E::Limit(limit),
        400,
        "invalid-request",
        Some("memory_mb: 1 is not possible; 64 to 32768 are allowed"),
    );
    check(E::CodeEmpty, 400, "invalid-request", Some("code: code is empty"));
    check(
        E::CodeTooLarge { bytes: 2, limit: 1 },
        413,
        "too-large",
        Some("code: code has 2 bytes; at most 1 are allowed"),
    );
    check(
        E::PageLimit { limit: 0, max: 9 },
        400,
        "invalid-request",
        Some("limit: 0 is not possible; 1 to 9 are allowed"),
    );
    check(E::Damaged(f()), 500, "internal", None);
    check(E::Stopping, 503, "shutting-down", None);
}

#[test]
fn every_refusal_of_a_call_has_its_status() {
    use DispatchError as E;
    check(E::Denied, 403, "denied", Some("you are not allowed to invoke functions"));
    check(E::FunctionNotFound("f".into()), 404, "function-not-found", Some("function f not found"));
    let no_qualifier =
        |text: &str| E::QualifierNotFound { function: "f".into(), qualifier: text.parse().unwrap() };
    check(no_qualifier("7"), 404, "version-not-found", Some("function f has no version or alias 7"));
    check(no_qualifier("live"), 404, "alias-not-found", Some("function f has no version or alias live"));
    check(E::BadEvent("x".into()), 400, "invalid-event", Some("the event is not JSON: x"));
    check(E::EventTooLarge { limit: 9 }, 413, "too-large", Some("the event has more than 9 bytes"));
    check(
        E::NoNetwork,
        501,
        "network-unavailable",
        Some("this server cannot give functions a network; its operator learns from `impuls doctor` why"),
    );
    let deploying = "function f is still being deployed; try again later";
    check(E::Deploying("f".into()), 503, "deploying", Some(deploying));
    check(E::ShuttingDown, 503, "shutting-down", None);
    check(E::Sandbox(SandboxError::AtCapacity), 503, "no-sandbox", None);
    check(E::Sandbox(SandboxError::Protocol("x".into())), 500, "internal", None);
    check(E::Code(Box::new(io::Error::other("disk"))), 503, "unavailable", None);
}

#[test]
fn waiting_time_is_rounded_up_to_whole_seconds() {
    for (wait, seconds) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2)] {
        let throttled = DispatchError::Throttled { retry_after: Duration::from_millis(wait) };
        let (status, retry_after, body) = parts(throttled);
        assert_eq!((status, retry_after), (429, Some(seconds)));
        assert_eq!(body["type"], "urn:impuls:problem:throttled");
    }
}

#[test]
fn a_failure_of_the_platform_never_shows_its_text() {
    let secret = io::Error::other("/srv/secret/path");
    let (_, _, body) = parts(DispatchError::Code(Box::new(secret)));
    assert!(!body.to_string().contains("secret"), "{body}");
}

#[test]
fn the_body_is_exactly_this() {
    let (_, _, body) = Problem::from(ControlError::FunctionNotFound("f".into())).render();
    let expected = concat!(
        r#"{"type":"urn:impuls:problem:function-not-found","title":"No such function","status":404,"#,
        r#""detail":"function f not found","error":true,"message":"function f not found"}"#
    );
    assert_eq!(body, expected);
}
