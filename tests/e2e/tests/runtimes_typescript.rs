//! TypeScript functions: types are stripped when they are deployed.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use impuls_e2e::functions::FUNCTIONS;
use impuls_e2e::{Server, Value, json, unique, zip_of};
use reqwest::Method;

async fn typescript(server: &Server, handler: &str, code: &str) -> (String, Value) {
    let name = unique("ts");
    let fields = json!({"name": name, "runtime": "typescript", "handler": handler, "code": code});
    let created = server.post(FUNCTIONS, &fields).await.with_status(201).json();
    (name, created)
}

#[tokio::test]
async fn types_are_stripped_and_places_kept() {
    let server = Server::shared().await;
    let code = "interface Event { name: string }\n\
                type Reply = { hello: string };\n\
                export const handler = async (event: Event): Promise<Reply> => {\n\
                \x20 if (!event.name) throw new Error('nobody' as string);\n\
                \x20 return { hello: event.name! } satisfies Reply;\n\
                };\n";
    let (name, created) = typescript(&server, "index.handler", code).await;
    assert_eq!(created["status"], "active", "{created}");
    assert_eq!(server.call(&name, &json!({"name": "you"})).await, json!({"hello": "you"}));
    let body = server.invoke(&name, &json!({})).await.failure(500, "FunctionError");
    let stack = body["stack"].as_str().unwrap_or_default();
    // File, line and column of `new Error` in the source.
    assert!(stack.contains("/var/task/index.ts:4:26)"), "{stack}");
}

#[tokio::test]
async fn syntax_that_is_more_than_types_is_rewritten() {
    let server = Server::shared().await;
    let code = "enum Colour { Red = 'r' }\n\
                class Box { constructor(private readonly value: number) {} get() { return this.value; } }\n\
                exports.handler = async () => [Colour.Red, new Box(3).get()];\n";
    let (name, _) = typescript(&server, "index.handler", code).await;
    assert_eq!(server.call(&name, &Value::Null).await, json!(["r", 3]));
}

#[tokio::test]
async fn places_are_kept_where_code_had_to_be_rewritten() {
    let server = Server::shared().await;
    let code = "enum Colour { Red, Green }\n\n\n\
                class Box { constructor(private readonly value: number) {} fail(): never {\n\
                \x20 throw new Error(`no ${this.value}`);\n\
                } }\n\
                HANDLER = async () => new Box(Colour.Green).fail();\n";
    for handler in ["exports.handler", "export const handler"] {
        let (name, _) = typescript(&server, "index.handler", &code.replace("HANDLER", handler)).await;
        let body = server.invoke(&name, &Value::Null).await.failure(500, "FunctionError");
        let stack = body["stack"].as_str().unwrap_or_default();
        assert!(stack.contains("index.ts:5:9)") && stack.contains("no 1"), "{handler}: {stack}");
    }
    // A whole program has them, too.
    let program = code
        .replace("HANDLER = async () =>", "")
        .replace("Colour.Green).fail()", "Colour.Green).fail() as never");
    let fields = json!({"name": unique("ts"), "runtime": "typescript", "handler": "main", "contract": "program", "code": program});
    let name = server.create(&fields).await["name"].as_str().unwrap_or_default().to_owned();
    let logs = server.invoke(&name, &Value::Null).await.logs();
    assert!(logs.contains("main.ts:5:9)"), "{logs}");
}

#[tokio::test]
async fn a_syntax_error_names_its_place_and_the_version_before_serves() {
    let server = Server::shared().await;
    let (name, _) = typescript(&server, "app.run", "export const run = (): number => 1;\n").await;
    let failed = server
        .update(&name, &json!({"code": "export const ok = 1;\nexport const run = (: number => 1;\n"}))
        .await;
    let error = &failed["error"];
    assert_eq!(
        (&failed["status"], &error["file"], &error["line"]),
        (&json!("error"), &json!("app.ts"), &json!(2)),
        "{failed}"
    );
    assert_eq!(server.call(&name, &Value::Null).await, 1);
}

#[tokio::test]
async fn a_package_may_mix_both_languages() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        ("package.json", "{\"type\": \"module\"}"),
        (
            "src/app.ts",
            "import { one } from './lib/one.js';\nimport { two } from './two.js';\nexport const handler = (): number[] => [one, two];\n",
        ),
        ("src/lib/one.ts", "export const one: number = 1;\n"),
        ("src/two.js", "export const two = 2;\n"),
        ("src/types.d.ts", "declare const three: number;\n"),
    ]);
    for runtime in ["typescript", "nodejs"] {
        let name = unique("ts");
        let query = format!("{FUNCTIONS}?name={name}&runtime={runtime}&handler=src/app.handler");
        let request = server.request(Method::POST, &query).header("content-type", "application/zip");
        let created = server.send(request.body(archive.clone())).await.with_status(201).json();
        assert_eq!(created["status"], "active", "{created}");
        assert_eq!(server.call(&name, &Value::Null).await, json!([1, 2]));
    }
}
