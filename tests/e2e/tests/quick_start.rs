//! What a newcomer types first: the commands of the documents of Impuls in Go, character by character, on the port that
//! they print.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use impuls_e2e::{Data, Network, Server, Value, commands, json};

const QUICK_START: &str = include_str!("../fixtures/seeds/impuls-create-your-first-function.sh");
const FILE_STORAGE: &str = include_str!("../fixtures/seeds/impuls-file-storage.sh");
const MIGRATION: &str = include_str!("../fixtures/seeds/impuls-migration.sh");
/// What "re-import functions via API" comes to; the documents print no command for it.
const IMPORT: &str = "jq -c '.functions[]' functions_backup.json | while read -r function; do
    curl -s -X POST http://localhost:8080/api/v1/functions -H 'Content-Type: application/json' -d \"$function\"
done";

#[tokio::test]
#[ignore = "needs root, ip, curl"]
async fn the_quick_start_works_as_it_is_printed() {
    let (network, data) = (Network::new(), Data::new());
    let _server = network.launch(&data).start().await;
    let commands = commands(QUICK_START);
    assert_eq!(commands.len(), 2);
    let created = network.paste(commands[0], &data, &[]).json();
    assert_eq!(created["name"], "hello-world", "{created}");
    assert_eq!((&created["memory_mb"], &created["timeout_sec"]), (&json!(128), &json!(30)));
    let reply = network.paste(commands[1], &data, &[]).json();
    assert_eq!(reply["status_code"], 200, "{reply}");
    assert_eq!(reply["body"]["body"], "Hello from Impuls!");
    assert_eq!(reply["body"]["statusCode"], 200);
    assert!(reply["duration_ms"].is_u64(), "{reply}");
}

#[tokio::test]
#[ignore = "needs root, ip, curl"]
async fn the_printed_command_line_serves_from_the_printed_folder() {
    let (network, data) = (Network::new(), Data::new());
    let server = network.launch_printed(commands(FILE_STORAGE)[0], &data).start().await;
    network.paste(commands(QUICK_START)[0], &data, &[]).success();
    let reply = network.paste(commands(QUICK_START)[1], &data, &[]).json();
    assert_eq!(reply["body"]["body"], "Hello from Impuls!", "{reply}");
    let kept = format!("/proc/{}/root/var/lib/impuls/impuls.db", server.pid());
    assert!(std::path::Path::new(&kept).is_file(), "{kept}");
}

#[tokio::test]
#[ignore = "needs root, ip, curl, jq"]
async fn functions_move_to_another_server_as_it_is_printed() {
    let (old, new) = (Network::new(), Network::new());
    let (folder, other) = (Data::new(), Data::new());
    let _servers = (old.launch(&folder).start().await, new.launch(&other).start().await);
    old.paste(commands(QUICK_START)[0], &folder, &[]).success();
    old.paste(commands(MIGRATION)[0], &folder, &[]).success();
    let created = new.paste(IMPORT, &folder, &[]).json();
    assert_eq!(created["status"], "active", "{created}");
    let reply = new.paste(commands(QUICK_START)[1], &folder, &[]).json();
    assert_eq!(reply["body"]["body"], "Hello from Impuls!");
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
