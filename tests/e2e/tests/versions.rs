//! Versions, aliases, rollback, records of calls, raw replies.

use std::collections::HashMap;

use impuls_e2e::functions::path;
use impuls_e2e::{Server, Value, json};
use reqwest::Method;

async fn three_versions(server: &Server) -> String {
    let code = |version: usize| {
        format!("exports.handler = (event, context) => [{version}, context.functionVersion];")
    };
    let name = server.node(&code(1)).await;
    for version in 2..=3 {
        server.update(&name, &json!({"code": code(version)})).await;
    }
    name
}

async fn call(server: &Server, name: &str, qualifier: &str) -> Value {
    server.post(&format!("{}/invoke?qualifier={qualifier}", path(name)), &Value::Null).await.result()
}

#[tokio::test]
async fn every_version_can_be_called() {
    let server = Server::shared().await;
    let name = three_versions(&server).await;
    assert_eq!(server.call(&name, &Value::Null).await, json!([3, "3"]));
    for (qualifier, expected) in [("1", 1), ("2", 2), ("3", 3), ("$LATEST", 3), ("%24LATEST", 3)] {
        let result = call(&server, &name, qualifier).await;
        assert_eq!(result[0], expected, "{qualifier}");
    }
    let reply = server.post(&format!("{}/invoke?qualifier=2&local=true", path(&name)), &Value::Null).await;
    assert_eq!(reply.json()["version"], 2);
    for (qualifier, status) in [("4", 404), ("nobody", 404), ("0", 400), ("a b", 400), ("", 400)] {
        let url = format!("{}/invoke?qualifier={}", path(&name), qualifier.replace(' ', "%20"));
        server.post(&url, &Value::Null).await.problem(status);
    }
}

