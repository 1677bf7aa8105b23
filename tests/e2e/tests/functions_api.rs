//! Managing functions: what is accepted, what is refused and how.

use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, merged, path};
use impuls_e2e::{Data, Launch, Raw, Server, Value, eventually, json, unique, zip_of};
use reqwest::Method;

const ECHO: &str = "exports.handler = async (event) => ({ event });";

fn valid() -> Value {
    json!({"name": unique("valid"), "runtime": "nodejs", "handler": "index.handler", "code": ECHO})
}

#[tokio::test]
async fn a_created_function_can_be_read_back_in_every_way() {
    let server = Server::shared().await;
    let created = server.create(&merged(valid(), &json!({"description": "An echo"}))).await;
    let name = created["name"].as_str().unwrap();
    for member in ["id", "created_at", "updated_at", "revision_id"] {
        assert!(created[member].is_string(), "{member}: {created}");
    }
    assert_eq!((&created["status"], &created["version"]), (&json!("active"), &json!(1)));
    assert_eq!(server.get(&path(name)).await.with_status(200).json(), created);
    assert_eq!(server.get(&path(created["id"].as_str().unwrap())).await.with_status(200).json(), created);
    let list = server.get(FUNCTIONS).await.with_status(200).json();
    let functions = list["functions"].as_array().unwrap();
    assert!(functions.contains(&created));
    assert!(list["count"].as_u64().unwrap() >= functions.len() as u64);
}

#[tokio::test]
async fn a_taken_name_is_a_conflict() {
    let server = Server::shared().await;
    let function = valid();
    server.create(&function).await;
    let message = server.post(FUNCTIONS, &function).await.problem(409);
    assert_eq!(message, format!("function {} already exists", function["name"].as_str().unwrap()));
}

#[tokio::test]
async fn an_unknown_function_is_not_found_by_any_route() {
    let server = Server::shared().await;
    let expected = "function nobody not found";
    assert_eq!(server.get(&path("nobody")).await.problem(404), expected);
    assert_eq!(server.put(&path("nobody"), &json!({"timeout_sec": 5})).await.problem(404), expected);
    assert_eq!(server.delete(&path("nobody")).await.problem(404), expected);
    assert_eq!(server.invoke("nobody", &Value::Null).await.problem(404), expected);
    for route in ["code", "versions", "aliases", "logs"] {
        assert_eq!(
            server.get(&format!("{}/{route}", path("nobody"))).await.problem(404),
            expected,
            "{route}"
        );
    }
    server.get(&path("018f0000-0000-7000-8000-000000000000")).await.problem(404);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_with_the_place() {
    let server = Server::shared().await;
    for body in ["", "{", "nonsense", "{\"name\": 7}", "[]"] {
        let message = server.post_bytes(FUNCTIONS, body).await.problem(400);
        let expected = if body == "[]" { "" } else { "Invalid request body: " };
        assert!(message.starts_with(expected), "{body:?}: {message}");
    }
}

#[tokio::test]
async fn what_is_missing_is_named_in_the_seeds_order() {
    let server = Server::shared().await;
    let mut given = json!({});
    for field in ["name", "runtime", "handler", "code"] {
        let message = server.post(FUNCTIONS, &given).await.problem(400);
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
        given[field] = valid()[field].clone();
    }
    server.create(&given).await;
}

#[tokio::test]
async fn only_plain_names_are_allowed() {
    let server = Server::shared().await;
    let with_name = |name: &str| merged(valid(), &json!({"name": name}));
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    for name in ["a", "A-b_9", "-", &longest] {
        server.create(&with_name(name)).await;
        server.remove(name).await;
    }
    let uuid = "018f0000-0000-7000-8000-000000000000";
    for name in ["", "a b", "../x", "a/b", "a.b", "ä", "a\n", &too_long, uuid] {
        let message = server.post(FUNCTIONS, &with_name(name)).await.problem(400);
        assert!(message.starts_with("name: "), "{name:?}: {message}");
    }
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name() {
    let server = Server::shared().await;
    let fields =
        json!({"description": "d", "memory_mb": 256, "environment": {"A": "1", "B": "2"}, "min_warm": 0});
    let name = server.node_with(ECHO, &fields).await;
    let before = server.get(&path(&name)).await.json();
    let after = server.update(&name, &json!({"timeout_sec": 7})).await;
    assert_eq!((&after["timeout_sec"], &after["version"]), (&json!(7), &json!(2)));
    let changed = ["timeout_sec", "version", "revision_id", "updated_at"];
    for (member, value) in before.as_object().unwrap() {
        assert_eq!(changed.contains(&member.as_str()), after[member] != *value, "{member}");
    }
    let after = server.update(&name, &json!({"environment": {"C": "3"}, "description": null})).await;
    assert_eq!(after["environment"], json!({"C": "3"}));
    assert_eq!(after["description"], "d");
    let patch = server.request(Method::PATCH, &path(&name)).json(&json!({"memory_mb": 0}));
    let after = server.send(patch).await.with_status(200).json();
    assert_eq!((&after["memory_mb"], &after["timeout_sec"]), (&json!(128), &json!(7)));
}

#[tokio::test]
async fn a_change_that_changes_nothing_publishes_nothing() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let same = server.update(&name, &json!({"code": ECHO, "timeout_sec": 30, "name": name})).await;
    assert_eq!(same["version"], 1);
}

#[tokio::test]
async fn a_change_is_checked_like_a_creation() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let refused = [
        json!({"runtime": "cobol"}),
        json!({"handler": "../index.handler"}),
        json!({"handler": ""}),
        json!({"code": ""}),
        json!({"memory_mb": 1}),
        json!({"timeout_sec": -1}),
        json!({"environment": {"IMPULS_X": "1"}}),
        json!({"contract": "other"}),
        json!({"driver": "none"}),
        json!({"network": "on"}),
        json!({"network": {"allow": ["a b"]}}),
        json!({"name": "another"}),
        json!({"zip": "!"}),
        json!({"code": ECHO, "zip": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}),
    ];
    for change in refused {
        server.put(&path(&name), &change).await.problem(400);
    }
    assert_eq!(server.get(&path(&name)).await.json()["version"], 1);
    assert_eq!(server.call(&name, &json!(1)).await, json!({"event": 1}));
}

