//! What happens around the database: restarts, schemas, rights, TLS, several servers at once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::error::Error;

use impuls_domain::{
    AsyncInvocation, AsyncStatus, Destinations, FunctionId, InvocationId, Qualifier, RetryPolicy, Tally,
};
use impuls_store::conformance::fixture;
use impuls_store::{
    AsyncInvocationStore as _, Cell, Claim, ClockStore as _, DeliveryStore as _, Filling, FunctionKey,
    FunctionStore as _, Hold, InvocationPage, InvocationStore as _, Pruning, Row, StoreError, Table,
    Transfer as _, VersionStore as _,
};
use impuls_store_postgres::{Config, PostgresError, PostgresStore, schema_sql};
use impuls_testkit::{Postgres, PostgresOptions};

fn server() -> Postgres {
    Postgres::start(PostgresOptions::default())
}

fn config(connection: &str) -> Config {
    Config::new(connection.parse().unwrap())
}

async fn open(server: &Postgres, database: &str) -> PostgresStore {
    PostgresStore::open(config(&server.url(database))).await.unwrap()
}

fn reason(error: &StoreError) -> &PostgresError {
    let StoreError::Backend { source, .. } = error else { panic!("{error:?} is no failure of the back end") };
    source.downcast_ref().unwrap()
}

/// The whole text of a refusal.
async fn refusal(config: Config) -> (StoreError, String) {
    let error = PostgresStore::open(config).await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
    (error, text)
}