#[tokio::test]
async fn versions_are_listed_newest_first() {
    let server = Server::shared().await;
    let name = three_versions(&server).await;
    let list = server.get(&format!("{}/versions", path(&name))).await.with_status(200).json();
    let numbers: Vec<u64> =
        list["versions"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    let page = server.get(&format!("{}/versions?limit=2", path(&name))).await.with_status(200).json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest =
        server.get(&format!("{}/versions?limit=2&cursor={next}", path(&name))).await.with_status(200).json();
    assert_eq!((rest["versions"][0]["version"].as_u64(), rest["count"].as_u64()), (Some(1), Some(1)));
    let one = server.get(&format!("{}/versions/2", path(&name))).await.with_status(200).json();
    assert_eq!(one["version"], 2);
    server.get(&format!("{}/versions/9", path(&name))).await.problem(404);
}

#[tokio::test]
async fn rollback_publishes_an_old_version_anew() {
    let server = Server::shared().await;
    let name = three_versions(&server).await;
    let back = server.post(&format!("{}/rollback", path(&name)), &json!({})).await.with_status(200).json();
    assert_eq!(back["version"], 4);
    assert_eq!(server.call(&name, &Value::Null).await, json!([2, "4"]));
    server.post(&format!("{}/rollback", path(&name)), &json!({"version": 1})).await.with_status(200);
    assert_eq!(server.call(&name, &Value::Null).await, json!([1, "5"]));
    server.post(&format!("{}/rollback", path(&name)), &json!({"version": 99})).await.problem(404);
    let single = server.node("exports.handler = () => 1;").await;
    let rollback = server.request(Method::POST, &format!("{}/rollback", path(&single)));
    server.send(rollback).await.problem(409);
}

#[tokio::test]
async fn an_alias_keeps_pointing_at_its_version() {
    let server = Server::shared().await;
    let name = three_versions(&server).await;
    let alias = format!("{}/aliases/prod", path(&name));
    let put = server.put(&alias, &json!({"version": 2, "description": "live"})).await.with_status(200).json();
    assert_eq!(put["versions"], json!([{"version": 2, "weight": 1}]));
    assert_eq!(server.get(&alias).await.with_status(200).json(), put);
    assert_eq!(call(&server, &name, "prod").await, json!([2, "2"]));
    server.update(&name, &json!({"code": "exports.handler = () => [4];"})).await;
    assert_eq!(call(&server, &name, "prod").await, json!([2, "2"]));
    server.put(&alias, &json!({"version": 3})).await.with_status(200);
    assert_eq!(call(&server, &name, "prod").await, json!([3, "3"]));
    let list = server.get(&format!("{}/aliases", path(&name))).await.with_status(200).json();
    assert_eq!((list["count"].as_u64(), list["aliases"][0]["name"].as_str()), (Some(1), Some("prod")));
    server.delete(&alias).await.with_status(200);
    server.delete(&alias).await.problem(404);
    server.post(&format!("{}/invoke?qualifier=prod", path(&name)), &Value::Null).await.problem(404);
}

#[tokio::test]
async fn an_alias_divides_calls_by_weight() {
    let server = Server::shared().await;
    let name = three_versions(&server).await;
    let versions =
        json!([{"version": 1, "weight": 1}, {"version": 2, "weight": 1}, {"version": 3, "weight": 0}]);
    server
        .put(&format!("{}/aliases/split", path(&name)), &json!({"versions": versions}))
        .await
        .with_status(200);
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for _ in 0..80 {
        *seen.entry(call(&server, &name, "split").await[0].as_u64().unwrap()).or_default() += 1;
    }
    // Each of the two has 40 on average; less than 15 happens once in a hundred million runs.
    assert!(seen[&1] >= 15 && seen[&2] >= 15 && !seen.contains_key(&3), "{seen:?}");
}

#[tokio::test]
async fn a_wrong_alias_is_refused() {
    let server = Server::shared().await;
    let name = three_versions(&server).await;
    let put =
        async |alias: &str, body: Value| server.put(&format!("{}/aliases/{alias}", path(&name)), &body).await;
    put("prod", json!({"version": 9})).await.problem(404);
    for body in [
        json!({}),
        json!({"version": 0}),
        json!({"versions": []}),
        json!({"version": 1, "versions": [{"version": 2}]}),
        json!({"versions": [{"version": 1, "weight": 0}]}),
    ] {
        put("prod", body).await.problem(400);
    }
    for alias in ["7", "a.b", "$LATEST"] {
        put(alias, json!({"version": 1})).await.problem(400);
    }
}

#[tokio::test]
async fn past_calls_are_recorded_with_their_logs() {
    let server = Server::shared().await;
    let code = "exports.handler = (event) => { console.log('call', event); if (event % 2) throw new Error('odd'); };";
    let name = server.node(code).await;
    let mut ids = Vec::new();
    for event in 0..6 {
        ids.push(server.invoke(&name, &json!(event)).await.json()["request_id"].clone());
    }
    ids.reverse();
    let records =
        async |query: &str| server.get(&format!("{}/logs{query}", path(&name))).await.with_status(200).json();
    let all = records("").await;
    let found: Vec<&Value> = all["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(found, ids.iter().collect::<Vec<_>>(), "newest first, every answered call");
    let newest = &all["items"][0];
    assert_eq!(
        (&newest["status"], &newest["logs"], &newest["version"]),
        (&json!("failed"), &json!("[INFO] call 5"), &json!(1))
    );
    assert_eq!(
        (&newest["error"]["type"], &newest["error"]["message"]),
        (&json!("FunctionError"), &json!("odd"))
    );
    assert!(newest["duration_ms"].is_f64() && newest["started_at"].is_string(), "{newest}");
    let first = &all["items"][5];
    assert!(first["init_ms"].is_f64(), "the first call was a cold start: {first}");
    let failed = records("?status=failed").await;
    assert_eq!(failed["count"], 3);
    let page = records("?limit=2&offset=1").await;
    assert_eq!((&page["items"][0]["id"], &page["count"]), (&ids[1], &json!(2)));
    for query in ["?limit=0", "?limit=201", "?status=odd", "?offset=-1"] {
        server.get(&format!("{}/logs{query}", path(&name))).await.problem(400);
    }
}

#[tokio::test]
async fn a_timeout_is_recorded_as_one() {
    let server = Server::shared().await;
    let name =
        server.node_with("exports.handler = () => new Promise(() => {});", &json!({"timeout_sec": 1})).await;
    server.invoke(&name, &Value::Null).await.failure(504, "Timeout");
    let records = server.get(&format!("{}/logs?status=timeout", path(&name))).await.with_status(200).json();
    assert_eq!((&records["count"], &records["items"][0]["error"]["type"]), (&json!(1), &json!("Timeout")));
}

#[tokio::test]
async fn a_raw_reply_is_the_functions_own() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = (event) => event;").await;
    let raw = async |event: Value| server.post(&format!("{}/invoke?raw=true", path(&name)), &event).await;
    let reply = raw(json!({"statusCode": 404, "headers": {"X-Thing": "a", "Content-Type": "text/html"}, "body": "<p>no</p>"})).await;
    assert_eq!((reply.status, reply.text().as_str()), (404, "<p>no</p>"));
    assert_eq!((reply.header("x-thing"), reply.header("content-type")), ("a", "text/html"));
    assert!(!reply.header("x-impuls-request-id").is_empty());
    let reply = raw(
        json!({"statusCode": 201, "body": "aGVsbG8=", "isBase64Encoded": true, "cookies": ["a=1", "b=2"]}),
    )
    .await;
    assert_eq!((reply.status, reply.text().as_str()), (201, "hello"));
    assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2);
    let reply = raw(json!({"statusCode": 200, "body": {"a": 1}})).await.with_status(200);
    assert_eq!((reply.json(), reply.header("content-type")), (json!({"a": 1}), "application/json"));
    raw(json!({"statusCode": 204})).await.with_status(204);
    for whole in
        [json!({"a": 1}), json!([1, 2]), json!("text"), json!(null), json!({"status": 200, "body": "x"})]
    {
        let reply = raw(whole.clone()).await.with_status(200);
        assert_eq!((reply.json(), reply.header("content-type")), (whole, "application/json"));
    }
    for wrong in [
        json!({"statusCode": 99}),
        json!({"statusCode": "x"}),
        json!({"statusCode": 200, "headers": {"a b": "1"}}),
    ] {
        raw(wrong).await.failure(500, "BadResponse");
    }
}

