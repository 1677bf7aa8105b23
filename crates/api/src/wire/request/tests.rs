use super::*;
use impuls_control::RuntimeRefusal;

const OK: fn(&RuntimeName) -> Result<(), ControlError> = |_| Ok(());

fn request(json: &str) -> FunctionRequest {
    crate::extract::parse_json(json.as_bytes()).unwrap()
}

fn detail(problem: &Problem) -> String {
    let (_, _, body) = problem.render();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    body["detail"].as_str().unwrap().to_owned()
}

/// Checks what a creation with this body is refused with.
fn refuses(json: &str, expected: &str) {
    let problem = request(json).into_new(None, OK).unwrap_err();
    assert_eq!(detail(&problem), expected, "{json}");
}

#[test]
fn name_runtime_handler_and_code_are_checked_in_this_order() {
    refuses("{}", "name: name is required");
    refuses(r#"{"name":""}"#, "name: name is required");
    refuses(r#"{"name":"a b"}"#, "name: name contains ' '; only letters, digits, `-` and `_` are allowed");
    refuses(r#"{"name":"a"}"#, "runtime: runtime is required");
    refuses(r#"{"name":"a","runtime":"nodejs"}"#, "handler: handler is required");
    refuses(
        r#"{"name":"a","runtime":"nodejs","handler":"x.y"}"#,
        "code: code is required (or zip, an archive)",
    );
    let unknown = |name: &RuntimeName| -> Result<(), ControlError> {
        Err(RuntimeRefusal::Unknown { name: name.clone(), known: vec!["nodejs20".into()] }.into())
    };
    let problem = request(r#"{"name":"a","runtime":"cobol"}"#).into_new(None, unknown).unwrap_err();
    assert_eq!(detail(&problem), "runtime: runtime cobol is unknown; known runtimes: nodejs20");
}

const BASE: &str = r#""name":"a","runtime":"nodejs","handler":"x.y","code":"z""#;

#[test]
fn every_other_field_is_named_when_it_is_refused() {
    let refuses = |field: &str, expected: &str| refuses(&format!("{{{BASE},{field}}}"), expected);
    refuses(r#""memory_mb":-5"#, "memory_mb: -5 is not possible; 64 to 32768 are allowed");
    refuses(r#""vcpu":0.01"#, "vcpu: 0.01 is not possible; 0.05 to 64 are allowed");
    refuses(r#""vcpu":-1"#, "vcpu: -1 is not possible; 0.05 to 64 are allowed");
    refuses(
        r#""driver":"microvm""#,
        r#"driver: "microvm" is not supported; for now supported: auto, process, container"#,
    );
    refuses(
        r#""network":"on""#,
        r#"network: "on" is not supported; for now supported: off, egress, {"allow": ["example.com"]}"#,
    );
    refuses(
        r#""contract":"x""#,
        r#"contract: "x" is not supported; for now supported: module, scoped, program, command, bootstrap, http"#,
    );
    refuses(r#""command":["a\u0000"]"#, "command: command has a NUL character in word 0");
    let labels = format!(r#""metadata":{{"a":"{}"}}"#, "x".repeat(4_096));
    refuses(&labels, "metadata: metadata has 4097 bytes; at most 4096 are allowed");
    refuses(
        r#""environment":{"IMPULS_A":""}"#,
        "environment: environment variable \"IMPULS_A\": names that begin with `IMPULS_` are Impuls' own",
    );
    refuses(r#""zip":"UEs=""#, "code: give `code` or an archive, not both");
}

#[test]
fn a_member_of_the_wrong_type_is_named() {
    let refuses = |json: &str, expected: &str| {
        let problem = crate::extract::parse_json::<FunctionRequest>(json.as_bytes()).unwrap_err();
        assert!(detail(&problem).starts_with(expected), "{}", detail(&problem));
    };
    refuses(r#"{"memory_mb":"x"}"#, "Invalid request body: memory_mb: invalid type: string \"x\"");
    refuses("{", "Invalid request body: EOF while parsing an object");
    refuses("", "Invalid request body: EOF while parsing a value");
    refuses("name=a", "Invalid request body: expected ident at line 1");
}

#[test]
fn unknown_members_and_null_are_ignored() {
    let json = format!("{{{BASE},\"id\":1,\"created_at\":\"x\",\"memory_mb\":null,\"error\":{{}}}}");
    let new = request(&json).into_new(None, OK).unwrap();
    assert_eq!(new.settings, Settings::default());
    assert_eq!(new.code, Code::Source("z".to_owned()));
}

#[test]
fn archives_come_in_base64_with_or_without_line_breaks() {
    for zip in ["UEsDBA==", "UEsD\\nBA==\\n"] {
        let json = format!(r#"{{"zip":"{zip}"}}"#);
        let change = request(&json).into_change(None).unwrap();
        assert_eq!(change.code, Some(Code::Zip("PK\x03\x04".into())));
    }
    let problem = request(r#"{"zip":"?"}"#).into_change(None).unwrap_err();
    assert!(detail(&problem).starts_with("zip: this is not base64: "));
}

#[test]
fn a_change_checks_what_it_has() {
    assert_eq!(request("{}").into_change(None).unwrap(), FunctionChange::default());
    let problem = request(r#"{"handler":""}"#).into_change(None).unwrap_err();
    assert_eq!(detail(&problem), "handler: handler has 0 characters; 1 to 255 are allowed");
    let change = request(r#"{"vcpu":0.5,"timeout_sec":0}"#).into_change(None).unwrap();
    assert_eq!(change.settings.limits.milli_vcpu, Some(500));
    assert_eq!(change.settings.limits.timeout_ms, Some(0));
}
