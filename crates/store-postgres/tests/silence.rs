//! A database that vanishes without a word: connections stay open and nothing comes over them any more.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use impuls_store::FunctionStore as _;
use impuls_store_postgres::{Change, Config, PostgresStore};
use impuls_testkit::{Postgres, PostgresOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Far more than anything here takes, and far less than TCP needs to notice.
const LONG: Duration = Duration::from_secs(180);

/// A link to a server whose connections can go silent.
struct Link {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// So many of the connections, the oldest, pass nothing on.
    silent: Arc<AtomicUsize>,
}

impl Link {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            silent: Arc::default(),
        };
        let (accepted, silent) = (link.accepted.clone(), link.silent.clone());
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, (number, silent.clone())));
                tokio::spawn(carry(far_in, near_out, (number, silent.clone())));
            }
        });
        link
    }

    /// Nothing comes over the connections that there are; new ones are well.
    fn silence(&self) {
        self.silent.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (number, silent): (usize, Arc<AtomicUsize>),
) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if number < silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(buffer.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

async fn server() -> (Postgres, String, Link) {
    let started = tokio::task::spawn_blocking(|| {
        let server = Postgres::start(PostgresOptions::default());
        let url = server.url(&server.database());
        (server, url)
    });
    let (server, url) = started.await.unwrap();
    let link = Link::to(server.port()).await;
    let url = url.replace(&format!("127.0.0.1:{}", server.port()), &link.address.to_string());
    (server, url, link)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn connections_whose_server_has_vanished_make_room_for_others() {
    let (_server, url, link) = server().await;
    let config = Config { pool_size: 2, ..Config::new(url.parse().unwrap()) };
    let store = PostgresStore::open(config).await.unwrap();
    let (asked, users): (Arc<AtomicUsize>, _) = (Arc::default(), store.clone());
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (store, asked) = (users.clone(), asked.clone());
            tokio::spawn(async move {
                while store.count_functions().await.is_ok() {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    while asked.load(Ordering::SeqCst) < 100 {
        tokio::task::yield_now().await;
    }
    link.silence();
    // Nobody waits any more for what is on its way.
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    let again = async { while store.count_functions().await.is_err() {} };
    tokio::time::timeout(LONG, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn who_listens_over_a_connection_that_went_silent_listens_again() {
    let (server, url, link) = server().await;
    let store = PostgresStore::open(Config::new(url.parse().unwrap())).await.unwrap();
    let mut changes = store.changes();
    assert_eq!(changes.next().await, Change::Anything);
    link.silence();
    assert_eq!(tokio::time::timeout(LONG, changes.next()).await.unwrap(), Change::Anything);
    let (_, database) = url.rsplit_once('/').unwrap();
    let id = uuid::Uuid::now_v7();
    server.sql(database, &format!("NOTIFY impuls_functions, '{id}'"));
    let told = Change::Function(impuls_domain::FunctionId::from_uuid(id));
    assert_eq!(tokio::time::timeout(LONG, changes.next()).await.unwrap(), told);
}