#[tokio::test]
async fn raw_and_local_are_switches() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = () => ({ statusCode: 418, body: 'teapot' });").await;
    let status = async |query: &str| {
        server.post(&format!("{}/invoke?{query}", path(&name)), &Value::Null).await.status
    };
    for (query, expected) in
        [("raw=true", 418), ("raw", 418), ("raw=1", 418), ("raw=false", 200), ("local=true&raw=0", 200)]
    {
        assert_eq!(status(query).await, expected, "{query}");
    }
    for (query, expected) in [("local=maybe", 400), ("raw=maybe", 400), ("unknown=x", 200)] {
        assert_eq!(status(query).await, expected, "{query}");
    }
    let failing = server.node("exports.handler = () => { throw new Error('no'); };").await;
    server
        .post(&format!("{}/invoke?raw=true", path(&failing)), &Value::Null)
        .await
        .failure(500, "FunctionError");
}

#[tokio::test]
async fn the_environment_of_a_version_never_changes() {
    let server = Server::shared().await;
    let fields = json!({"environment": {"COLOUR": "red"}});
    let name = server.node_with("exports.handler = () => process.env.COLOUR;", &fields).await;
    server.update(&name, &json!({"environment": {"COLOUR": "blue"}})).await;
    assert_eq!(call(&server, &name, "1").await, "red");
    assert_eq!(call(&server, &name, "2").await, "blue");
    assert_eq!(call(&server, &name, "1").await, "red");
}
