//! Calls that nobody waits for: accepted, retried, told, cancelled, driven again, and never lost.

#![allow(clippy::indexing_slicing, reason = "a test that does not find what it expects panics")]

use std::sync::Arc;
use std::time::Duration;

use impuls_e2e::functions::{marked, path};
use impuls_e2e::{Data, Launch, Reply, Server, Value, eventually, json, unique};
use reqwest::Method;

/// How long something that takes moments may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Echoes; fails with the event's `fail`, or as long as the attempt that the event counts to is not reached.
const ECHO: &str = "exports.handler = async (event) => { if (event && event.fail) throw new Error(event.fail); return { echo: event }; };";

async fn submit(server: &Server, name: &str, query: &str, event: &Value) -> Value {
    let reply = server.post(&format!("{}/invocations{query}", path(name)), event).await.with_status(202);
    let location = reply.header("location").to_owned();
    let accepted = reply.json();
    assert_eq!(location, format!("/api/v1/invocations/{}", id(&accepted)), "{accepted}");
    accepted
}

fn id(invocation: &Value) -> &str {
    invocation["id"].as_str().unwrap_or_default()
}

async fn look(server: &Server, id: &str) -> Value {
    server.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json()
}

/// Waits for the end, as clients do: by long polls.
async fn ended(server: &Server, id: &str) -> Value {
    let path = format!("/api/v1/invocations/{id}?wait=20s");
    let look = async || {
        let found = server.get(&path).await.with_status(200).json();
        (found["completed_at"].is_string()).then_some(found)
    };
    eventually("the invocation ends", SOON, look).await
}

async fn list(server: &Server, query: &str) -> Vec<Value> {
    let reply = server.get(&format!("/api/v1/invocations{query}")).await.with_status(200).json();
    reply["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_call_is_accepted_run_and_looked_up() {
    let server = Server::shared().await;
    let name = server.node(&format!("{ECHO} console.log('loaded');")).await;
    let accepted = submit(&server, &name, "", &json!({"a": 1})).await;
    assert_eq!((&accepted["kind"], &accepted["function"]), (&json!("call"), &json!(name)), "{accepted}");
    let done = ended(&server, id(&accepted)).await;
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!({"echo": {"a": 1}})),
        "{done}"
    );
    assert_eq!((&done["event"], &done["attempts"]), (&json!({"a": 1}), &json!(1)), "{done}");
    let listed = list(&server, &format!("?function={name}&status=succeeded")).await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &accepted["id"]));
    assert_eq!(listed[0]["result"], Value::Null, "lists do not hold what may be large");
    let logs = server.get(&format!("{}/logs", path(&name))).await.with_status(200).json();
    assert_eq!(logs["items"][0]["id"], accepted["id"], "it is a call like any other: {logs}");
}