fn queued(function: FunctionId) -> AsyncInvocation {
    AsyncInvocation {
        id: InvocationId::new(),
        function,
        qualifier: Qualifier::Latest,
        event: b"1".to_vec(),
        context: Vec::new(),
        timeout: None,
        hook: None,
        policy: RetryPolicy::DEFAULT,
        destinations: Destinations::default(),
        key: None,
        origin: None,
        chain: 0,
        tally: Tally::default(),
        ready_at: fixture::at(0),
        last_failure: None,
        status: AsyncStatus::Queued,
        attempt: 0,
        not_before: fixture::at(0),
        created_at: fixture::at(0),
        started_at: None,
        completion: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn what_was_acknowledged_survives_a_crash_of_the_server_and_the_store_recovers_by_itself() {
    let mut server = server();
    let store = open(&server, &server.database()).await;
    let first = fixture::create(&store, "kept").await;
    let second = fixture::deploy(&store, &first, 4).await;
    let alias = fixture::alias("live", &[(1, 3), (2, 1)]);
    store.put_alias(first.id, &alias).await.unwrap();
    let record = fixture::invocation(&second, 1);
    store.append_invocations(std::slice::from_ref(&record), 10).await.unwrap();
    server.kill();
    let refused = store.count_functions().await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    server.resume();
    let found = fixture::snapshot(&store, first.id).await;
    assert_eq!((found.function, found.aliases), (second, vec![alias]));
    let page = InvocationPage { status: None, offset: 0, limit: 10 };
    assert_eq!(store.list_invocations(first.id, page).await.unwrap(), [record]);
    store.close().await;
    assert!(store.count_functions().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn many_servers_that_start_at_once_make_one_schema() {
    let server = server();
    let url = server.url(&server.database());
    let opening: Vec<_> = (0..8).map(|_| tokio::spawn(PostgresStore::open(config(&url)))).collect();
    for opened in opening {
        assert_eq!(opened.await.unwrap().unwrap().count_functions().await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn the_clock_is_the_databases() {
    let server = server();
    let database = server.database();
    let store = open(&server, &database).await;
    let read = || {
        let micros = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        i128::from(server.sql(&database, micros).parse::<i64>().unwrap()) * 1_000
    };
    let (before, now, after) = (read(), store.now().await.unwrap().unix_timestamp_nanos(), read());
    assert!((before..=after).contains(&now), "{before} {now} {after}");
    store.clock_was_set(time::Duration::hours(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn several_servers_never_claim_the_same_invocation() {
    let server = server();
    let database = server.database();
    let store = open(&server, &database).await;
    let function = fixture::create(&store, "claimed").await;
    for _ in 0..200 {
        store.enqueue(&queued(function.id)).await.unwrap();
    }
    let (now, lease_until) = (fixture::at(1), fixture::at(60));
    let claim = Claim { now, lease_until, limit: 7, share: 1_000, rooms: Vec::new(), only: None };
    let claiming: Vec<_> = (0..4)
        .map(|_| {
            let (url, claim) = (server.url(&database), claim.clone());
            tokio::spawn(async move {
                let store = PostgresStore::open(config(&url)).await.unwrap();
                let mut mine = Vec::new();
                loop {
                    let claimed = store.claim(claim.clone()).await.unwrap();
                    if claimed.is_empty() {
                        return mine;
                    }
                    assert!(claimed.iter().all(|claimed| claimed.attempt == 1));
                    mine.extend(claimed.into_iter().map(|claimed| claimed.id));
                }
            })
        })
        .collect();
    let (mut all, mut count) = (BTreeSet::new(), 0);
    for claimed in claiming {
        let mine = claimed.await.unwrap();
        count += mine.len();
        all.extend(mine);
    }
    // Rows that were locked for a moment are passed over, so somebody may have stopped early; nothing was lost.
    let left = store.claim(Claim { limit: 1_000, ..claim }).await.unwrap();
    assert_eq!((all.len() + left.len(), count + left.len()), (200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn an_invocation_that_cannot_be_read_holds_back_nobody() {
    let server = server();
    let database = server.database();
    let store = open(&server, &database).await;
    let function = fixture::create(&store, "claimed").await;
    let (strange, usual) = (queued(function.id), queued(function.id));
    for invocation in [&strange, &usual] {
        store.enqueue(invocation).await.unwrap();
    }
    let strange = strange.id.as_uuid();
    let damage =
        format!("UPDATE impuls_async_invocations SET policy = 'of the next release' WHERE id = '{strange}'");
    server.sql(&database, &damage);
    let (now, lease_until) = (fixture::at(1), fixture::at(60));
    let claim = Claim { now, lease_until, limit: 9, share: 9, rooms: Vec::new(), only: None };
    let claimed = store.claim(claim).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [usual.id]);
    let left = format!("SELECT status, deaths FROM impuls_async_invocations WHERE id = '{strange}'");
    assert_eq!(server.sql(&database, &left), "queued|0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_dead_letter_that_is_driven_again_does_not_go() {
    let server = server();
    let database = server.database();
    let store = open(&server, &database).await;
    let function = fixture::create(&store, "driven").await;
    let invocation = queued(function.id);
    store.enqueue(&invocation).await.unwrap();
    let dead = "UPDATE impuls_async_invocations SET status = 'dead', due = NULL, completed_at = 1, error_type = \
                'PlatformError', error_class = '', error_message = 'no'";
    server.sql(&database, dead);
    let driving = "BEGIN; UPDATE impuls_async_invocations SET status = 'queued', due = 1, completed_at = NULL; \
                   SELECT pg_sleep(2); COMMIT";
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql(&database, driving));
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while server.sql(&database, sleeps) != "1" {
            std::thread::yield_now();
        }
        let pruning = Pruning { dead_letters: true, ended_before: fixture::at(0), keep: 0, limit: 9 };
        let pruned = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(store.prune_async_invocations(pruning))
        });
        assert_eq!(pruned.unwrap(), 0);
    });
    let found = store.find_async_invocation(invocation.id).await.unwrap().unwrap();
    assert_eq!(found.status, AsyncStatus::Queued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn changes_that_collide_are_made_again_and_not_for_ever() {
    let server = server();
    let database = server.database();
    let store = open(&server, &database).await;
    // A sequence goes on even where its transaction is undone.
    let collide = "CREATE SEQUENCE tries; CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   IF nextval('tries') % 20 < 4 THEN RAISE serialization_failure; END IF; RETURN NEW; END $$; \
                   CREATE TRIGGER collide BEFORE INSERT ON impuls_functions FOR EACH ROW EXECUTE FUNCTION collide()";
    server.sql(&database, collide);
    let function = fixture::create(&store, "late").await;
    assert!(store.find_function(&FunctionKey::Id(function.id)).await.unwrap().is_some());
    server.sql(&database, "ALTER SEQUENCE tries INCREMENT BY 20 RESTART WITH 20");
    let (function, revision) = fixture::function("never");
    let refused = store.create_function(&function, &revision).await.unwrap_err();
    assert!(matches!(reason(&refused), PostgresError::Query(_)) && refused.is_retryable(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn texts_may_have_what_the_database_cannot_keep() {
    let server = server();
    let store = open(&server, &server.database()).await;
    let function = fixture::create(&store, "odd").await;
    let mut record = fixture::invocation(&function, 1);
    record.failure = Some(impuls_domain::Failure {
        error_type: impuls_domain::ErrorType::PlatformError,
        class: "E\0".to_owned(),
        message: "a\0b\u{10FFFD}c".to_owned(),
        stack: Some("\0".to_owned()),
    });
    store.append_invocations(std::slice::from_ref(&record), 10).await.unwrap();
    let page = InvocationPage { status: None, offset: 0, limit: 10 };
    assert_eq!(store.list_invocations(function.id, page).await.unwrap(), [record]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn users_who_may_not_make_tables_are_told_what_to_run() {
    let server = server();
    let database = server.database();
    let missing = Config { migrate: false, ..config(&server.url(&database)) };
    let (error, text) = refusal(missing.clone()).await;
    assert!(matches!(reason(&error), PostgresError::Outdated { found: 0, .. }), "{text}");
    assert!(text.contains("impuls store schema"), "{text}");
    server.sql(
        &database,
        "CREATE USER clerk PASSWORD 'it''s a p@ss/word?'; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    );
    let url = server.url(&database).replace("postgres:it", "clerk:it");
    let (error, text) = refusal(config(&url)).await;
    assert!(matches!(reason(&error), PostgresError::NoRights { .. }), "{text}");
    // Twice: what is there is left as it is.
    server.sql(&database, &schema_sql());
    server.sql(&database, &schema_sql());
    server.sql(&database, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk");
    for config in [missing, config(&url)] {
        let store = PostgresStore::open(config).await.unwrap();
        let function = fixture::create(&store, &format!("f{}", store.count_functions().await.unwrap())).await;
        assert!(store.find_function(&FunctionKey::Id(function.id)).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_schema_made_by_hand_is_that_of_the_server() {
    let server = server();
    let (by_hand, by_server) = (server.database(), server.database());
    server.sql(&by_hand, &schema_sql());
    open(&server, &by_server).await.close().await;
    let shape = "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default \
                 FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 3; \
                 SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1; \
                 SELECT version, checksum FROM impuls_migrations ORDER BY 1";
    assert_eq!(server.sql(&by_hand, shape), server.sql(&by_server, shape));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn databases_that_cannot_be_used_are_refused_by_name() {
    let mut server = server();
    let database = server.database();
    let url = server.url(&database);
    open(&server, &database).await.close().await;
    let newer = "INSERT INTO impuls_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', true, '\\x00', 0)";
    server.sql(&database, newer);
    let (error, text) = refusal(config(&url)).await;
    assert!(matches!(reason(&error), PostgresError::Newer { found: 99, .. }), "{text}");
    server.sql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let (error, text) = refusal(config(&server.url("latin"))).await;
    assert!(matches!(reason(&error), PostgresError::Encoding { .. }), "{text}");
    for (url, what) in [
        (url.replace("postgres:it", "postgres:that"), "password authentication failed"),
        (server.url("nowhere"), "\"nowhere\" does not exist"),
    ] {
        let (error, text) = refusal(config(&url)).await;
        assert!(matches!(reason(&error), PostgresError::Refused { .. }) && text.contains(what), "{text}");
    }
    let (error, text) = refusal(config(&format!("{url}?sslmode=require"))).await;
    assert!(matches!(reason(&error), PostgresError::Tls { .. }), "{text}");
    server.kill();
    let (error, text) = refusal(config(&url)).await;
    assert!(matches!(reason(&error), PostgresError::Unreachable { .. }), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{}", server.port())), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, openssl"]
async fn every_sslmode_does_what_libpq_says() {
    let server = Postgres::start(PostgresOptions { tls: true, ..PostgresOptions::default() });
    let database = server.database();
    let authority = server.authority().display().to_string();
    let by_address = server.url(&database);
    let by_name = by_address.replace("127.0.0.1", "localhost");
    // The server refuses whoever comes without TLS, so `allow` comes again with it.
    let roots = format!("&sslrootcert={authority}");
    for (url, mode, works) in [
        (&by_address, "disable".to_owned(), false),
        (&by_address, "allow".to_owned(), true),
        (&by_address, "prefer".to_owned(), true),
        (&by_address, "require".to_owned(), true),
        (&by_address, "verify-ca".to_owned(), false),
        (&by_name, "verify-full".to_owned(), false),
        (&by_address, format!("verify-ca{roots}"), true),
        (&by_address, format!("require{roots}"), true),
        (&by_address, format!("verify-full{roots}"), false),
        (&by_name, format!("verify-full{roots}"), true),
        (&by_name, "verify-full&sslrootcert=/nowhere".to_owned(), false),
    ] {
        let opened = PostgresStore::open(config(&format!("{url}?sslmode={mode}"))).await;
        assert_eq!(opened.is_ok(), works, "{mode}: {opened:?}");
        let Ok(store) = opened else { continue };
        store.count_functions().await.unwrap();
        let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE ssl AND application_name = 'impuls'";
        assert_ne!(server.sql(&database, encrypted), "0", "{mode}");
        store.close().await;
    }
    let socket = server.socket_folder().display();
    let url = by_address.replace(&format!("127.0.0.1:{}", server.port()), "");
    let by_socket = format!("{url}?host={socket}&port={}&sslmode=require", server.port());
    PostgresStore::open(config(&by_socket)).await.unwrap().count_functions().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn every_column_of_every_table_is_transferred() {
    let server = server();
    let database = server.database();
    open(&server, &database).await.close().await;
    // What is of this database alone: what was made in it, what fills it, which it is, and who uses it now.
    let query = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public' \
                 AND table_name NOT IN ('impuls_migrations', 'impuls_filling', 'impuls_identity', 'impuls_nodes')";
    let there = server.sql(&database, query);
    let there: BTreeSet<&str> = there.lines().collect();
    let of = |table: Table| {
        table.columns().iter().map(move |column| format!("impuls_{}.{}", table.name(), column.name))
    };
    let known: BTreeSet<String> = Table::ALL.into_iter().flat_map(of).collect();
    assert_eq!(there, known.iter().map(String::as_str).collect());
}

fn filling() -> Filling {
    Filling { source: "elsewhere".to_owned(), started_at: fixture::at(1), ended_at: None }
}

/// A database may be far away, so what counts is how often it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn many_rows_are_put_by_few_statements() {
    let server = server();
    let database = server.database();
    let store = open(&server, &database).await;
    server.sql(
        &database,
        "CREATE TABLE statements (at TIMESTAMPTZ); \
         CREATE FUNCTION note() RETURNS TRIGGER LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO statements VALUES (now()); RETURN NULL; END'; \
         CREATE TRIGGER note AFTER INSERT ON impuls_builds FOR EACH STATEMENT EXECUTE FUNCTION note()",
    );
    store.put_filling(&filling()).await.unwrap();
    // Three parameters each, of which a statement has at most 65,535.
    let build = |n: u32| {
        let key: Vec<u8> = n.to_be_bytes().repeat(8);
        Row(vec![Cell::Bytes(key.clone()), Cell::Bytes(key), Cell::Integer(i64::from(n))])
    };
    let rows: Vec<Row> = (0..22_000).map(build).collect();
    store.put_rows(&filling(), Table::Builds, rows).await.unwrap();
    let mut state = store.snapshot().await.unwrap();
    assert_eq!(state.count_rows(Table::Builds).await.unwrap(), 22_000);
    assert_eq!(server.sql(&database, "SELECT count(*) FROM statements"), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_database_is_somebodys_alone_or_the_servers() {
    let server = server();
    let database = server.database();
    let (store, other) = (open(&server, &database).await, open(&server, &database).await);
    let Hold::Held(hold) = store.hold().await.unwrap() else { panic!("nobody uses it") };
    let refused = other.changes().begin().await.unwrap_err();
    assert!(matches!(reason(&refused), PostgresError::Taken), "{refused:?}");
    let taken = other.hold().await.unwrap();
    assert!(matches!(taken, Hold::Taken), "{taken:?}");
    drop(hold);
    // The database may notice a moment later, which whoever wants to hold it waits for.
    assert!(matches!(other.hold().await.unwrap(), Hold::Held(_)));
    let mut changes = store.changes();
    while changes.begin().await.is_err() {
        tokio::task::yield_now().await;
    }
    let used = other.hold().await.unwrap();
    assert!(matches!(used, Hold::Servers(1)), "{used:?}");
}
