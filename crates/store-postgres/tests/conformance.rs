//! The PostgreSQL back end keeps every promise of the seam. Every case has a database of its own in one server, which
//! is the tests' own unless `TEST_DATABASE_URL` names another.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use impuls_store_postgres::{Config, PostgresStore};
use impuls_testkit::SomeDatabase;

struct Scratch {
    store: PostgresStore,
    _database: SomeDatabase,
}

impl AsRef<PostgresStore> for Scratch {
    fn as_ref(&self) -> &PostgresStore {
        &self.store
    }
}

async fn open() -> Scratch {
    let database = tokio::task::spawn_blocking(SomeDatabase::get).await.unwrap();
    let store = PostgresStore::open(Config::new(database.url().parse().unwrap())).await.unwrap();
    Scratch { store, _database: database }
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
async fn nodes_are_kept_as_the_seam_promises() {
    impuls_store::node_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn schedules_are_kept_as_the_seam_promises() {
    impuls_store::schedule_store_conformance!(run open);
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn everything_is_transferred_as_the_seam_promises() {
    impuls_store::transfer_conformance!(run open);
}
