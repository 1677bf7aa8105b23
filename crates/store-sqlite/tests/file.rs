//! What happens around the database file: reopening, damage, permissions, closing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use impuls_store::conformance::async_invocation::queued;
use impuls_store::conformance::fixture;
use impuls_store::{
    AsyncInvocationStore as _, Claim, ClockStore as _, DeliveryStore as _, FunctionKey, FunctionPage,
    FunctionStore as _, InvocationPage, InvocationStore as _, ListedFunctions, StoreError, VersionStore as _,
};
use impuls_store_sqlite::{SqliteError, SqliteStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;

fn scratch() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("impuls.db");
    (folder, path)
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path).await.unwrap()
}

/// Changes the database behind the store's back.
async fn tamper(path: &Path, statement: &str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn reason(error: &StoreError) -> &SqliteError {
    let StoreError::Backend { source, .. } = error else { panic!("{error:?} is no failure of the back end") };
    source.downcast_ref().unwrap()
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    let first = fixture::create(&store, "kept").await;
    let second = fixture::deploy(&store, &first, 4).await;
    let alias = fixture::alias("live", &[(1, 3), (2, 1)]);
    store.put_alias(first.id, &alias).await.unwrap();
    let record = fixture::invocation(&second, 1);
    store.append_invocations(std::slice::from_ref(&record), 10).await.unwrap();
    // Without closing: what was acknowledged is in the log already.
    drop(store);
    let store = open(&path).await;
    let found = fixture::snapshot(&store, first.id).await;
    assert_eq!((found.function, found.aliases), (second, vec![alias]));
    let page = InvocationPage { status: None, offset: 0, limit: 10 };
    assert_eq!(store.list_invocations(first.id, page).await.unwrap(), [record]);
    store.close().await.unwrap();
    assert_eq!(open(&path).await.count_functions().await.unwrap(), 1);
}

#[tokio::test]
async fn what_waits_moves_along_with_a_clock_that_is_set() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    let function = fixture::create(&store, "waits").await;
    let (first, second) = (queued(function.id), queued(function.id));
    for invocation in [&first, &second] {
        store.enqueue(invocation).await.unwrap();
    }
    let claim =
        |now, lease_until, limit| Claim { now, lease_until, limit, share: 9, rooms: Vec::new(), only: None };
    let held = store.claim(claim(fixture::at(0), fixture::at(20), 1)).await.unwrap();
    assert_eq!(held.len(), 1);
    store.clock_was_set(time::Duration::microseconds(3_600)).await.unwrap();
    let later = |micros: i64| fixture::at(3_600 + micros);
    let due = store.claim(claim(later(1), later(30), 9)).await.unwrap();
    assert_eq!(due.len(), 1, "a lease that has time left is not over");
    assert_eq!((due[0].ready_at, due[0].created_at), (later(0), later(0)));
    assert_eq!(store.claim(claim(later(21), later(60), 9)).await.unwrap()[0].id, held[0].id);
    store.clock_was_set(time::Duration::microseconds(-3_600)).await.unwrap();
    assert!(store.claim(claim(fixture::at(29), fixture::at(60), 9)).await.unwrap().is_empty());
    assert_eq!(store.claim(claim(fixture::at(31), fixture::at(60), 9)).await.unwrap()[0].id, due[0].id);
}

#[tokio::test]
async fn closing_leaves_one_file_and_refuses_what_comes_later() {
    let (folder, path) = scratch();
    let store = open(&path).await;
    let function = fixture::create(&store, "closed").await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["impuls.db"]);
    let refused = store.delete_function(function.id).await.unwrap_err();
    assert!(matches!(reason(&refused), SqliteError::Closed), "{refused:?}");
    assert!(store.count_functions().await.is_err());
}

#[tokio::test]
async fn what_was_queued_before_closing_is_done() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    let pairs: Vec<_> = (0..40).map(|n| fixture::function(&format!("f{n}"))).collect();
    let creating = pairs.into_iter().map(|(function, revision)| {
        let store = store.clone();
        tokio::spawn(async move { store.create_function(&function, &revision).await })
    });
    let creating: Vec<_> = creating.collect();
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    let mut done = 0;
    for created in creating {
        done += u64::from(created.await.unwrap().is_ok());
    }
    assert!(done > 0);
    assert_eq!(open(&path).await.count_functions().await.unwrap(), done);
}

#[tokio::test]
async fn files_belong_to_their_owner_alone() {
    let (folder, path) = scratch();
    fs::write(&path, []).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path).await;
    fixture::create(&store, "secret").await;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[tokio::test]
