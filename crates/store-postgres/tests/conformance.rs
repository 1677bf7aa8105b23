//! The PostgreSQL back end keeps every promise of the seam. Every case has a database of its own in one server.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::LazyLock;

use impuls_store_postgres::{Config, PostgresStore};
use impuls_testkit::{Postgres, PostgresOptions};

/// It ends with the process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(PostgresOptions::default()));

struct Scratch(PostgresStore);

impl AsRef<PostgresStore> for Scratch {
    fn as_ref(&self) -> &PostgresStore {
        &self.0
    }
}

async fn open() -> Scratch {
    let url = tokio::task::spawn_blocking(|| SERVER.url(&SERVER.database())).await.unwrap();
    Scratch(PostgresStore::open(Config::new(url.parse().unwrap())).await.unwrap())
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn functions_are_kept_as_the_seam_promises() {
    impuls_store::function_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn versions_are_kept_as_the_seam_promises() {
    impuls_store::version_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn builds_are_kept_as_the_seam_promises() {
    impuls_store::build_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn what_nothing_names_is_removed_as_the_seam_promises() {
    impuls_store::retention_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn records_are_kept_as_the_seam_promises() {
    impuls_store::invocation_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn asynchronous_invocations_are_kept_as_the_seam_promises() {
    impuls_store::async_invocation_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn schedules_are_kept_as_the_seam_promises() {
    impuls_store::schedule_store_conformance!(run open);
}