#[tokio::test]
async fn live_sandboxes_are_listed_with_their_figures() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = async () => 1;").await;
    server.call(&name, &json!(null)).await;
    let list = server.get(&format!("{}/sandboxes", path(&name))).await.with_status(200).json();
    assert_eq!((&list["count"], &list["items"][0]["version"]), (&json!(1), &json!(1)), "{list}");
    let nothing = json!({"packets": 0, "lookups": 0});
    assert_eq!((&list["items"][0]["refused"], &list["refused"]), (&nothing, &nothing), "{list}");
    server.get(&format!("{}/sandboxes", path("nobody-has-this"))).await.with_status(404);
}

#[tokio::test]
async fn a_network_policy_is_kept_with_the_version() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let list = json!({"allow": ["api.example.com:443", "*.example.org", "10.0.0.0/8"]});
    server.put(&path(&name), &json!({"network": list})).await;
    assert_eq!(server.get(&path(&name)).await.json()["network"], list);
    server.put(&path(&name), &json!({"network": "off"})).await;
    assert_eq!(server.call(&name, &json!(1)).await, json!({"event": 1}));
}

#[tokio::test]
async fn who_names_no_network_has_the_one_that_the_operator_chose() {
    for default in ["off", "egress"] {
        let server = Launch::on(&Data::new()).arguments(["--default-network", default]).start().await;
        let name = server.node(ECHO).await;
        assert_eq!(server.get(&path(&name)).await.json()["network"], default);
        // What was chosen then holds, whatever else changes.
        server.put(&path(&name), &json!({"network": "off"})).await;
        server.put(&path(&name), &json!({"timeout_sec": 7})).await;
        assert_eq!(server.get(&path(&name)).await.json()["network"], "off");
    }
}

#[tokio::test]
async fn every_limit_has_a_minimum_and_a_maximum() {
    let server = Server::shared().await;
    // Up to the maximum is not tried for `min_warm`, because that many sandboxes would start.
    let limits = [
        ("memory_mb", json!(64), json!(32_768), json!(63), json!(32_769)),
        ("timeout_sec", json!(1), json!(3_600), json!(-1), json!(3_601)),
        ("concurrency", json!(1), json!(1_000), json!(-1), json!(1_001)),
        ("max_concurrency", json!(1), json!(100_000), json!(-1), json!(100_001)),
        ("vcpu", json!(0.05), json!(64), json!(0.04), json!(64.1)),
        ("idle_timeout_sec", json!(1), json!(86_400), json!(-1), json!(86_401)),
        ("min_warm", json!(0), json!(1), json!(-1), json!(1_001)),
    ];
    for (field, min, max, below, above) in limits {
        for allowed in [min, max] {
            let created = server.create(&merged(valid(), &json!({field: allowed}))).await;
            assert_eq!(created[field].as_f64(), allowed.as_f64(), "{field}");
            server.remove(created["name"].as_str().unwrap()).await;
        }
        for refused in [below, above, json!("1"), json!(1e30)] {
            let message =
                server.post(FUNCTIONS, &merged(valid(), &json!({field: refused}))).await.problem(400);
            assert!(
                message.contains(field) || message.starts_with("Invalid request body"),
                "{field}: {message}"
            );
        }
        let created = server.create(&merged(valid(), &json!({field: 0}))).await;
        server.remove(created["name"].as_str().unwrap()).await;
    }
}