async fn the_schema_that_is_printed_is_that_of_the_file() {
    let tables = async |path: &Path| -> Vec<(String, String)> {
        let mut connection: SqliteConnection =
            SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
        // Without the statistics that SQLite itself keeps when it thinks fit.
        let query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'impuls_migrations' \
                     AND name NOT LIKE 'sqlite_%' ORDER BY name";
        sqlx::query_as(query).fetch_all(&mut connection).await.unwrap()
    };
    let ((_made, by_server), (_printed, by_hand)) = (scratch(), scratch());
    open(&by_server).await.close().await.unwrap();
    assert!(tables(&by_hand).await.is_empty());
    tamper(&by_hand, &impuls_store_sqlite::schema_sql()).await;
    assert_eq!(tables(&by_hand).await, tables(&by_server).await);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let (_folder, path) = scratch();
    open(&path).await.close().await.unwrap();
    let newer = "INSERT INTO impuls_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', true, x'00', 0)";
    tamper(&path, newer).await;
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(reason(&refused), SqliteError::Newer { found: 99, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_folder, path) = scratch();
    let text = "this is a text and no database ".repeat(400);
    fs::write(&path, &text).unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(reason(&refused), SqliteError::NotADatabase { .. }), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_damaged_database_is_refused_or_answers_with_an_error() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    for n in 0..50 {
        fixture::create(&store, &format!("f{n}")).await;
    }
    store.close().await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // All but the header and the schema's page.
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    match SqliteStore::open(&path).await {
        Err(refused) => assert!(matches!(reason(&refused), SqliteError::NotADatabase { .. }), "{refused:?}"),
        Ok(store) => {
            let listed = store.list_functions(FunctionPage { before: None, limit: 100 }).await;
            assert!(listed.and_then(ListedFunctions::all).is_err());
        }
    }
}

#[tokio::test]
async fn a_place_where_no_file_can_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing/impuls.db"), folder.path().to_owned()] {
        let refused = SqliteStore::open(&path).await.unwrap_err();
        assert!(matches!(reason(&refused), SqliteError::Open { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_row_that_does_not_hold_what_it_must_is_damaged() {
    for (statement, column) in [
        ("UPDATE revisions SET memory_mib = 1", "limits"),
        ("UPDATE revisions SET environment = '{\"A\": 1}'", "r_environment"),
        ("UPDATE revisions SET handler = '../x.y'", "r_handler"),
        ("UPDATE functions SET name = 'a b'", "f_name"),
        ("UPDATE functions SET state = 'odd'", "f_state"),
        ("UPDATE functions SET latest_version = 0", "f_latest_version"),
        ("UPDATE functions SET latest = zeroblob(16)", "f_latest"),
        ("UPDATE functions SET created_at = 9223372036854775807", "f_created_at"),
        ("UPDATE aliases SET name = '7'", "name"),
        ("UPDATE alias_targets SET weight = 0", "alias_targets"),
    ] {
        let (_folder, path) = scratch();
        let store = open(&path).await;
        let function = fixture::create(&store, "row").await;
        store.put_alias(function.id, &fixture::alias("live", &[(1, 1)])).await.unwrap();
        tamper(&path, &format!("PRAGMA foreign_keys = OFF; {statement}")).await;
        let found = store.find_function(&FunctionKey::Id(function.id)).await;
        // A renamed alias has no targets any more, which is found first.
        let named = |text: &String| text.contains(column) || column == "name" && text.contains("alias");
        assert!(matches!(&found, Err(StoreError::Damaged(text)) if named(text)), "{statement}: {found:?}");
    }
}

#[tokio::test]
async fn a_damaged_environment_does_not_show_its_values() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    let function = fixture::create(&store, "secret").await;
    tamper(&path, "UPDATE revisions SET environment = '[\"hunter2\"]'").await;
    let found = store.find_function(&FunctionKey::Id(function.id)).await.unwrap_err();
    assert!(!found.to_string().contains("hunter2"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_concurrent_creates_exactly_one_wins() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    let creating: Vec<_> = (0..64)
        .map(|n| {
            let (store, (function, revision)) = (store.clone(), fixture::function(&format!("f{}", n % 4)));
            tokio::spawn(async move { store.create_function(&function, &revision).await })
        })
        .collect();
    let mut won = 0;
    for created in creating {
        match created.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::NameTaken), "{error:?}"),
        }
    }
    assert_eq!(won, 4);
    assert_eq!(store.count_functions().await.unwrap(), 4);
}

#[tokio::test]
async fn a_call_dropped_half_way_happens_or_not() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    for n in 0..20 {
        let (function, revision) = fixture::function(&format!("f{n}"));
        let mut call = store.create_function(&function, &revision);
        let dropped =
            std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context).is_pending()));
        assert!(dropped.await);
        drop(call);
        // Behind it in the queue, so it is decided by now.
        store.delete_function(fixture::function("other").0.id).await.unwrap();
        let found = store.find_function(&FunctionKey::Id(function.id)).await.unwrap();
        assert!(found.is_none_or(|found| found.function == function && found.latest == revision));
    }
}

#[tokio::test]
async fn a_function_that_cannot_be_read_hides_no_other() {
    let (_folder, path) = scratch();
    let store = open(&path).await;
    let mut ids = Vec::new();
    for name in ["first", "odd", "last"] {
        ids.push(fixture::create(&store, name).await.id);
    }
    tamper(&path, "UPDATE functions SET state_log = '[[\"dreaming\",1]]' WHERE name = 'odd'").await;
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.list_functions(FunctionPage { before, limit: 1 }).await.unwrap();
        assert_eq!(page.count(), usize::from(page.last.is_some()));
        for (id, error) in &page.unreadable {
            assert!(*id == ids[1] && error.to_string().contains("dreaming"), "{error}");
        }
        found.extend(page.functions.iter().map(|snapshot| snapshot.function.id));
        before = page.last;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, [ids[2], ids[0]]);
    let whole = store.list_functions(FunctionPage { before: None, limit: 10 }).await.unwrap();
    assert!(matches!(whole.all(), Err(StoreError::Damaged(_))));
}
