//! Listening addresses and the threads that answer.
//!
//! Connections are handed out in turn, so that every thread has its share however few there are. From then on a
//! connection stays on its thread, and so do the calls that come over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use impuls_api::Front;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// Connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 10_000;
/// Pause after a failure to accept, such as a lack of descriptors, that would only repeat itself at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether the front threads have ended.
const END_POLL: Duration = Duration::from_millis(5);
/// The most front threads; more would only add connections to every sandbox.
const MAX_FRONTS: usize = 4;

/// How many front threads this machine has.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_FRONTS))
}

/// Whoever answers connections.
#[async_trait]
pub(crate) trait Serve: Send + Sync + 'static {
    /// Serves one connection until it is closed. When `closing` turns true, what was asked is finished first.
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, closing: watch::Receiver<bool>);
}

#[async_trait]
impl Serve for Front {
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, closing: watch::Receiver<bool>) {
        self.serve(stream, closing).await;
    }
}

#[async_trait]
impl Serve for impuls_cluster::Server {
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, closing: watch::Receiver<bool>) {
        self.serve(stream, closing).await;
    }
}

/// The running front threads.
pub(crate) struct Fronts {
    threads: Vec<JoinHandle<()>>,
    queues: Vec<mpsc::UnboundedSender<Accepted>>,
    next: AtomicUsize,
    connections: Arc<tokio::sync::Semaphore>,
}

struct Accepted {
    stream: std::net::TcpStream,
    permit: tokio::sync::OwnedSemaphorePermit,
}

impl Fronts {
    /// Starts the threads. They end when `closing` is true and their connections are closed.
    pub(crate) fn start<S: Serve>(front: &Arc<S>, closing: &watch::Receiver<bool>) -> anyhow::Result<Self> {
        let (mut threads, mut queues) = (Vec::new(), Vec::new());
        for index in 0..count() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (front, closing) = (front.clone(), closing.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("front-{index}")).spawn(move || {
                impuls_worker::front::enter(index);
                runtime.block_on(serve(front, receiver, closing));
            });
            threads.push(thread.context("cannot start a front thread")?);
            queues.push(sender);
        }
        let connections = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        Ok(Self { threads, queues, next: AtomicUsize::new(0), connections })
    }

    /// Accepts connections of one listener until dropped.
    pub(crate) async fn accept(&self, listener: TcpListener) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            let accepted = match listener.accept().await {
                Ok((stream, _peer)) => prepare(stream),
                Err(error) => Err(error),
            };
            match accepted {
                Ok(stream) => self.hand_out(Accepted { stream, permit }),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn hand_out(&self, accepted: Accepted) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(queue) = self.queues.get(turn % self.queues.len().max(1)) {
            // A thread that has ended takes no more connections; this one is closed.
            drop(queue.send(accepted));
        }
    }

    /// Takes no more connections, and waits until all are closed, but no longer than `patience`; what is open then
    /// ends with the process.
    pub(crate) async fn end(self, patience: Duration) {
        drop(self.queues);
        let until = tokio::time::Instant::now() + patience;
        while self.threads.iter().any(|thread| !thread.is_finished()) && tokio::time::Instant::now() < until {
            tokio::time::sleep(END_POLL).await;
        }
    }
}

fn prepare(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

async fn serve<S: Serve>(
    front: Arc<S>,
    mut queue: mpsc::UnboundedReceiver<Accepted>,
    closing: watch::Receiver<bool>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = queue.recv() => {
                let Some(Accepted { stream, permit }) = accepted else { break };
                let Ok(stream) = TcpStream::from_std(stream) else { continue };
                let serving = front.clone().serve_connection(stream, closing.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Where these listen.
pub(crate) fn addresses(listeners: &[TcpListener]) -> std::io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Binds those of these addresses that nobody else has.
pub(crate) async fn bind_free(addresses: &[SocketAddr]) -> Vec<TcpListener> {
    let mut listeners = Vec::new();
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::info!(%address, %error, "not listening on this further address"),
        }
    }
    listeners
}

/// Binds exactly these addresses.
pub(crate) async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        let hint =
            "is another server running? Give another address with --listen or another port with --port";
        listeners.push(listener.with_context(|| format!("cannot listen on {address}; {hint}"))?);
    }
    Ok(listeners)
}