#[tokio::test]
async fn texts_and_maps_are_bounded_too() {
    let server = Server::shared().await;
    for refused in [
        json!({"description": "d".repeat(1_025)}),
        json!({"handler": "h".repeat(256)}),
        json!({"environment": {"A": "x".repeat(65_536)}}),
        json!({"environment": {"1A": "x"}}),
        json!({"environment": {"A": "a\u{0}b"}}),
        json!({"environment": {"IMPULS_FUNCTION_NAME": "x"}}),
    ] {
        server.post(FUNCTIONS, &merged(valid(), &refused)).await.problem(400);
    }
}

#[tokio::test]
async fn an_unknown_runtime_is_refused_with_the_known_ones() {
    let server = Server::shared().await;
    let message = server.post(FUNCTIONS, &merged(valid(), &json!({"runtime": "cobol"}))).await.problem(400);
    for known in ["nodejs20", "nodejs18", "python312", "python311", "nodejs", "python"] {
        assert!(message.contains(known), "{known}: {message}");
    }
}

#[tokio::test]
async fn a_runtime_that_is_not_installed_is_refused_with_what_to_install() {
    let server = Server::shared().await;
    let runtimes = server.get("/api/v1/runtimes").await.with_status(200).json();
    let installed: Vec<&str> = runtimes["runtimes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|runtime| runtime["name"].as_str().unwrap())
        .collect();
    let known = [("nodejs18", "18"), ("nodejs22", "22"), ("python39", "3.9"), ("python314", "3.14")];
    let (absent, version) = known.into_iter().find(|(name, _)| !installed.contains(name)).unwrap();
    let message = server.post(FUNCTIONS, &merged(valid(), &json!({"runtime": absent}))).await.problem(400);
    assert!(
        message.contains("not installed") && message.contains("package") && message.contains(version),
        "{message}"
    );
}

#[tokio::test]
async fn an_alias_of_a_runtime_is_stored_as_its_version() {
    let server = Server::shared().await;
    for alias in ["nodejs", "node"] {
        let created = server.create(&merged(valid(), &json!({"runtime": alias}))).await;
        let runtime = created["runtime"].as_str().unwrap();
        assert!(runtime.starts_with("nodejs") && runtime.len() > "nodejs".len(), "{runtime}");
    }
}

#[tokio::test]
async fn chunked_bodies_are_read() {
    let server = Server::shared().await;
    let function = valid();
    let text = function.to_string();
    let (first, second) = text.split_at(text.len() / 2);
    let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut raw = Raw::open(&server).await;
    raw.write(format!("{}{}", head(FUNCTIONS), chunk(first)).as_bytes()).await;
    raw.write(format!("{}0\r\n\r\n", chunk(second)).as_bytes()).await;
    let reply = raw.reply().await;
    assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
    let invoke = format!("{}/invoke", path(function["name"].as_str().unwrap()));
    raw.write(format!("{}{}", head(&invoke), chunk("{\"a\":")).as_bytes()).await;
    raw.write(format!("{}0\r\n\r\n", chunk("[true]}")).as_bytes()).await;
    let reply = raw.reply().await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("{\"event\":{\"a\":[true]}}"), "{reply}");
}

#[tokio::test]
async fn an_absent_body_is_a_null_event() {
    let server = Server::shared().await;
    let (node, python) =
        (server.node(ECHO), server.python("def handler(event, context):\n    return {'event': event}"));
    for name in [node.await, python.await] {
        let invoke = format!("{}/invoke", path(&name));
        let reply = server.send(server.request(Method::POST, &invoke)).await;
        assert_eq!(reply.result(), json!({"event": null}));
        assert_eq!(server.post_bytes(&invoke, "").await.result(), json!({"event": null}));
    }
}

#[tokio::test]
async fn a_deleted_function_is_gone_and_its_name_free() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    server.call(&name, &Value::Null).await;
    let deleted = server.delete(&path(&name)).await.with_status(200).json();
    assert_eq!(deleted, json!({"message": "Function deleted successfully", "name": name}));
    server.invoke(&name, &Value::Null).await.problem(404);
    server.create(&merged(valid(), &json!({"name": name, "code": "exports.handler = () => 'new'"}))).await;
    assert_eq!(server.call(&name, &Value::Null).await, "new");
}

