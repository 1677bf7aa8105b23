//! Go functions: programs and handlers, compiled once when they are deployed.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::{Server, Value, json, unique, zip_of};
use reqwest::Method;

const ECHO: &str = r#"package main

import (
    "context"
    "errors"
    "fmt"
    "os"
)

type Event struct {
    Name  string `json:"name"`
    Count int    `json:"count"`
}

type Missing struct{ Name string }

func (m *Missing) Error() string { return "no " + m.Name }

var started = os.Getenv("WORD")

func Handler(ctx context.Context, event Event) (map[string]any, error) {
    about, _ := FromContext(ctx)
    fmt.Println("called with", event.Name)
    switch event.Name {
    case "missing":
        return nil, &Missing{"that"}
    case "wrapped":
        return nil, errors.New("plain")
    case "panic":
        var none map[string]int
        none["x"] = 1
    case "exit":
        os.Exit(3)
    }
    _, hasDeadline := ctx.Deadline()
    return map[string]any{"name": event.Name, "count": event.Count + 1, "word": started,
        "function": about.FunctionName, "id": about.RequestID, "deadline": hasDeadline}, nil
}
"#;

async fn go(server: &Server, fields: Value) -> (String, Value) {
    let name = unique("go");
    let mut fields = fields;
    fields["name"] = json!(name);
    fields["runtime"] = json!("go");
    let created = server.post(FUNCTIONS, &fields).await.with_status(201).json();
    (name, created)
}

async fn works(server: &Server, fields: Value) -> String {
    let (name, created) = go(server, fields).await;
    assert_eq!(created["status"], "active", "{created}");
    name
}

#[tokio::test]
async fn a_program_gets_the_event_and_prints_the_result() {
    let server = Server::shared().await;
    let code = r#"package main

import (
    "fmt"
    "io"
    "os"
)

func main() {
    event, _ := io.ReadAll(os.Stdin)
    fmt.Fprintln(os.Stderr, "a note")
    fmt.Printf("{\"event\": %s, \"payload\": %s}", event, os.Getenv("FUNCTION_PAYLOAD"))
}
"#;
    let name = works(&server, json!({"handler": "main", "contract": "program", "code": code})).await;
    for n in 0..3 {
        let reply = server.invoke(&name, &json!({"n": n})).await;
        assert_eq!(reply.logs(), "a note");
        assert_eq!(reply.result(), json!({"event": {"n": n}, "payload": {"n": n}}));
    }
}

#[tokio::test]
async fn a_handler_is_called_in_one_process_with_context_logs_and_environment() {
    let server = Server::shared().await;
    let fields = json!({"handler": "main.Handler", "code": ECHO, "environment": {"WORD": "given"}});
    let name = works(&server, fields).await;
    for n in 0..3 {
        let reply = server.invoke(&name, &json!({"name": "you", "count": n})).await;
        let id = reply.json()["request_id"].clone();
        assert_eq!(reply.logs(), "called with you");
        let expected = json!({"name": "you", "count": n + 1, "word": "given", "function": name, "id": id,
                              "deadline": true});
        assert_eq!(reply.result(), expected);
    }
}

#[tokio::test]
async fn errors_and_panics_are_the_functions_own() {
    let server = Server::shared().await;
    let name = works(&server, json!({"handler": "Handler", "code": ECHO})).await;
    for (event, class, message) in [
        ("missing", "Missing", "no that"),
        ("wrapped", "errorString", "plain"),
        ("panic", "plainError", "assignment to entry in nil map"),
    ] {
        let body = server.invoke(&name, &json!({"name": event})).await.failure(500, "FunctionError");
        assert_eq!((&body["error_class"], &body["error"]), (&json!(class), &json!(message)), "{body}");
        if event == "panic" {
            assert!(body["stack"].as_str().is_some_and(|stack| stack.contains("function/main.go")), "{body}");
        }
    }
    server.invoke(&name, &json!({"name": "exit"})).await.failure(500, "Exited");
    assert_eq!(server.call(&name, &json!({"name": "again"})).await["name"], "again");
    let body = server.invoke(&name, &json!({"count": "no number"})).await.failure(500, "FunctionError");
    assert_eq!(body["error_class"], "UnmarshalTypeError");
}

#[tokio::test]
async fn handlers_have_every_form_of_lambdas() {
    let server = Server::shared().await;
    for (signature, result) in [
        ("func Handler()", Value::Null),
        ("func Handler() error { return nil }", Value::Null),
        ("func Handler(event any) any { return event }", json!([1, "ü"])),
        ("func Handler(event []any) (int, error) { return len(event), nil }", json!(2)),
        ("func Handler(ctx context.Context) (bool, error) { return ctx != nil, nil }", json!(true)),
    ] {
        let import = if signature.contains("context.") { "import \"context\"\n" } else { "" };
        let body = if signature.ends_with('}') { "" } else { "{}" };
        let code = format!("package main\n{import}\n{signature} {body}\n");
        let name = works(&server, json!({"handler": "Handler", "code": code})).await;
        assert_eq!(server.call(&name, &json!([1, "ü"])).await, result, "{signature}");
    }
}

