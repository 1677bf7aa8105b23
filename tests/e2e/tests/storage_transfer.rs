//! Everything from one store to another: `impuls migrate`, `impuls backup`, `impuls restore`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Server, Value, eventually, json, unique, within};
use impuls_testkit::SomeDatabase;

/// How long moving a thousand functions may take, on a machine that does much else.
const MOVED: Duration = Duration::from_secs(300);
const ECHO: &str = "exports.handler = async (event) => event;";

async fn database() -> SomeDatabase {
    tokio::task::spawn_blocking(SomeDatabase::get).await.expect("PostgreSQL starts")
}

/// The program with these arguments, and without anything of this environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    let done = tokio::task::spawn_blocking(move || command.output().expect("the program starts"));
    within("the command ends", MOVED, done).await.expect("it is waited for")
}

async fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert!(!said.contains("p@ss") && !said.contains("p%40ss"), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn fails(arguments: &[&str], with: &str) {
    let output = run(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(with), "{arguments:?}: {said}");
    assert!(!said.contains("p@ss") && !said.contains("p%40ss"), "{said}");
}

fn place(kind: &str, data: &Data) -> String {
    format!("{kind}:{}", data.folder().display())
}

fn artifacts(data: &Data) -> String {
    data.folder().join("artifacts").display().to_string()
}

/// Functions that are made quickly: nothing of theirs has to be loaded.
async fn make_functions(server: &Arc<Server>, count: usize) {
    let mut making = tokio::task::JoinSet::new();
    for n in 0..count {
        let server = server.clone();
        making.spawn(async move {
            let fields = json!({
                "name": format!("many-{n}"), "runtime": "command", "command": ["/bin/echo", format!("{n}")],
                "memory_mb": 64 + n % 100, "environment": {"N": n.to_string(), "ODD": "ü\u{1}\\ \u{10FFFD}"},
                "metadata": {"n": n.to_string()}, "description": format!("number {n}"),
            });
            server.create(&fields).await;
        });
        if making.len() >= 8 {
            making.join_next().await.expect("one is being made").expect("it was made");
        }
    }
    while let Some(made) = making.join_next().await {
        made.expect("it was made");
    }
}

/// A function with everything that a function can have; returns its name.
async fn make_rich(server: &Server) -> String {
    let name = server.node_with(ECHO, &json!({"environment": {"SECRET": "s3cret"}})).await;
    server.update(&name, &json!({"code": "exports.handler = async () => process.env.SECRET;"})).await;
    let of = path(&name);
    server.put(&format!("{of}/aliases/live"), &json!({"version": 1})).await.with_status(200);
    server.put(&format!("{of}/async"), &json!({"max_retries": 1})).await.with_status(200);
    let schedule = json!({"name": "yearly", "cron": "0 0 1 1 *", "event": {"a": 1}});
    server.post(&format!("{of}/schedules"), &schedule).await.with_status(201);
    let accepted = server
        .post(&format!("{of}/invocations?qualifier=live"), &json!({"b": 2}))
        .await
        .with_status(202)
        .json();
    let id = accepted["invocation_id"].as_str().or(accepted["id"].as_str()).expect("an id").to_owned();
    eventually("the call has ended", Duration::from_secs(30), async || {
        let found = server.get(&format!("/api/v1/invocations/{id}")).await.json();
        (found["status"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(server.call(&name, &Value::Null).await, json!("s3cret"));
    name
}

/// What a server tells of everything.
async fn exported(server: &Server, rich: &str) -> Vec<Value> {
    let of = path(rich);
    let mut all = Vec::new();
    for page in [
        FUNCTIONS.to_owned(),
        of.clone(),
        format!("{of}/versions"),
        format!("{of}/aliases"),
        format!("{of}/async"),
        format!("{of}/schedules"),
        format!("/api/v1/invocations?function={rich}"),
        format!("{of}/logs"),
    ] {
        let reply = server.get(&page).await;
        all.push(json!([page, reply.status, reply.json()]));
    }
    all
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_thousand_functions_move_between_all_stores_and_are_the_same() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let (first, second, third, last) = (Data::new(), Data::new(), Data::new(), Data::new());
    let server = Arc::new(Launch::on(&first).start().await);
    make_functions(&server, 1_000).await;
    let rich = make_rich(&server).await;
    // Stored with the next of their function, or when the server ends.
    server.get(&format!("{}/logs", path(&rich))).await.with_status(200);
    let everything = exported(&server, &rich).await;
    assert_eq!(everything[0][2]["count"], 1_001);
    let (from, to) = (place("sqlite", &first), url.as_str());
    let migrate = ["migrate", "--from", &from, "--to", to, "--to-artifacts", &artifacts(&second)];
    fails(&migrate, "stop the server first").await;
    assert!(Arc::into_inner(server).expect("nobody else").stop().await.success());
    assert!(succeeds(&migrate).await.contains("1001 functions"));
    assert!(succeeds(&migrate).await.contains("nothing was done"));
    let postgres =
        |data: &Data| Launch::on(data).argument("--storage=postgres").variable("IMPULS_DB_CONN", &url);
    let server = postgres(&second).start().await;
    assert_eq!(exported(&server, &rich).await, everything);
    let to = place("file", &third);
    let migrate = ["migrate", "--from", &url, "--from-artifacts", &artifacts(&second), "--to", &to];
    fails(&migrate, "servers use PostgreSQL at").await;
    assert!(server.stop().await.success());
    succeeds(&migrate).await;
    assert!(third.folder().join(format!("functions/code/{rich}/function.js")).is_file());
    let server = Launch::on(&third).start().await;
    assert!(server.log().contains("so this server has storage file"), "{}", server.log());
    assert_eq!(exported(&server, &rich).await, everything);
    assert!(server.stop().await.success());
    let (from, to) = (place("file", &third), place("sqlite", &last));
    succeeds(&["migrate", "--from", &from, "--to", &to]).await;
    fails(&["migrate", "--from", &place("sqlite", &first), "--to", &to], "is not empty").await;
    let server = Launch::on(&last).start().await;
    assert_eq!(exported(&server, &rich).await, everything);
    assert_eq!(server.call(&rich, &Value::Null).await, json!("s3cret"));
    let live = format!("{}/invoke?qualifier=live", path(&rich));
    assert_eq!(server.post(&live, &json!(5)).await.result(), json!(5));
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_migration_that_is_killed_goes_on_and_nobody_uses_half_of_it() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let (first, second) = (Data::new(), Data::new());
    let server = Arc::new(Launch::on(&first).start().await);
    make_functions(&server, 600).await;
    let rich = make_rich(&server).await;
    let everything = exported(&server, &rich).await;
    assert!(Arc::into_inner(server).expect("nobody else").stop().await.success());
    let (from, code) = (place("sqlite", &first), artifacts(&second));
    let migrate = ["migrate", "--from", &from, "--to", &url, "--to-artifacts", &code];
    let mut apply = command(&["store", "apply"]);
    apply.env("IMPULS_DB_CONN", &url);
    assert!(output(apply).await.0);
    hold_up(&tables);
    let mut child = command(&migrate).spawn().expect("the program starts");
    eventually("there are rows", MOVED, async || {
        (tables.sql("SELECT count(*) FROM impuls_functions") != "0").then_some(())
    })
    .await;
    child.kill().expect("it runs");
    assert!(!child.wait().expect("it ends").success());
    go_on(&tables);
    let refused =
        Launch::on(&second).argument("--storage=postgres").variable("IMPULS_DB_CONN", &url).refused().await;
    assert!(refused.message.contains("is being filled from sqlite:"), "{}", refused.message);
    let other = Data::new();
    let server = Launch::on(&other).start().await;
    assert!(server.stop().await.success());
    let stranger = place("sqlite", &other);
    fails(&["migrate", "--from", &stranger, "--to", &url, "--to-artifacts", &code], "is being filled from")
        .await;
    assert!(succeeds(&migrate).await.contains("601 functions"));
    let server =
        Launch::on(&second).argument("--storage=postgres").variable("IMPULS_DB_CONN", &url).start().await;
    assert_eq!(exported(&server, &rich).await, everything);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_backup_of_a_running_server_is_restored_into_another_kind_of_store() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let (first, second, third) = (Data::new(), Data::new(), Data::new());
    let server = Launch::on(&first).start().await;
    let rich = make_rich(&server).await;
    let everything = exported(&server, &rich).await;
    let (folder, file) = (first.folder().display().to_string(), first.scratch().join("backup"));
    let backup = file.display().to_string();
    let written = succeeds(&["backup", &backup, "--data-dir", &folder]).await;
    assert!(written.contains("1 functions"), "{written}");
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    fails(&["backup", &backup, "--data-dir", &folder], "it exists").await;
    // What happens afterwards is no part of it.
    server.update(&rich, &json!({"memory_mb": 256})).await;
    fails(&["restore", &backup, "--data-dir", &folder], "in use by another server").await;
    let code = second.folder().display().to_string();
    let mut restore = command(&["restore", &backup, "--data-dir", &code, "--storage", "postgres"]);
    assert!(restore.env("IMPULS_DB_CONN", &url).status().expect("the program starts").success());
    let moved =
        Launch::on(&second).argument("--storage=postgres").variable("IMPULS_DB_CONN", &url).start().await;
    assert_eq!(exported(&moved, &rich).await, everything);
    assert_eq!(moved.call(&rich, &Value::Null).await, json!("s3cret"));
    // A running server of PostgreSQL is backed up as well, and restored as files.
    let again = first.scratch().join("again").display().to_string();
    let mut backup_again = command(&["backup", &again, "--data-dir", &code, "--storage", "postgres"]);
    assert!(backup_again.env("IMPULS_DB_CONN", &url).status().expect("the program starts").success());
    let files = third.folder().display().to_string();
    succeeds(&["restore", &again, "--data-dir", &files, "--storage", "file"]).await;
    let shown = third.folder().join(format!("functions/code/{rich}/function.js"));
    assert!(fs::read_to_string(shown).expect("the file").contains("process.env.SECRET"));
    let server = Launch::on(&third).start().await;
    assert_eq!(server.call(&rich, &Value::Null).await, json!("s3cret"));
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_before_anything_is_touched() {
    let (data, target) = (Data::new(), Data::new());
    let server = Launch::on(&data).start().await;
    server.node(ECHO).await;
    let file = data.scratch().join("backup");
    let (folder, empty) = (data.folder().display().to_string(), target.folder().display().to_string());
    succeeds(&["backup", &file.display().to_string(), "--data-dir", &folder]).await;
    let whole = fs::read(&file).expect("the file");
    let broken = data.scratch().join("broken").display().to_string();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for bytes in [&whole[..whole.len() / 2], &[], b"no backup at all", &damaged] {
        fs::write(&broken, bytes).expect("written");
        fails(&["restore", &broken, "--data-dir", &empty], "is no whole backup").await;
        assert!(!target.folder().exists());
    }
    fails(&["migrate", "--from", "mysql://x", "--to", "sqlite:y"], "this is no store").await;
    fails(&["migrate", "--from", "sqlite:/x", "--to", "postgres://u:p@ss@h/d"], "--to-artifacts DIR").await;
    let nowhere = format!("sqlite:{}", unique("/nonexistent"));
    fails(&["migrate", "--from", &nowhere, "--to", &place("sqlite", &target)], "is no").await;
    let restored = succeeds(&["restore", &file.display().to_string(), "--data-dir", &empty]).await;
    assert!(restored.contains("the same as at the source"), "{restored}");
}

#[tokio::test]
async fn files_of_functions_in_a_target_are_somebodys_and_stay() {
    let (data, target) = (Data::new(), Data::new());
    let (backup, other) = (backup_of(&data).await, target.folder().display().to_string());
    let card = target.folder().join("functions/metadata/hello.json");
    fs::create_dir_all(card.parent().expect("a folder")).expect("made");
    fs::write(&card, "{\"runtime\": \"nodejs\"}").expect("written");
    let from = place("sqlite", &data);
    for kind in ["sqlite", "file"] {
        let said = "there are functions as files in";
        fails(&["restore", &backup, "--data-dir", &other, "--storage", kind], said).await;
        fails(&["migrate", "--from", &from, "--to", &place(kind, &target)], said).await;
        assert_eq!(fs::read_to_string(&card).expect("the file"), "{\"runtime\": \"nodejs\"}");
    }
    fs::remove_dir_all(target.folder().join("functions")).expect("removed");
    succeeds(&["restore", &backup, "--data-dir", &other, "--storage", "file"]).await;
}

#[tokio::test]
async fn what_was_moved_before_is_compared_and_known_by_more_than_its_place() {
    let (data, target) = (Data::new(), Data::new());
    let (from, to) = (place("sqlite", &data), place("sqlite", &target));
    let migrate = ["migrate", "--from", &from, "--to", &to];
    backup_of(&data).await;
    succeeds(&migrate).await;
    assert!(succeeds(&migrate).await.contains("and has the same: 1 functions"));
    let server = Launch::on(&data).start().await;
    server.node(ECHO).await;
    assert!(server.stop().await.success());
    fails(&migrate, "but now functions are not the same").await;
    fs::rename(data.folder(), data.scratch().join("away")).expect("moved");
    let server = Launch::on(&data).start().await;
    server.node(ECHO).await;
    assert!(server.stop().await.success());
    fails(&migrate, "the target is not empty").await;
}

#[tokio::test]
async fn code_of_another_store_is_refused_until_somebody_says_that_it_is_gone() {
    let (first, second, shared) = (Data::new(), Data::new(), Data::new());
    let code = shared.folder().display().to_string();
    let file = {
        let server = Launch::on(&first).arguments(["--artifacts", &code]).start().await;
        server.node(ECHO).await;
        let file = first.scratch().join("backup").display().to_string();
        let folder = first.folder().display().to_string();
        succeeds(&["backup", &file, "--data-dir", &folder, "--artifacts", &code]).await;
        assert!(server.stop().await.success());
        file
    };
    let refused = Launch::on(&second).arguments(["--artifacts", &code]).refused().await;
    assert!(refused.message.contains("belongs to another store"), "{}", refused.message);
    let folder = second.folder().display().to_string();
    let restore = ["restore", &file, "--data-dir", &folder, "--artifacts", &code];
    fails(&restore, "the code at the target belongs to another store").await;
    // Whoever it belongs to goes on, until it does not any more.
    let rules = ["--keep-artifacts-for=1s", "--collect-every=1s"];
    let old = Launch::on(&first).arguments(["--artifacts", &code]).arguments(rules).start().await;
    old.expect_error("the code belongs to another store now");
    let owner = shared.folder().join("owner");
    fs::write(&owner, "another").expect("written");
    let name = old.get(FUNCTIONS).await.json()["functions"][0]["name"].as_str().expect("a name").to_owned();
    old.delete(&path(&name)).await;
    let told = async || old.log().contains("the code belongs to another store now").then_some(());
    eventually("the old server notices", Duration::from_secs(30), told).await;
    assert!(old.stop().await.success());
    assert_eq!(fs::read_dir(shared.folder().join("sha256")).expect("the code").count(), 1);
    fs::remove_file(owner).expect("removed");
    succeeds(&restore).await;
    let server = Launch::on(&second).arguments(["--artifacts", &code]).start().await;
    assert_eq!(server.call(&name, &json!(1)).await, json!(1));
    let refused = Launch::on(&first).arguments(["--artifacts", &code]).refused().await;
    assert!(refused.message.contains("belongs to another store"), "{}", refused.message);
}

/// A backup of a server in this folder with one function.
async fn backup_of(data: &Data) -> String {
    let server = Launch::on(data).start().await;
    server.node(ECHO).await;
    let file = data.scratch().join("backup").display().to_string();
    succeeds(&["backup", &file, "--data-dir", &data.folder().display().to_string()]).await;
    assert!(server.stop().await.success());
    file
}

/// Restores it into a database, with the code in this data folder.
fn restore(file: &str, code: &Data, url: &str) -> Command {
    let code = code.folder().display().to_string();
    let mut restore = command(&["restore", file, "--data-dir", &code, "--storage", "postgres"]);
    restore.env("IMPULS_DB_CONN", url);
    restore
}

/// Has whoever fills this database wait in the middle, for half a minute or until it is told to go on.
fn hold_up(tables: &SomeDatabase) {
    let wait = "CREATE TABLE go (now BOOLEAN); \
                CREATE FUNCTION wait() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN \
                    WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.05); END LOOP; RETURN NULL; \
                END $$; \
                CREATE TRIGGER wait BEFORE INSERT ON impuls_versions FOR EACH STATEMENT EXECUTE FUNCTION wait()";
    tables.sql(wait);
}

fn go_on(tables: &SomeDatabase) {
    tables.sql("INSERT INTO go VALUES (true)");
}

async fn output(mut command: Command) -> (bool, String) {
    let done = tokio::task::spawn_blocking(move || command.output().expect("the program starts"));
    let output = within("the command ends", MOVED, done).await.expect("it is waited for");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn one_at_a_time_fills_a_database_and_no_server_uses_it_meanwhile() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let (first, second) = (Data::new(), Data::new());
    let file = backup_of(&first).await;
    let restore = || restore(&file, &second, &url);
    let launch = || Launch::on(&second).argument("--storage=postgres").variable("IMPULS_DB_CONN", &url);
    let server = launch().start().await;
    let (done, said) = output(restore()).await;
    assert!(!done && said.contains("servers use the target"), "{said}");
    assert!(server.stop().await.success());
    hold_up(&tables);
    let mut child = restore().spawn().expect("the program starts");
    eventually("it is being filled", MOVED, async || {
        (tables.sql("SELECT count(*) FROM impuls_functions") == "1").then_some(())
    })
    .await;
    let (done, said) = output(restore()).await;
    assert!(!done && said.contains("another `impuls migrate` or `impuls restore` fills"), "{said}");
    let refused = launch().refused().await;
    assert!(refused.message.contains("is being filled from"), "{}", refused.message);
    go_on(&tables);
    assert!(child.wait().expect("it ends").success());
    launch().start().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn whoever_reads_a_database_or_was_told_not_to_makes_no_tables() {
    let tables = database().await;
    let url = tables.url().to_owned();
    let (first, second) = (Data::new(), Data::new());
    let file = backup_of(&first).await;
    let restore = || restore(&file, &second, &url);
    let launch = Launch::on(&second).argument("--storage=postgres").variable("IMPULS_DB_CONN", &url);
    assert!(launch.start().await.stop().await.success());
    let older = "DROP TABLE impuls_filling; DELETE FROM impuls_migrations WHERE description = 'filling'";
    tables.sql(older);
    let (again, code) = (first.scratch().join("again"), second.folder().display().to_string());
    let mut backup = command(&["backup", &again.display().to_string(), "--data-dir", &code]);
    backup.args(["--storage", "postgres"]).env("IMPULS_DB_CONN", &url);
    let mut forbidden = restore();
    forbidden.arg("--no-auto-migrate");
    let (to, from_code) = (place("sqlite", &Data::new()), artifacts(&second));
    let migrate = command(&["migrate", "--from", &url, "--from-artifacts", &from_code, "--to", &to]);
    for refused in [backup, forbidden, migrate] {
        let (done, said) = output(refused).await;
        assert!(!done && said.contains("is needed"), "{said}");
        assert_eq!(tables.sql("SELECT to_regclass('impuls_filling') IS NULL"), "t");
    }
    assert!(output(restore()).await.0, "whoever fills may make them");
}