#[tokio::test]
async fn the_list_has_pages_and_chosen_fields() {
    let server = Server::start().await;
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(server.node(ECHO).await);
    }
    names.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server
            .get(&format!("{FUNCTIONS}?limit=2&fields=name,version{cursor}"))
            .await
            .with_status(200)
            .json();
        assert_eq!(page["count"], 5);
        for function in page["functions"].as_array().unwrap() {
            assert_eq!(function.as_object().unwrap().len(), 2, "{function}");
            seen.push(function["name"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, names, "newest first, each once");
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "fields=colour"] {
        server.get(&format!("{FUNCTIONS}?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn code_is_returned_as_it_was_handed_in() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let code = server.get(&format!("{}/code", path(&name))).await.with_status(200);
    assert_eq!((code.text().as_str(), code.header("content-type")), (ECHO, "text/plain; charset=utf-8"));
    let archive = zip_of(&[("index.js", "exports.handler = () => 'zipped'")]);
    let put = server.request(Method::PUT, &format!("{}/code", path(&name))).body(archive.clone());
    let after = server.send(put).await.with_status(200).json();
    assert_eq!(
        (&after["package"], &after["version"], &after["code"]),
        (&json!("zip"), &json!(2), &Value::Null)
    );
    assert_eq!(server.call(&name, &Value::Null).await, "zipped");
    let code = server.get(&format!("{}/code", path(&name))).await.with_status(200);
    assert_eq!((code.bytes.clone(), code.header("content-type")), (archive, "application/zip"));
    let old = server.get(&format!("{}/code?qualifier=1", path(&name))).await.with_status(200);
    assert_eq!(old.text(), ECHO);
}

#[tokio::test]
async fn a_hostile_archive_is_refused() {
    let server = Server::shared().await;
    let url = format!("{FUNCTIONS}?name={}&runtime=nodejs&handler=index.handler", unique("zip"));
    let upload = |bytes: Vec<u8>| {
        server.request(Method::POST, &url).header("content-type", "application/zip").body(bytes)
    };
    for name in ["../evil.js", "/etc/evil.js", "a/../../evil.js"] {
        let message = server.send(upload(zip_of(&[("index.js", ECHO), (name, "")]))).await.problem(400);
        assert!(message.starts_with("zip: "), "{name}: {message}");
    }
    server.send(upload(b"PK no archive".to_vec())).await.problem(400);
    let mut twice = zip_of(&[("index.js", ECHO), ("one.js", ""), ("two.js", "")]);
    while let Some(at) = twice.windows(6).position(|name| name == b"two.js") {
        twice[at..at + 6].copy_from_slice(b"one.js");
    }
    let message = server.send(upload(twice)).await.problem(400);
    assert!(message.contains("more than one entry at \"one.js\""), "{message}");
    let zeros = "\0".repeat(251 * 1024 * 1024);
    let message = server.send(upload(zip_of(&[("index.js", ECHO), ("zeros", &zeros)]))).await.problem(400);
    assert!(message.contains("\"zeros\""), "{message}");
    server.send(upload(zip_of(&[("index.js", ECHO)]))).await.with_status(201);
}

#[tokio::test]
async fn wrong_paths_and_methods_are_named() {
    let server = Server::shared().await;
    server.get("/api/v2/functions").await.problem(404);
    let name = server.node(ECHO).await;
    let reply = server.get(&format!("{}/invoke", path(&name))).await;
    assert_eq!(reply.header("allow"), "POST");
    reply.problem(405);
    let reply = server.delete(FUNCTIONS).await;
    assert!(reply.header("allow").contains("POST"));
    reply.problem(405);
}

#[tokio::test]
async fn nonsense_on_the_wire_harms_nobody() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let huge = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let nonsense = [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /api/v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /api/v1/functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /api/v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        &huge,
    ];
    for bytes in nonsense {
        let mut raw = Raw::open(&server).await;
        raw.try_write(bytes.as_bytes()).await;
        drop(raw);
        assert_eq!(server.call(&name, &json!(1)).await, json!({"event": 1}));
    }
    let mut raw = Raw::open(&server).await;
    raw.try_write(huge.as_bytes()).await;
    let reply = raw.reply().await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[tokio::test]
async fn concurrent_creations_of_one_name_have_one_winner() {
    let server = Server::shared().await;
    let function = valid();
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let (server, function) = (server.clone(), function.clone());
            tokio::spawn(async move { server.post(FUNCTIONS, &function).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for attempt in attempts {
        statuses.push(attempt.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    let probe = async || {
        (server.call(function["name"].as_str()?, &json!(2)).await == json!({"event": 2})).then_some(())
    };
    eventually("the winner answers", Duration::from_secs(5), probe).await;
}
