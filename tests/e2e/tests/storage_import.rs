//! What earlier servers have left, in a running one: `impuls import`. And the documents' own recipes for backups.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::fs;
use std::time::Duration;

use impuls_e2e::{Data, Launch, Server, Value, cli, eventually, json};
use impuls_testkit::SomeDatabase;

const HELLO: &str = "exports.handler = async () => 'hello ' + process.env.WHO;";
/// The table of the first Impuls, as its documents print it.
const IMPULS_TABLE: &str = "CREATE TABLE functions (
    id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, description TEXT, runtime TEXT NOT NULL, handler TEXT NOT NULL,
    code TEXT NOT NULL, code_path TEXT, memory_mb INTEGER NOT NULL, timeout_sec INTEGER NOT NULL, environment JSONB,
    created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL
)";
/// The tables of GoFaas, as its migrations make them.
const GOFAAS_TABLES: &str = "CREATE TABLE functions (
    id UUID PRIMARY KEY, name VARCHAR(255) NOT NULL, version VARCHAR(50) NOT NULL DEFAULT '1.0.0',
    runtime VARCHAR(50) NOT NULL, handler VARCHAR(255) NOT NULL, code_source TEXT,
    code_source_type VARCHAR(20) DEFAULT 'inline', code_checksum VARCHAR(64), code_size BIGINT,
    timeout_seconds INTEGER DEFAULT 30, memory_mb INTEGER DEFAULT 128, max_concurrency INTEGER DEFAULT 10,
    environment JSONB, metadata JSONB, created_at TIMESTAMPTZ DEFAULT now(), updated_at TIMESTAMPTZ DEFAULT now(),
    UNIQUE (name, version)
); CREATE TABLE invocations (
    id UUID PRIMARY KEY, function_id UUID NOT NULL REFERENCES functions (id) ON DELETE CASCADE, payload JSONB,
    headers JSONB, status VARCHAR(20) NOT NULL, result JSONB
)";

async fn database() -> SomeDatabase {
    tokio::task::spawn_blocking(SomeDatabase::get).await.expect("PostgreSQL starts")
}

