//! How fast the back end is; run by hand.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "it only measures")]

use std::fs;
use std::time::Instant;

use impuls_domain::Function;
use impuls_store::conformance::fixture;
use impuls_store::{FunctionKey, FunctionPage, FunctionStore as _, InvocationStore as _};
use impuls_store_sqlite::SqliteStore;

/// What the process holds in memory, in KiB (`man 5 proc`).
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `cargo test --release -p impuls-store-sqlite --test speed -- --ignored --nocapture`
#[tokio::test]
#[ignore = "needs a quiet machine: it measures"]
async fn speed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("impuls.db");
    let before = resident_kib();
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.count_functions().await.unwrap(), 0);
    println!("memory of an open store: {} KiB", resident_kib() - before);
    let mut functions = Vec::new();
    for n in 0..1_000 {
        functions.push(fixture::create(&store, &format!("f{n}")).await);
    }
    append(&store, &functions).await;
    find(&store, &functions).await;
    create(&store).await;
    println!("memory after all this: {} KiB", resident_kib() - before);
    let size = fs::metadata(&path).unwrap().len() >> 20;
    println!("database file: {size} MiB");
    store.close().await.unwrap();
}

async fn append(store: &SqliteStore, functions: &[Function]) {
    for (names, keep) in [(1, 1_000), (10, 1_000), (1_000, 1_000), (10, 100_000)] {
        let batches: Vec<Vec<_>> = (0..50)
            .map(|batch| {
                let record = |n: i64| {
                    let mut record = fixture::invocation(&functions[n as usize % names], batch * 1_000 + n);
                    record
                        .logs
                        .push(impuls_domain::LogLevel::Info, "a line of ordinary length, as functions log");
                    record
                };
                (0..1_000).map(record).collect()
            })
            .collect();
        let start = Instant::now();
        for batch in &batches {
            store.append_invocations(batch, keep).await.unwrap();
        }
        let rate = 50_000.0 / start.elapsed().as_secs_f64();
        println!("append, batches of 1000 over {names} functions, keep {keep}: {rate:.0} records/s");
    }
}

async fn find(store: &SqliteStore, functions: &[Function]) {
    let start = Instant::now();
    for function in functions.iter().take(500) {
        store.find_function(&FunctionKey::Id(function.id)).await.unwrap().unwrap();
    }
    println!("find_function: {:.0} us", start.elapsed().as_secs_f64() * 1e6 / 500.0);
    let start = Instant::now();
    let page = FunctionPage { before: None, limit: 1_000 };
    assert_eq!(store.list_functions(page).await.unwrap().functions.len(), 1_000);
    println!("list of 1000 functions: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}

async fn create(store: &SqliteStore) {
    let start = Instant::now();
    for n in 0..200 {
        fixture::create(store, &format!("g{n}")).await;
    }
    println!("create_function, one at a time: {:.2} ms", start.elapsed().as_secs_f64() * 1e3 / 200.0);
    let start = Instant::now();
    let creating: Vec<_> = (0..2_000)
        .map(|n| {
            let (store, (function, revision)) = (store.clone(), fixture::function(&format!("h{n}")));
            tokio::spawn(async move { store.create_function(&function, &revision).await.unwrap() })
        })
        .collect();
    for created in creating {
        created.await.unwrap();
    }
    println!("create_function, 2000 at once: {:.0}/s", 2_000.0 / start.elapsed().as_secs_f64());
}