#[tokio::test]
async fn slots_run_at_the_same_time_in_one_process() {
    let server = Server::shared().await;
    let code = r#"package main

import "sync"

var arrived sync.WaitGroup

func init() { arrived.Add(4) }

func Handler(n int) int {
    arrived.Done()
    arrived.Wait()
    return n
}
"#;
    let fields = json!({"handler": "Handler", "code": code, "concurrency": 4});
    let name = works(&server, fields).await;
    let replies = server.invoke_all(&name, (0..4).map(|n| json!(n)).collect()).await;
    let results: Vec<Value> = replies.into_iter().map(impuls_e2e::Reply::result).collect();
    assert_eq!(results, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_module_of_several_packages_is_built_with_its_embedded_files() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        ("go.mod", "module example.com/shop\n\ngo 1.21\n"),
        (
            "main.go",
            "package main\n\nimport \"example.com/shop/price\"\n\nfunc Total(n []int) int { return price.Sum(n) }\n",
        ),
        (
            "price/price.go",
            "package price\n\nimport (\n\t_ \"embed\"\n\t\"strconv\"\n\t\"strings\"\n)\n\n//go:embed tax.txt\nvar tax string\n\nfunc Sum(n []int) int {\n\ttotal, _ := strconv.Atoi(strings.TrimSpace(tax))\n\tfor _, each := range n {\n\t\ttotal += each\n\t}\n\treturn total\n}\n",
        ),
        ("price/tax.txt", "7\n"),
    ]);
    let name = unique("go");
    let request = server.request(Method::POST, &format!("{FUNCTIONS}?name={name}&runtime=go&handler=Total"));
    let created = server.send(request.header("content-type", "application/zip").body(archive)).await;
    assert_eq!(created.with_status(201).json()["status"], "active");
    assert_eq!(server.call(&name, &json!([1, 2, 3])).await, 13);
}

#[tokio::test]
async fn code_that_does_not_compile_leaves_the_version_before_serving() {
    let server = Server::shared().await;
    let good = "package main\n\nfunc Handler() int { return 1 }\n";
    let name = works(&server, json!({"handler": "Handler", "code": good})).await;
    let failed =
        server.update(&name, &json!({"code": "package main\n\nfunc Handler() int { return x }\n"})).await;
    assert_eq!((&failed["status"], &failed["version"]), (&json!("error"), &json!(1)));
    let error = &failed["error"];
    assert_eq!(
        (&error["type"], &error["file"], &error["line"]),
        (&json!("BuildError"), &json!("main.go"), &json!(3))
    );
    assert!(error["message"].as_str().is_some_and(|text| text.contains("undefined: x")), "{error}");
    assert_eq!(server.call(&name, &Value::Null).await, 1);
    let fixed = server.update(&name, &json!({"code": good.replace('1', "2")})).await;
    assert_eq!(
        (&fixed["status"], &fixed["version"], &fixed["error"]),
        (&json!("active"), &json!(2), &Value::Null)
    );
    assert_eq!(server.call(&name, &Value::Null).await, 2);
}

#[tokio::test]
async fn calls_of_code_that_was_never_built_say_why() {
    let server = Server::shared().await;
    let (name, created) =
        go(&server, json!({"handler": "Handler", "code": "package main\n\nfunc Other() {}\n"})).await;
    assert_eq!(created["status"], "error");
    let body = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    assert_eq!((&body["error_class"], &body["error"]), (&json!("BuildError"), &created["error"]["message"]));
    let says = |body: &Value, text: &str| body.as_str().is_some_and(|message| message.contains(text));
    assert!(says(&body["error"], "undefined: Handler"), "{body}");
    let error = &created["error"];
    assert!(
        says(&error["message"], "names a function that the code's package main does not have"),
        "{error}"
    );
    assert_eq!(error["file"], Value::Null, "it is no file of the user's");
    // A program that says nothing of its contract.
    let (_, created) =
        go(&server, json!({"handler": "main", "code": "package main\n\nfunc main() {}\n"})).await;
    assert!(says(&created["error"]["message"], "deploy it with the contract `program`"), "{created}");
}

#[tokio::test]
async fn a_build_writes_to_whoever_deploys_and_is_made_once() {
    let server = Server::shared().await;
    let code = format!("package main\n\nfunc Handler() string {{ return {:?} }}\n", unique("word"));
    let deploy = async |code: &str| {
        let fields = json!({"name": unique("go"), "runtime": "go", "handler": "Handler", "code": code});
        let request =
            server.request(Method::POST, FUNCTIONS).header("accept", "application/x-ndjson").json(&fields);
        let text = server.send(request).await.with_status(200).text();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect::<Vec<Value>>()
    };
    let broken = deploy("package main\n\nfunc Handler() { x }\n").await;
    let log: String = broken.iter().filter_map(|line| line["log"].as_str()).collect();
    assert!(log.contains("./main.go:3:18: undefined: x"), "{broken:?}");
    assert_eq!(broken.last().unwrap_or(&Value::Null)["function"]["status"], "error");
    let artifacts = || walk(&server.data().folder().join("artifacts"));
    deploy(&code).await;
    let before = artifacts();
    let again = deploy(&code).await;
    assert_eq!(again.last().unwrap_or(&Value::Null)["function"]["status"], "active");
    assert_eq!(artifacts(), before, "the same code is not built again");
}

/// How many files there are below a folder.
fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn the_sandbox_of_a_compiled_function_holds_no_compiler() {
    let server = Server::shared().await;
    let code = "package main\n\nimport \"os\"\n\nfunc Handler(name string) bool {\n\t_, err := os.Stat(name)\n\treturn err == nil\n}\n";
    let name = works(&server, json!({"handler": "Handler", "code": code})).await;
    for (file, is_there) in [
        ("/var/task/main.go", true),
        ("/usr/bin", false),
        ("/usr/local/go", false),
        ("/opt/toolchains", false),
        ("/bin/sh", false),
    ] {
        assert_eq!(server.call(&name, &json!(file)).await, is_there, "{file}");
    }
    assert_eq!(server.get(&path(&name)).await.json()["runtime"].as_str().map(|name| &name[..2]), Some("go"));
}
