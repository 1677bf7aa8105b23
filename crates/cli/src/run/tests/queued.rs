use super::*;

const ONE: &str = r#"{"id":"i-1","kind":"call","function":"f","status":"succeeded","attempts":2,"created_at":"2026-01-02T03:04:05.5Z","completed_at":"2026-01-02T03:04:06Z","duration_ms":12.5,"result":{"a":1},"logs":"one\ntwo"}"#;
const DEAD: &str = r#"{"items":[{"id":"i-2","kind":"hook","function":"f","status":"dead","attempts":3,"created_at":"2026-01-02T03:04:05Z","error":{"type":"HookError","message":"the hook answered\nwith"}}],"count":1,"next_cursor":"i-2"}"#;
const SCHEDULES: &str = r#"{"schedules":[{"name":"daily","cron":"0 9 * * *","time_zone":"UTC","qualifier":"$LATEST","enabled":true,"next_tick":"2026-01-02T09:00:00Z"},{"name":"off","interval_sec":30,"qualifier":"live","enabled":false}],"count":2}"#;

#[test]
fn an_accepted_call_prints_its_id() {
    let stub = always(202, r#"{"id":"i-1","status":"queued"}"#);
    let line = [
        "invoke",
        "f",
        "--async",
        "-q",
        "live",
        "--delay",
        "1m",
        "--max-retries",
        "0",
        "--idempotency-key",
        "k",
    ];
    let ran = run_with(&stub.url(), &line, Some("[1]"));
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Success, "i-1\n"));
    let sent = stub.requests().pop().unwrap();
    assert_eq!(sent.line, "POST /api/v1/functions/f/invocations?qualifier=live&delay=60000ms&max_retries=0");
    assert_eq!(sent.body, b"[1]");
}

#[test]
fn a_call_is_shown_with_its_result_alone_on_standard_output() {
    let stub = always(200, ONE);
    let ran = piped(&stub, &["invocations", "get", "i-1", "--wait", "30s"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Success, r#"{"a":1}"#));
    assert_eq!(ran.err, "one\ntwo\n(succeeded, attempts: 2, ended 2026-01-02T03:04:06Z, 12.5 ms)\n");
    assert_eq!(stub.lines(), ["GET /api/v1/invocations/i-1?wait=30000ms"]);
    let failed = always(200, r#"{"id":"i","status":"dead","error":{"type":"FunctionError","message":"no"}}"#);
    assert_eq!(piped(&failed, &["invocations", "get", "i"]).exit, Exit::FunctionFailed);
}

#[test]
fn calls_are_listed_cancelled_and_driven_again() {
    let stub = always(200, DEAD);
    let ran = piped(&stub, &["invocations", "list", "f", "--status", "dead", "-n", "1"]);
    assert!(ran.out.starts_with("ID   FUNCTION  STATUS       ATTEMPTS"), "{}", ran.out);
    assert!(ran.out.contains("dead (hook)") && ran.out.contains("the hook answered"), "{}", ran.out);
    assert!(ran.err.contains("--cursor i-2"), "{}", ran.err);
    assert_eq!(stub.lines(), ["GET /api/v1/invocations?function=f&status=dead&limit=1"]);
    let stub = always(200, ONE);
    assert_eq!(piped(&stub, &["invocations", "cancel", "i-1"]).out, "i-1 cancelled\n");
    assert_eq!(piped(&stub, &["invocations", "redrive", "i-1"]).out, "i-1 waits again\n");
    let all = always(202, r#"{"redriven":7}"#);
    assert_eq!(piped(&all, &["invocations", "redrive", "--all", "f"]).out, "7 dead letters wait again\n");
    assert_eq!(all.lines(), ["POST /api/v1/functions/f/invocations/redrive"]);
}

#[test]
fn schedules_are_set_and_listed() {
    let stub = always(
        200,
        r#"{"name":"s","cron":"0 9 * * *","time_zone":"Europe/Berlin","qualifier":"$LATEST","enabled":true}"#,
    );
    let line =
        ["schedules", "set", "f", "s", "--cron", "0 9 * * *", "--time-zone", "Europe/Berlin", "-d", "{}"];
    assert_eq!(piped(&stub, &line).exit, Exit::Success);
    let sent = stub.requests().pop().unwrap();
    assert_eq!(sent.line, "PUT /api/v1/functions/f/schedules/s");
    assert_eq!(sent.body, br#"{"cron":"0 9 * * *","time_zone":"Europe/Berlin","event":{}}"#);
    let half = piped(&stub, &["schedules", "set", "f", "s", "--every", "1500ms"]);
    assert_eq!(half.exit, Exit::Usage, "{}", half.err);
    let stub = always(200, SCHEDULES);
    let ran = piped(&stub, &["schedules", "list", "f"]);
    assert!(ran.out.contains("0 9 * * * (UTC)") && ran.out.contains("every 30 s"), "{}", ran.out);
    assert!(ran.out.contains("2026-01-02T09:00:00Z") && ran.out.contains("disabled"), "{}", ran.out);
}