#[tokio::test]
async fn pages_follow_one_another_and_times_bound_them() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(id(&submit(&server, &name, "?delay=1h", &json!(n)).await).to_owned());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let query = format!("/api/v1/invocations?function={name}&status=queued&limit=2{cursor}");
        let page = server.get(&query).await.with_status(200).json();
        seen.extend(page["items"].as_array().into_iter().flatten().map(|item| id(item).to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
    let second = look(&server, &ids[3]).await["created_at"].as_str().unwrap_or_default().to_owned();
    let since = list(&server, &format!("?function={name}&since={second}")).await;
    let until = list(&server, &format!("?function={name}&until={second}")).await;
    assert_eq!((since.len(), until.len()), (4, 1));
    let own = server.get(&format!("{}/invocations?status=queued", path(&name))).await.with_status(200).json();
    assert_eq!(own["count"], 5, "{own}");
}

#[tokio::test]
async fn a_key_returns_the_first_invocation_however_many_ask_at_once() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let submit = |key: &str, event: Value| {
        let (server, path, key) = (server.clone(), format!("{}/invocations", path(&name)), key.to_owned());
        async move {
            let request = server.request(Method::POST, &path).header("Idempotency-Key", key).json(&event);
            server.send(request).await
        }
    };
    let asking: Vec<_> = (0..20).map(|_| tokio::spawn(submit("k", json!({"a": 1})))).collect();
    let mut ids = Vec::new();
    for asked in asking {
        let reply: Reply = asked.await.unwrap_or_else(|error| unreachable!("{error}"));
        ids.push(id(&reply.with_status(202).json()).to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    ended(&server, &ids[0]).await;
    assert_eq!(id(&submit("k", json!({"a": 1})).await.with_status(202).json()), ids[0], "also afterwards");
    let refused = submit("k", json!({"a": 2})).await.problem(409);
    assert!(refused.contains(&ids[0]) && refused.contains("Idempotency-Key"), "{refused}");
    submit("other", json!({"a": 2})).await.with_status(202);
    submit(&"k".repeat(256), json!(1)).await.problem(400);
    assert_eq!(list(&server, &format!("?function={name}")).await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_says_why() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let ask =
        async |query: &str| server.post(&format!("{}/invocations{query}", path(&name)), &json!(1)).await;
    for (query, word) in [
        ("?delay=8d", "delay_ms"),
        ("?delay=soon", "delay"),
        ("?timeout=0s", "timeout"),
        ("?max_retries=11", "max_retries"),
        ("?retry_delay=1ms", "retry_delay_ms"),
        ("?max_age=1s", "max_age_ms"),
        ("?qualifier=a%20b", "qualifier"),
    ] {
        let refused = ask(query).await.problem(400);
        assert!(refused.contains(word), "{query}: {refused}");
    }
    ask("?qualifier=7").await.problem(404);
    server.post("/api/v1/functions/nobody/invocations", &json!(1)).await.problem(404);
    server.get("/api/v1/invocations/01890a5d-ac96-774b-bcce-b302099a8057").await.problem(404);
    server.get("/api/v1/invocations/x").await.problem(400);
    server.get("/api/v1/invocations?status=lost").await.problem(400);
    server.get("/api/v1/invocations?since=yesterday").await.problem(400);
    server.get("/api/v1/invocations?limit=1000").await.problem(400);
    server.post_bytes(&format!("{}/invocations", path(&name)), vec![b'1'; 7 << 20]).await.problem(413);
}

#[tokio::test]
async fn failures_are_tried_again_and_then_are_dead_letters_that_can_be_driven_again() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let query = "?max_retries=2&retry_delay=100ms";
    let failing = submit(&server, &name, query, &json!({"fail": "broken"})).await;
    let dead = ended(&server, id(&failing)).await;
    assert_eq!((&dead["status"], &dead["attempts"]), (&json!("dead"), &json!(3)), "{dead}");
    assert_eq!(
        (&dead["error"]["message"], &dead["trouble"]["failures"]),
        (&json!("broken"), &json!(2)),
        "{dead}"
    );
    let once = submit(&server, &name, "?max_retries=0&dead_letter=false", &json!({"fail": "x"})).await;
    assert_eq!(ended(&server, id(&once)).await["status"], "failed");
    let refused =
        server.post(&format!("/api/v1/invocations/{}/redrive", id(&once)), &json!({})).await.problem(409);
    assert!(refused.contains("dead letters"), "{refused}");
    // The owner repairs the function, and drives one letter, then all.
    let more = submit(&server, &name, "?max_retries=0", &json!({"fail": "y"})).await;
    ended(&server, id(&more)).await;
    server.update(&name, &json!({"code": "exports.handler = async () => 'repaired';"})).await;
    server.post(&format!("/api/v1/invocations/{}/redrive", id(&failing)), &json!({})).await.with_status(202);
    let again = ended(&server, id(&failing)).await;
    assert_eq!((&again["status"], &again["result"]), (&json!("succeeded"), &json!("repaired")), "{again}");
    assert_eq!(again["attempts"], 4, "attempts count on");
    let all = server.post(&format!("{}/invocations/redrive", path(&name)), &json!({})).await.with_status(202);
    assert_eq!(all.json(), json!({"redriven": 1}));
    assert_eq!(ended(&server, id(&more)).await["status"], "succeeded");
}

#[tokio::test]
async fn a_functions_settings_hold_for_its_calls() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let settings = format!("{}/async", path(&name));
    assert_eq!(server.get(&settings).await.with_status(200).json()["max_retries"], 2);
    let put = server
        .put(&settings, &json!({"max_retries": 1, "retry_delay_ms": 100}))
        .await
        .with_status(200)
        .json();
    assert_eq!(
        (&put["max_retries"], &put["dead_letter"], &put["on_success"]),
        (&json!(1), &json!(true), &Value::Null)
    );
    let failing = submit(&server, &name, "", &json!({"fail": "x"})).await;
    assert_eq!(ended(&server, id(&failing)).await["attempts"], 2);
    server.put(&settings, &json!({"max_retries": 99})).await.problem(400);
    server.put(&settings, &json!({"on_failure": {"function": "nobody"}})).await.problem(404);
    server.put(&settings, &json!({"on_failure": {"url": "ftp://x"}})).await.problem(400);
    server.put(&settings, &json!({"on_failure": {}})).await.problem(400);
    server.delete(&settings).await.with_status(200);
    assert_eq!(server.get(&settings).await.json()["max_retries"], 2);
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_end() {
    let server = Server::shared().await;
    let name =
        server.node("exports.handler = (event) => new Promise((r) => setTimeout(r, event, 'late'));").await;
    let accepted = submit(&server, &name, "", &json!(1_000)).await;
    let found = server.get(&format!("/api/v1/invocations/{}?wait=60s", id(&accepted))).await.json();
    assert_eq!((&found["status"], &found["result"]), (&json!("succeeded"), &json!("late")), "{found}");
    let waiting = submit(&server, &name, "?delay=1h", &json!(1)).await;
    let found = server.get(&format!("/api/v1/invocations/{}?wait=50ms", id(&waiting))).await.json();
    assert_eq!(found["status"], "queued", "the time was over: {found}");
    server.get(&format!("/api/v1/invocations/{}?wait=forever", id(&waiting))).await.problem(400);
}

#[tokio::test]
async fn cancelling_stops_what_waits_and_what_runs() {
    let server = Server::shared().await;
    let mark = unique("cancel");
    let name = server.node(&marked(&mark, "await new Promise(() => {});")).await;
    let waiting = submit(&server, &name, "?delay=1h", &json!(1)).await;
    let running = submit(&server, &name, "?timeout=300s", &json!(1)).await;
    let is_running = async || (look(&server, id(&running)).await["status"] == "running").then_some(());
    eventually("it runs", SOON, is_running).await;
    for invocation in [&waiting, &running] {
        let path = format!("/api/v1/invocations/{}", id(invocation));
        assert_eq!(server.delete(&path).await.with_status(200).json()["status"], "cancelled");
        let refused = server.delete(&path).await.problem(409);
        assert!(refused.contains("cancelled"), "{refused}");
        assert_eq!(look(&server, id(invocation)).await["error"]["type"], "Cancelled");
    }
    let records = async || {
        let logs = server.get(&format!("{}/logs", path(&name))).await.with_status(200).json();
        (logs["items"][0]["status"] == "cancelled").then_some(())
    };
    eventually("the call is stopped", SOON, records).await;
    assert_eq!(look(&server, id(&running)).await["status"], "cancelled", "nothing comes after it");
}

/// What a destination got.
async fn told(server: &Server, name: &str) -> Value {
    let arrived =
        async || list(server, &format!("?function={name}&status=succeeded")).await.into_iter().next();
    let arrived = eventually("the destination is told", SOON, arrived).await;
    look(server, id(&arrived)).await
}

#[tokio::test]
async fn ends_are_told_to_functions_along_a_chain() {
    let server = Server::shared().await;
    let [first, second, third] = [
        server.node(ECHO).await,
        server.node("exports.handler = (e) => { throw new Error('second'); };").await,
        server.node(ECHO).await,
    ];
    let to = |name: &str| json!({"function": name});
    let put = async |name: &str, settings: Value| {
        server.put(&format!("{}/async", path(name)), &settings).await.with_status(200)
    };
    put(&first, json!({"on_success": to(&second)})).await;
    put(&second, json!({"max_retries": 0, "on_failure": to(&third)})).await;
    let accepted = submit(&server, &first, "", &json!({"a": 1})).await;
    let last = told(&server, &third).await;
    let event = &last["event"];
    assert_eq!((&event["function"], &event["status"]), (&json!(second), &json!("dead")), "{last}");
    assert_eq!(event["error"]["message"], "second");
    let inner = &event["event"];
    assert_eq!((&inner["invocation_id"], &inner["status"]), (&accepted["id"], &json!("succeeded")), "{last}");
    assert_eq!((&inner["event"], &inner["result"]), (&json!({"a": 1}), &json!({"echo": {"a": 1}})));
    let middle = list(&server, &format!("?function={second}")).await;
    assert_eq!((&middle[0]["origin"], &last["origin"]), (&accepted["id"], &middle[0]["id"]));
}

#[tokio::test]
async fn a_circle_of_destinations_comes_to_an_end() {
    let server = Server::shared().await;
    let name = server.node("exports.handler = async () => 1;").await;
    server
        .put(&format!("{}/async", path(&name)), &json!({"on_success": {"function": name}}))
        .await
        .with_status(200);
    submit(&server, &name, "", &json!(1)).await;
    let all = async || {
        let all = list(&server, &format!("?function={name}&status=succeeded")).await;
        (all.len() >= 17).then_some(all)
    };
    assert_eq!(eventually("the last of them has ended", SOON, all).await.len(), 17);
    assert_eq!(list(&server, &format!("?function={name}")).await.len(), 17);
}

/// The URL of a function that notes what it is sent.
async fn receiver(server: &Server) -> (String, String) {
    let name = server.node("exports.handler = async (e) => ({ statusCode: e.rawPath === '/bad' ? 500 : 200, body: 'thanks' });").await;
    let url = server.url(&format!("/fn/{name}"));
    (name, url)
}

#[tokio::test]
async fn ends_are_posted_to_hooks_that_the_operator_allows() {
    let data = Data::new();
    let server = Launch::on(&data).arguments(["--hook-allow", "127.0.0.0/8"]).start().await;
    let (_receiver, url) = receiver(&server).await;
    let name = server.node(ECHO).await;
    let settings = json!({
        "max_retries": 1, "retry_delay_ms": 100,
        "on_success": {"url": format!("{url}/good")}, "on_failure": {"url": format!("{url}/bad")},
    });
    server.put(&format!("{}/async", path(&name)), &settings).await.with_status(200);
    let good = submit(&server, &name, "", &json!({"a": 1})).await;
    let bad = submit(&server, &name, "", &json!({"fail": "x"})).await;
    let hook = async |origin: &Value, status: &str| {
        let found = async || {
            let all = list(&server, &format!("?function={name}&status={status}")).await;
            all.into_iter().find(|one| one["origin"] == origin["id"])
        };
        let found = eventually("the hook has an end", SOON, found).await;
        look(&server, id(&found)).await
    };
    let taken = hook(&good, "succeeded").await;
    assert_eq!(
        (&taken["kind"], &taken["result"]),
        (&json!("hook"), &json!({"status": 200, "body": "thanks"})),
        "{taken}"
    );
    let refused = hook(&bad, "dead").await;
    assert_eq!(
        (&refused["attempts"], &refused["error"]["type"]),
        (&json!(2), &json!("HookError")),
        "{refused}"
    );
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("500")), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn hooks_do_not_reach_the_server_itself() {
    let server = Server::shared().await;
    let (receiver, url) = receiver(&server).await;
    let name = server.node(ECHO).await;
    server
        .put(&format!("{}/async", path(&name)), &json!({"on_success": {"url": url}}))
        .await
        .with_status(200);
    submit(&server, &name, "", &json!(1)).await;
    let dead = async || list(&server, &format!("?function={name}&status=dead")).await.into_iter().next();
    let dead = eventually("the hook is given up", SOON, dead).await;
    assert_eq!(dead["attempts"], 1, "another attempt would not help: {dead}");
    assert!(dead["error"]["message"].as_str().is_some_and(|text| text.contains("--hook-allow")), "{dead}");
    let logs = server.get(&format!("{}/logs", path(&receiver))).await.with_status(200).json();
    assert_eq!(logs["count"], 0, "nobody was called: {logs}");
}

/// Invocations of each kind before the server is killed.
const EACH: usize = 40;

#[tokio::test]
async fn nothing_that_was_accepted_is_lost_when_the_server_is_killed() {
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let echo = server.node(ECHO).await;
    let slow = server.node("exports.handler = (e) => new Promise((r) => setTimeout(r, 300, e));").await;
    let mut expected = Vec::new();
    for n in 0..EACH {
        let delayed = submit(&server, &echo, "?delay=2s", &json!(n)).await;
        let running = submit(&server, &slow, "", &json!(n)).await;
        let retried =
            submit(&server, &echo, "?max_retries=1&retry_delay=2s", &json!({"fail": n.to_string()})).await;
        expected.push((delayed, "succeeded"));
        expected.push((running, "succeeded"));
        expected.push((retried, "dead"));
    }
    server
        .put(&format!("{}/async", path(&echo)), &json!({"on_success": {"function": slow}}))
        .await
        .with_status(200);
    let last = submit(&server, &echo, "", &json!("told")).await;
    server.kill().await;
    let server = Launch::on(&data).start().await;
    for (accepted, status) in &expected {
        let done = ended(&server, id(accepted)).await;
        assert_eq!(done["status"], *status, "{done}");
    }
    ended(&server, id(&last)).await;
    let told = async || {
        let all = list(&server, &format!("?function={slow}&status=succeeded&limit=200")).await;
        let told: Vec<_> = all.into_iter().filter(|one| one["origin"] == last["id"]).collect();
        (!told.is_empty()).then_some(told)
    };
    assert_eq!(eventually("the end is told", SOON, told).await.len(), 1, "once");
    for status in ["queued", "running"] {
        assert_eq!(list(&server, &format!("?status={status}")).await, Vec::<Value>::new());
    }
    server.stop().await;
}

#[tokio::test]
async fn what_kills_its_worker_again_and_again_is_given_up() {
    let data = Data::new();
    let mut server = Launch::on(&data).start().await;
    let name = server.node("exports.handler = () => new Promise(() => {});").await;
    let accepted = submit(&server, &name, "?timeout=300s", &json!(1)).await;
    for attempt in 1..=3 {
        let is_running = async || {
            let found = look(&server, id(&accepted)).await;
            (found["status"] == "running" && found["attempts"] == attempt).then_some(())
        };
        eventually("it runs", SOON, is_running).await;
        server.kill().await;
        server = Launch::on(&data).start().await;
    }
    let dead = ended(&server, id(&accepted)).await;
    assert_eq!((&dead["status"], &dead["trouble"]["worker_deaths"]), (&json!("dead"), &json!(3)), "{dead}");
    assert!(dead["error"]["message"].as_str().is_some_and(|text| text.contains("died 3 times")), "{dead}");
    server.stop().await;
}

#[tokio::test]
async fn stopping_the_server_is_no_death_of_a_worker() {
    let data = Data::new();
    let server = Launch::on(&data).arguments(["--shutdown-timeout", "100ms"]).start().await;
    let name = server.node("exports.handler = () => new Promise(() => {});").await;
    let accepted = submit(&server, &name, "?timeout=300s", &json!(1)).await;
    let is_running = async || (look(&server, id(&accepted)).await["status"] == "running").then_some(());
    eventually("it runs", SOON, is_running).await;
    server.stop().await;
    let server = Launch::on(&data).arguments(["--shutdown-timeout", "100ms"]).start().await;
    let again = async || {
        let found = look(&server, id(&accepted)).await;
        (found["attempts"] == 2).then_some(found)
    };
    let again = eventually("it runs again", SOON, again).await;
    assert_eq!(again["trouble"]["worker_deaths"], 0, "{again}");
    server.delete(&format!("/api/v1/invocations/{}", id(&accepted))).await.with_status(200);
    server.stop().await;
}

/// The invocations that a schedule has made.
async fn ticks(server: &Server, name: &str, at_least: usize) -> Vec<Value> {
    let enough = async || {
        let all = list(server, &format!("?function={name}&status=succeeded")).await;
        (all.len() >= at_least).then_some(all)
    };
    eventually("the schedule ticks", SOON, enough).await
}

#[tokio::test]
async fn a_schedule_calls_its_function_again_and_again() {
    let server = Server::shared().await;
    let name = server.node(ECHO).await;
    let schedules = format!("{}/schedules", path(&name));
    let made =
        server.post(&schedules, &json!({"name": "often", "interval_sec": 1})).await.with_status(201).json();
    assert!(made["next_tick"].is_string() && made["enabled"] == true, "{made}");
    let all = ticks(&server, &name, 2).await;
    let first = look(&server, id(&all[0])).await;
    assert_eq!(first["event"]["schedule"], "often", "{first}");
    assert!(first["event"]["time"].is_string(), "{first}");
    server.post(&schedules, &json!({"name": "often", "interval_sec": 9})).await.problem(409);
    let one = format!("{schedules}/often");
    let changed =
        json!({"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin", "event": {"x": 1}, "enabled": false});
    let changed = server.put(&one, &changed).await.with_status(200).json();
    assert_eq!((&changed["next_tick"], &changed["event"]), (&Value::Null, &json!({"x": 1})), "{changed}");
    let listed = server.get(&schedules).await.with_status(200).json();
    assert_eq!(
        (&listed["count"], &listed["schedules"][0]["time_zone"]),
        (&json!(1), &json!("Europe/Berlin"))
    );
    assert!(server.get(&one).await.with_status(200).json()["last_tick"].is_string());
    server.delete(&one).await.with_status(200);
    server.get(&one).await.problem(404);
    for (bad, word) in [
        (json!({"name": "x"}), "cron"),
        (json!({"name": "x", "cron": "* * * *"}), "five fields"),
        (json!({"name": "x", "cron": "* * * * *", "time_zone": "Mars/Base"}), "Europe/Berlin"),
        (json!({"name": "x", "cron": "0 0 31 2 *"}), "never"),
        (json!({"name": "x", "interval_sec": 0}), "interval"),
        (json!({"name": "a b", "interval_sec": 5}), "name"),
        (json!({"interval_sec": 5}), "name"),
    ] {
        let refused = server.post(&schedules, &bad).await.problem(400);
        assert!(refused.contains(word), "{bad}: {refused}");
    }
}

/// The second of the day in a time like `2026-01-31T12:00:05.5Z`.
fn second(time: &Value) -> i64 {
    let clock = time.as_str().and_then(|text| text.get(11..19)).unwrap_or_default().to_owned();
    clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap_or_default())
}

#[tokio::test]
async fn missed_ticks_are_made_up_by_one() {
    const INTERVAL: i64 = 3;
    let data = Data::new();
    let server = Launch::on(&data).start().await;
    let name = server.node(ECHO).await;
    let schedules = format!("{}/schedules", path(&name));
    server.post(&schedules, &json!({"name": "s", "interval_sec": INTERVAL})).await.with_status(201);
    let before = ticks(&server, &name, 1).await.len();
    server.kill().await;
    // Two ticks and more go by while nobody is there.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let server = Launch::on(&data).start().await;
    let all = ticks(&server, &name, before + 2).await;
    let mut times = Vec::new();
    for one in &all {
        times.push(second(&look(&server, id(one)).await["event"]["time"]));
    }
    let whole_day = 24 * 3_600;
    let passed = (times[0] - times[times.len() - 1]).rem_euclid(whole_day) / INTERVAL + 1;
    let left_out = passed - i64::try_from(times.len()).unwrap_or_default();
    assert!(left_out >= 1, "not every tick that was missed is made up: {times:?}");
    let is_made_up =
        |one: &Value, tick: i64| (second(&one["created_at"]) - tick).rem_euclid(whole_day) >= INTERVAL;
    assert!(all.iter().zip(&times).any(|(one, tick)| is_made_up(one, *tick)), "one is: {all:?} {times:?}");
    server.stop().await;
}

#[tokio::test]
async fn calls_go_with_their_function() {
    let server: Arc<Server> = Server::shared().await;
    let name = server.node(ECHO).await;
    let waiting = submit(&server, &name, "?delay=1h", &json!(1)).await;
    server
        .post(&format!("{}/schedules", path(&name)), &json!({"name": "s", "interval_sec": 60}))
        .await
        .with_status(201);
    server.remove(&name).await;
    server.get(&format!("/api/v1/invocations/{}", id(&waiting))).await.problem(404);
}
