//! Code in a bucket: servers that start, share it and lose it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that does not find what it expects panics"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Server, json, unique, within};
use impuls_testkit::s3::{ACCESS_KEY, SECRET_KEY};
use impuls_testkit::{Link, S3, SomeDatabase, Weather};

const ECHO: &str = "exports.handler = async (event) => event;";
/// More than everything that is tried again may take.
const PATIENCE: Duration = Duration::from_secs(60);

async fn bucket() -> (S3, Link) {
    let s3 = tokio::task::spawn_blocking(|| S3::start(Path::new(env!("CARGO_TARGET_TMPDIR")))).await;
    let s3 = s3.expect("moto starts");
    let link = Link::to(s3.address());
    (s3, link)
}

fn launch(data: &Data, at: SocketAddr) -> Launch {
    Launch::on(data)
        .variable("IMPULS_ARTIFACTS", S3::location(at, "code"))
        .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

fn no_secret(text: &str) {
    assert!(!text.contains(SECRET_KEY) && !text.contains(ACCESS_KEY), "{text}");
}

/// The unpacked code of a stopped server is a cache, and can go.
fn forget_unpacked(data: &Data) {
    std::fs::remove_dir_all(data.folder().join("code")).expect("a cache of code");
}

#[tokio::test]
#[ignore = "needs pip"]
async fn functions_outlive_servers_and_their_caches() {
    let (s3, link) = bucket().await;
    let data = Data::new();
    let server = launch(&data, link.address()).start().await;
    let name = server.node(ECHO).await;
    assert_eq!(server.call(&name, &json!({"a": 1})).await, json!({"a": 1}));
    assert_eq!(s3.occurrences("sha256/"), 1);
    assert!(server.stop().await.success());
    let server = launch(&data, link.address()).start().await;
    assert_eq!(server.call(&name, &json!(1)).await, json!(1));
    server.kill().await;
    forget_unpacked(&data);
    let server = launch(&data, link.address()).start().await;
    assert_eq!(server.call(&name, &json!(2)).await, json!(2));
    assert!(!data.folder().join("artifacts").exists());
    no_secret(&server.log());
}

#[tokio::test]
#[ignore = "needs pip"]
async fn a_backup_has_the_code_of_a_bucket_and_goes_into_a_folder() {
    let (_s3, link) = bucket().await;
    let (data, restored) = (Data::new(), Data::new());
    let server = launch(&data, link.address()).start().await;
    let name = server.node(ECHO).await;
    let file = data.scratch().join("all.backup");
    let command = |word: &str, folder: &Data| {
        let mut command = std::process::Command::new(program());
        command.arg(word).arg(&file).arg("--data-dir").arg(folder.folder());
        command
    };
    let mut backup = command("backup", &data);
    backup.args(["--artifacts", &S3::location(link.address(), "code")]);
    backup.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    for mut command in [backup, command("restore", &restored)] {
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let second = Launch::on(&restored).start().await;
    assert_eq!(second.call(&name, &json!("moved")).await, json!("moved"));
}

#[tokio::test]
#[ignore = "needs pip"]
async fn a_bucket_that_fails_refuses_deploys_and_lets_known_code_run() {
    let (s3, link) = bucket().await;
    let server = launch(&Data::new(), link.address()).start().await;
    server.expect_error("a request failed");
    let name = server.node(ECHO).await;
    for weather in [Weather::Refusing, Weather::Silent, Weather::Broken] {
        let before = s3.occurrences("sha256/");
        link.set(weather);
        let code = format!("{ECHO} // {weather:?}");
        let fields =
            json!({"name": unique("late"), "runtime": "nodejs", "handler": "index.handler", "code": code});
        let refused = within("a deploy is refused", PATIENCE, server.post(FUNCTIONS, &fields)).await;
        let refused = refused.with_status(503);
        assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
        no_secret(&refused.text());
        assert_eq!(server.call(&name, &json!("still")).await, json!("still"));
        // What nobody heard the answer to may have been done, but then it is whole.
        let unheard = usize::from(weather == Weather::Silent);
        assert!(
            (before..=before + unheard).contains(&s3.occurrences("sha256/")),
            "an artifact nobody acknowledged"
        );
        link.set(Weather::Fair);
        server.post(FUNCTIONS, &fields).await.with_status(201);
    }
    let log = server.log();
    assert!(log.contains(&format!("at http://{}", link.address())), "{log}");
    no_secret(&log);
}

#[tokio::test]
#[ignore = "needs pip"]
async fn code_that_cannot_be_fetched_is_a_503_until_it_can() {
    let (_s3, link) = bucket().await;
    let data = Data::new();
    let server = launch(&data, link.address()).start().await;
    let name = server.node(ECHO).await;
    assert!(server.stop().await.success());
    forget_unpacked(&data);
    let server: Server = launch(&data, link.address()).start().await;
    server.expect_error("a request failed");
    server.expect_error("cannot start a sandbox");
    link.set(Weather::Refusing);
    let refused =
        within("a call is refused", PATIENCE, server.invoke(&name, &json!(1))).await.with_status(503);
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    no_secret(&refused.text());
    link.set(Weather::Fair);
    assert_eq!(server.call(&name, &json!(2)).await, json!(2));
    no_secret(&server.log());
}

#[tokio::test]
#[ignore = "needs pip, postgres"]
async fn servers_of_one_database_share_a_bucket() {
    let (_s3, link) = bucket().await;
    let database = tokio::task::spawn_blocking(SomeDatabase::get).await.expect("PostgreSQL starts");
    let shared = |data: &Data| {
        launch(data, link.address())
            .arguments(["--storage", "postgres"])
            .variable("IMPULS_DB_CONN", database.url())
    };
    let first = shared(&Data::new()).start().await;
    let name = first.node(ECHO).await;
    let second = shared(&Data::new()).start().await;
    assert_eq!(second.call(&name, &json!("there")).await, json!("there"));
    for server in [&first, &second] {
        server.get(&path(&name)).await.with_status(200);
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_not_named_well_is_a_clear_error() {
    let wrong = [
        ("s3://b?endpoint=http://127.0.0.1:1", "allow_http=true"),
        ("s3://b?endpoint=http://127.0.0.1:1&allow_http=true&timeout=1s", "bucket b at http://127.0.0.1:1 "),
        ("s3://b?colour=red", "a parameter \"colour\""),
        ("gs://b", "cannot be kept in gs://"),
    ];
    for (location, expected) in wrong {
        let launch = Launch::on(&Data::new()).arguments(["--artifacts", location]);
        let launch = launch.variable("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        let refused = launch.variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY).refused().await;
        assert_eq!(refused.code, Some(1), "{}", refused.message);
        assert!(refused.message.contains(expected), "{}", refused.message);
        no_secret(&refused.message);
    }
    let refused = Launch::on(&Data::new()).variable("STORAGE_TYPE", "s3").refused().await;
    assert!(refused.message.contains("--artifacts s3://bucket/prefix"), "{}", refused.message);
}