fn write(path: &std::path::Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

#[tokio::test]
async fn the_files_of_the_first_impuls_are_taken_one_by_one() {
    let (server, old) = (Server::start().await, Data::new());
    let root = old.scratch().join("functions");
    let card = |name: &str, code: &str, more: Value| {
        let mut card = json!({
            "id": "3f1b9f0e-3c57-4d7e-9a45-0d3a7c1f5a11", "name": name, "runtime": "nodejs", "handler": "index.handler",
            "code": code, "memory_mb": 128, "timeout_sec": 30, "created_at": "2025-01-01T00:00:00Z",
        });
        for (member, value) in more.as_object().into_iter().flatten() {
            card[member] = value.clone();
        }
        write(
            &root.join(format!("metadata/{name}.json")),
            &serde_json::to_string_pretty(&card).expect("JSON"),
        );
        write(&root.join(format!("code/{name}/function.js")), code);
    };
    card("hello", HELLO, json!({"environment": {"WHO": "tree"}, "memory_mb": 256}));
    card("broken", "exports.handler = (", json!({}));
    card("odd.name", HELLO, json!({}));
    card("old", HELLO, json!({"runtime": "cobol"}));
    write(&root.join("metadata/torn.json"), "{");
    let source = old.scratch().display().to_string();
    let report = cli::run(&server, &["import", &source], "");
    assert_eq!(report.code, Some(4), "{report:?}");
    let said = report.stdout.clone();
    for text in [
        "hello: taken, with the id",
        "broken: NOT TAKEN: it is stored, and cannot be called",
        "odd.name: NOT TAKEN: name: name contains '.'",
        "old: NOT TAKEN",
        "torn: NOT TAKEN",
        "1 functions taken, 0 existed, 4 not taken",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(server.call("hello", &Value::Null).await, json!("hello tree"));
    assert_eq!(server.get("/api/v1/functions/hello").await.json()["memory_mb"], 256);
    let again = cli::run(&server, &["import", &source], "");
    assert!(again.stdout.contains("hello: exists, left as it is"), "{again:?}");
    assert_eq!(server.get("/api/v1/functions/hello").await.json()["version"], 1);
    let nothing = cli::run(&server, &["import", "/"], "");
    assert!(nothing.stderr.contains("there is no functions/metadata in it"), "{nothing:?}");
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_tables_of_the_first_impuls_are_taken() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let server = Server::start().await;
    let insert = format!(
        "INSERT INTO functions VALUES ('1', 'hello', NULL, 'nodejs', 'index.handler', $c${HELLO}$c$, \
         'db://functions/hello/code', 128, 30, '{{\"WHO\": \"table\"}}', now(), now()), \
         ('2', 'plain', 'said', 'nodejs', 'index.handler', 'exports.handler = async () => 1;', NULL, 192, 5, NULL, now(), now())"
    );
    tables.sql(&format!("{IMPULS_TABLE}; {insert}"));
    let report = cli::run(&server, &["import", &url], "").success();
    assert!(report.contains("2 functions taken, 0 existed, 0 not taken"), "{report}");
    assert_eq!(server.call("hello", &Value::Null).await, json!("hello table"));
    let plain = server.get("/api/v1/functions/plain").await.json();
    assert_eq!(
        (&plain["description"], &plain["memory_mb"], &plain["timeout_sec"]),
        (&json!("said"), &json!(192), &json!(5))
    );
    let again = cli::run(&server, &["import", &url], "").success();
    assert!(again.contains("0 functions taken, 2 existed"), "{again}");
    let other = database().await;
    let refused = cli::run(&server, &["import", other.url()], "");
    assert!(refused.stderr.contains("has no table `functions`"), "{refused:?}");
    assert!(!refused.stderr.contains("p@ss") && !refused.stderr.contains("p%40ss"), "{refused:?}");
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_tables_of_gofaas_are_taken_with_its_folder_of_code() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let (server, old) = (Server::start().await, Data::new());
    let id = "7f1b9f0e-3c57-4d7e-9a45-0d3a7c1f5a11";
    let insert = format!(
        "INSERT INTO functions (id, name, version, runtime, handler, code_source, code_source_type, timeout_seconds, \
         memory_mb, max_concurrency, environment, metadata) VALUES \
         ('{id}', 'hello', '1.0.0', 'python', 'main', '{id}/code', 'local', 20, 128, 3, '{{\"WHO\": \"gofaas\"}}', '{{\"a\": \"b\"}}'), \
         ('8f1b9f0e-3c57-4d7e-9a45-0d3a7c1f5a11', 'lost', '2.0.0', 'python', 'main', 'x', 'local', 20, 128, 3, NULL, NULL); \
         INSERT INTO invocations (id, function_id, status) VALUES ('{id}', '{id}', 'completed')"
    );
    tables.sql(&format!("{GOFAAS_TABLES}; {insert}"));
    let refused = cli::run(&server, &["import", &url], "");
    assert!(refused.stderr.contains("say with --code DIR where"), "{refused:?}");
    write(&old.scratch().join(id).join("code"), "import os\nprint('hello ' + os.environ['WHO'])\n");
    let code = old.scratch().display().to_string();
    let report = cli::run(&server, &["import", &url, "--code", &code], "");
    assert_eq!(report.code, Some(4), "{report:?}");
    for text in [
        "hello 1.0.0: taken, with the id ",
        &format!("(it was {id})"),
        "lost 2.0.0: NOT TAKEN",
        "not taken: 1 past calls",
    ] {
        assert!(report.stdout.contains(text), "{text}: {}", report.stdout);
    }
    let listed = server.get("/functions").await.with_status(200).json();
    let function = &listed["data"][0];
    assert_eq!(
        (&function["name"], &function["version"], &function["config"]["timeout"]),
        (&json!("hello"), &json!("1.0.0"), &json!(20_000_000_000_u64))
    );
    let invoked = server
        .post("/invoke", &json!({"function_id": function["id"], "payload": {}}))
        .await
        .with_status(202)
        .json();
    let path = format!("/invocations/{}", invoked["data"]["invocation_id"].as_str().expect("an id"));
    let done = eventually("the call has ended", Duration::from_secs(30), async || {
        let data = server.get(&path).await.json()["data"].clone();
        (data["status"] == "completed").then_some(data)
    })
    .await;
    assert_eq!(done["result"], "hello gofaas\n");
}

/// The storage guide of the first Impuls, "Backup and Recovery": tar of the folder of functions, and back.
#[tokio::test]
async fn a_tar_of_the_folder_of_functions_is_a_backup() {
    let (data, other) = (Data::new(), Data::new());
    let server = Launch::on(&data).argument("--storage=file").start().await;
    let name = server.node_with(HELLO, &json!({"environment": {"WHO": "tar"}})).await;
    let archive = data.scratch().join("impuls-backup.tar.gz");
    let tar = |arguments: &[&std::ffi::OsStr]| {
        assert!(std::process::Command::new("tar").args(arguments).status().expect("there is tar").success());
    };
    let folder = data.folder();
    tar(&["-czf".as_ref(), archive.as_ref(), "-C".as_ref(), folder.as_ref(), "functions".as_ref()]);
    let restored = other.folder();
    fs::create_dir_all(&restored).expect("made");
    tar(&["-xzf".as_ref(), archive.as_ref(), "-C".as_ref(), restored.as_ref()]);
    // Another server on another folder, to which nobody says anything.
    let moved = Launch::on(&other).start().await;
    let called = async |server: &Server| {
        eventually("the function is there", Duration::from_secs(30), async || {
            let reply = server.invoke(&name, &Value::Null).await;
            (reply.status == 200).then(|| reply.result())
        })
        .await
    };
    assert_eq!(called(&moved).await, json!("hello tar"));
    // And over what was changed in between: what the files say is deployed again.
    server.update(&name, &json!({"code": "exports.handler = async () => 'changed';"})).await;
    assert_eq!(called(&server).await, json!("changed"));
    assert!(server.stop().await.success());
    tar(&["-xzf".as_ref(), archive.as_ref(), "-C".as_ref(), folder.as_ref()]);
    let server = Launch::on(&data).start().await;
    eventually("the files are deployed", Duration::from_secs(30), async || {
        (server.invoke(&name, &Value::Null).await.result() == json!("hello tar")).then_some(())
    })
    .await;
}

/// The same guide: `pg_dump` of the database, and `psql` of what it has written. Code is in a folder here.
#[tokio::test]
#[ignore = "needs postgres"]
async fn a_dump_of_the_database_and_the_folder_of_code_are_a_backup() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let data = Data::new();
    let launch = |url: &str| Launch::on(&data).argument("--storage=postgres").variable("IMPULS_DB_CONN", url);
    let server = launch(&url).start().await;
    let function = server.node_with(HELLO, &json!({"environment": {"WHO": "dump"}})).await;
    assert!(server.stop().await.success());
    let dump = tables.dump();
    let other = database().await;
    other.sql(&dump);
    let server = launch(other.url()).start().await;
    assert_eq!(server.call(&function, &Value::Null).await, json!("hello dump"));
}
