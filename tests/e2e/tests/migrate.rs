//! `impuls store apply`, and the script behind `make migrate-up`.

#![allow(clippy::expect_used, reason = "a test that does not find what it expects panics")]

use std::process::{Command, Output};

use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch};
use impuls_testkit::postgres::{PASSWORD, USER};
use impuls_testkit::{Postgres, PostgresOptions, SomeDatabase};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/migrate.sh");

async fn start() -> (Postgres, String) {
    let started = tokio::task::spawn_blocking(|| {
        let postgres = Postgres::start(PostgresOptions::default());
        let name = postgres.database();
        (postgres, name)
    });
    started.await.expect("PostgreSQL starts")
}

fn apply() -> Command {
    let mut command = Command::new(program());
    command.args(["store", "apply"]).env_clear();
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn run(command: &mut Command) -> Output {
    command.output().expect("it can be started")
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn a_server_that_may_make_no_tables_starts_after_apply() {
    let database = tokio::task::spawn_blocking(SomeDatabase::get).await.expect("PostgreSQL starts");
    let url = database.url();
    let data = Data::new();
    let launch = || {
        let launch = Launch::on(&data).arguments(["--storage", "postgres", "--no-auto-migrate"]);
        launch.variable("IMPULS_DB_CONN", url)
    };
    assert_ne!(launch().refused().await.code, Some(0));
    // The second time there is nothing to do, and an address for a server has no say.
    for _ in 0..2 {
        let applied = run(apply().env("IMPULS_DB_CONN", url).env("IMPULS_LISTEN", "0.0.0.0:1"));
        assert!(applied.status.success(), "{:?}", texts(&applied));
    }
    launch().start().await;
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_variables_of_an_earlier_server_name_the_database_of_the_script() {
    let (postgres, name) = start().await;
    let scratch = tempfile::tempdir().expect("a folder");
    for folder in ["build", "scripts"] {
        std::fs::create_dir(scratch.path().join(folder)).expect("a folder");
    }
    let script = scratch.path().join("scripts/migrate.sh");
    std::fs::copy(SCRIPT, &script).expect("the script is there");
    std::os::unix::fs::symlink(program(), scratch.path().join("build/impuls")).expect("a link");
    let url = postgres.url(&name);
    let (_, port) = url.rsplit_once(':').expect("a port");
    let (port, _) = port.split_once('/').expect("a database");
    let mut command = Command::new(script);
    command.env("DB_HOST", "127.0.0.1").env("DB_PORT", port).env("DB_NAME", &name);
    let applied = run(command.env("DB_USER", USER).env("DB_PASSWORD", PASSWORD));
    assert!(applied.status.success(), "{:?}", texts(&applied));
    let count = "SELECT count(*) > 3 FROM pg_tables WHERE tablename LIKE 'impuls\\_%'";
    assert_eq!(postgres.sql(&name, count).trim(), "t");
}

#[test]
fn what_cannot_be_applied_is_said() {
    let nowhere = run(&mut apply());
    assert!(!nowhere.status.success());
    assert!(texts(&nowhere).1.contains("--db-conn"), "{:?}", texts(&nowhere));
    let sqlite = run(apply().args(["--storage", "sqlite"]));
    assert!(texts(&sqlite).1.contains("`impuls serve` makes its tables"), "{:?}", texts(&sqlite));
}
