//! What a newcomer types first: the commands of the seed's own quick start, character by character but for the port.

use std::process::{Command, Stdio};

use impuls_e2e::{Server, Value, json};

const CREATE: &str = r#"curl -X POST http://localhost:8080/api/v1/functions \
  -H "Content-Type: application/json" \
  -d '{
    "name": "hello-world",
    "runtime": "nodejs20",
    "handler": "index.handler",
    "code": "exports.handler = async (event) => { return { statusCode: 200, body: \"Hello from Impuls!\" }; }"
  }'"#;

const INVOKE: &str = r#"curl -X POST http://localhost:8080/api/v1/functions/hello-world/invoke?local=true \
  -H "Content-Type: application/json" \
  -d '{"name": "World"}'"#;

fn paste(command: &str, server: &Server) -> Value {
    let command = command.replace(":8080", &format!(":{}", server.address().port()));
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env("NO_PROXY", "*").stdin(Stdio::null());
    serde_json::from_slice(&shell.output().unwrap_or_else(|error| unreachable!("no shell: {error}")).stdout)
        .unwrap_or_default()
}

#[tokio::test]
#[ignore = "needs curl"]
async fn the_seeds_quick_start_works_as_it_is_printed() {
    let server = Server::start().await;
    let created = paste(CREATE, &server);
    assert_eq!(created["name"], "hello-world", "{created}");
    assert_eq!((&created["memory_mb"], &created["timeout_sec"]), (&json!(128), &json!(30)));
    let reply = paste(INVOKE, &server);
    assert_eq!(reply["status_code"], 200, "{reply}");
    assert_eq!(reply["body"]["body"], "Hello from Impuls!");
    assert_eq!(reply["body"]["statusCode"], 200);
    assert!(reply["duration_ms"].is_u64(), "{reply}");
}

#[tokio::test]
async fn the_list_moves_functions_to_another_server() {
    let (old, new) = (Server::start().await, Server::start().await);
    let code =
        "exports.handler = async () => ({ message: `${process.env.GREETING} from ${process.env.PLACE}` });";
    let environment = json!({"GREETING": "Hello", "PLACE": "afar"});
    let name = old.node_with(code, &json!({"environment": environment, "memory_mb": 256, "vcpu": 0.5})).await;
    let list = old.get("/api/v1/functions").await.with_status(200).json();
    assert_eq!(list["count"], 1);
    let element = &list["functions"][0];
    assert_eq!(element["code"], code);
    let created = new.create(element).await;
    for member in ["name", "runtime", "handler", "code", "environment", "memory_mb", "timeout_sec", "vcpu"] {
        assert_eq!(created[member], element[member], "{member}");
    }
    assert_ne!(created["id"], element["id"]);
    assert_eq!(new.call(&name, &Value::Null).await, json!({"message": "Hello from afar"}));
    old.remove(&name).await;
    old.create(element).await;
    assert_eq!(old.call(&name, &Value::Null).await, json!({"message": "Hello from afar"}));
}

#[tokio::test]
async fn health_is_reported_as_soon_as_calls_are_accepted() {
    let server = Server::shared().await;
    let health = server.get("/health").await.with_status(200).json();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("impuls")));
}

#[tokio::test]
async fn the_server_describes_its_own_api() {
    let server = Server::shared().await;
    let document = server.get("/openapi.json").await.with_status(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    assert!(document["paths"]["/api/v1/functions/{name}/invoke"]["post"].is_object());
}
