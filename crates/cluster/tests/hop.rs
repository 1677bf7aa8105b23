//! The hop between nodes: workers and who calls them in one process, over real connections.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_cluster::{About, Host, Load, Members, RemoteWorkers, Server, Token, Trust};
use impuls_dispatch::{
    CommandPool, Duplex, ExecuteRequest, Executed, Input, InputBroken, LiveSandbox, OnOutput, Refusals,
    RunError, RunRequest, Target, Worker,
};
use impuls_domain::{
    Built, Deadline, ErrorType, Failure, FunctionId, FunctionName, InvocationId, LoadFailure, Logs, Outcome,
    Revision, RevisionId, Usage, VersionNumber,
};
use impuls_runtimes::Announced;
use impuls_store::conformance::fixture;
use impuls_store::{NodeRecord, NodeStore, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// Bytes that a call writes which streams.
const STREAMED: usize = 2 * 1024 * 1024;
/// Calls that each worker says it runs with ease.
const SLOTS: usize = 64;

/// What workers of these tests do with calls.
#[derive(Default)]
struct Stage {
    /// So many calls are refused for want of room, whichever the worker.
    refusals: AtomicUsize,
    /// A call with the event `killed` ends with its sandbox, when that is told.
    ends: Notify,
    /// Calls that have begun.
    begun: AtomicUsize,
}

fn outcome(result: Result<Bytes, Failure>) -> Outcome<Bytes> {
    Outcome { result, logs: Logs::default(), usage: Usage::default() }
}

#[async_trait]
impl Worker for Stage {
    /// Gives the body back, or the event. With neither, it streams.
    async fn run(&self, request: RunRequest, duplex: Option<Duplex>) -> Result<Outcome<Bytes>, RunError> {
        let refused =
            self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if refused.is_ok() {
            return Err(RunError::QueueFull { retry_after: Duration::from_secs(1) });
        }
        if request.deadline.remaining(Instant::now().into_std()).is_zero() {
            return Err(RunError::NoSandboxInTime);
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        if &*request.event == b"killed" {
            self.ends.notified().await;
            let (class, message) = (String::new(), "ended by signal 9".to_owned());
            return Ok(outcome(Err(Failure { error_type: ErrorType::Exited, class, message, stack: None })));
        }
        let Some(Duplex { input, output }) = duplex else { return Ok(outcome(Ok(request.event))) };
        if let Some(mut input) = input {
            let mut body = Vec::new();
            while let Some(piece) = input.next().await {
                body.extend(piece?);
            }
            return Ok(outcome(Ok(body.into())));
        }
        for _ in 0..STREAMED / 0x1_0000 {
            drop(output.send(Bytes::from(vec![7; 0x1_0000])).await);
        }
        Ok(outcome(Ok(Bytes::new())))
    }

    async fn execute(&self, _: ExecuteRequest) -> Result<Executed, RunError> {
        Err(RunError::NoSandboxInTime)
    }

    async fn prewarm_commands(&self, _: usize) -> CommandPool {
        CommandPool::default()
    }

    async fn command_pool(&self) -> CommandPool {
        CommandPool::default()
    }

    async fn sandboxes(&self) -> Vec<LiveSandbox> {
        Vec::new()
    }

    async fn refusals(&self, _: FunctionId) -> Refusals {
        Refusals::default()
    }

    async fn warm(&self, _: &Arc<Target>, count: usize, _: Deadline) -> usize {
        count
    }
}

fn target(function: FunctionId) -> Arc<Target> {
    let function_name = "f".parse().unwrap();
    let revision = fixture::revision(function, 0);
    Arc::new(Target { function_name, version: VersionNumber::FIRST, revision })
}

/// The host of a worker on this stage.
struct Actor(Arc<Stage>);

#[async_trait]
impl Host for Actor {
    fn worker(&self) -> &dyn Worker {
        &*self.0
    }

    async fn target(
        &self,
        function: FunctionId,
        _: VersionNumber,
        _: RevisionId,
    ) -> Result<Arc<Target>, RunError> {
        Ok(target(function))
    }

    async fn build(&self, _: &Revision, _: &OnOutput) -> Result<Built, RunError> {
        Ok(Built::AsIs)
    }

    async fn check(&self, _: &FunctionName, _: &Revision) -> (Option<Duration>, Option<LoadFailure>) {
        (None, None)
    }

    async fn activate(&self, _: FunctionId) -> Result<(), RunError> {
        Ok(())
    }

    fn wake(&self) {}
}

/// A worker that listens.
struct Node {
    address: SocketAddr,
    load: Arc<Load>,
    /// Connections that it has had, and that it has.
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _closing: watch::Sender<bool>,
}

impl Node {
    async fn on(stage: &Arc<Stage>, trust: Trust) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (load, accepted, open) =
            (Arc::new(Load::default()), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let server = Server::new(Arc::new(Actor(stage.clone())), load.clone(), trust);
        let (close, closing) = watch::channel(false);
        let counts = (accepted.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                counts.1.fetch_add(1, Ordering::SeqCst);
                let (serving, open) = (server.clone().serve(stream, closing.clone()), counts.1.clone());
                tokio::spawn(async move {
                    serving.await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, load, accepted, open, _closing: close }
    }
}

/// The workers that there are.
struct Nodes(Vec<NodeRecord>);

#[async_trait]
impl NodeStore for Nodes {
    async fn announce_node(&self, _: &NodeRecord, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn list_nodes(&self, _: Duration) -> Result<Vec<NodeRecord>, StoreError> {
        Ok(self.0.clone())
    }

    async fn remove_node(&self, _: Uuid, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// Workers at these addresses, as a controller sees them.
async fn workers(addresses: &[SocketAddr]) -> Arc<RemoteWorkers> {
    let runtime = Announced {
        language: "nodejs".to_owned(),
        order: (20, 0),
        name: "nodejs20".to_owned(),
        version: "20".to_owned(),
        path: "/node".to_owned(),
    };
    let nodes = addresses.iter().enumerate().map(|(number, address)| {
        let (address, runtimes) = (address.to_string(), vec![runtime.clone()]);
        let about = About { address, runtimes, slots: SLOTS, ..About::default() };
        let about = serde_json::to_string(&about).unwrap();
        NodeRecord { id: format!("worker-{number}"), session: Uuid::now_v7(), about }
    });
    let members = Members::new(Arc::new(Nodes(nodes.collect())), Trust::default());
    members.look().await.unwrap();
    RemoteWorkers::new(members, None)
}

fn call(function: FunctionId, event: &'static [u8], seconds: u64) -> RunRequest {
    let (admitted, timeout) = (Instant::now().into_std(), Duration::from_secs(seconds));
    RunRequest {
        id: InvocationId::new(),
        target: target(function),
        event: Bytes::from_static(event),
        context: Bytes::new(),
        admitted,
        deadline: Deadline::at(admitted + timeout),
        timeout,
        deadline_unix_ms: 0,
        max_concurrency: None,
        measure: false,
    }
}

/// A body in pieces.
struct Body(Vec<&'static str>);

#[async_trait]
impl Input for Body {
    async fn next(&mut self) -> Option<Result<Bytes, InputBroken>> {
        (!self.0.is_empty()).then(|| Ok(Bytes::from_static(self.0.remove(0).as_bytes())))
    }
}

async fn all(mut output: mpsc::Receiver<Bytes>) -> usize {
    let mut bytes = 0;
    while let Some(piece) = output.recv().await {
        bytes += piece.len();
    }
    bytes
}

#[tokio::test]
async fn a_streaming_call_that_one_worker_refuses_is_whole_on_the_next() {
    let stage = Arc::new(Stage::default());
    let (one, two) = (Node::on(&stage, Trust::default()).await, Node::on(&stage, Trust::default()).await);
    let workers = workers(&[one.address, two.address]).await;
    for pieces in [vec![], vec!["abc"], vec!["a", "b", "c"]] {
        stage.refusals.store(1, Ordering::SeqCst);
        let body = pieces.concat();
        let (duplex, _output) = Duplex::new(Some(Box::new(Body(pieces))));
        let ended = workers.run(call(FunctionId::new(), b"", 60), Some(duplex)).await.unwrap();
        assert_eq!(ended.result.unwrap(), body);
    }
    stage.refusals.store(1, Ordering::SeqCst);
    let (duplex, output) = Duplex::new(None);
    let streaming = workers.run(call(FunctionId::new(), b"", 60), Some(duplex));
    let (ended, bytes) = tokio::join!(streaming, all(output));
    assert_eq!(bytes + ended.unwrap().result.unwrap().len(), STREAMED);
    // Where everybody refuses, the caller is told.
    stage.refusals.store(2, Ordering::SeqCst);
    let (duplex, _output) = Duplex::new(Some(Box::new(Body(vec!["abc"]))));
    let refused = workers.run(call(FunctionId::new(), b"", 60), Some(duplex)).await;
    assert!(matches!(refused, Err(RunError::QueueFull { .. })), "{refused:?}");
}

#[tokio::test]
async fn those_who_do_not_read_hold_up_nobody_else() {
    let stage = Arc::new(Stage::default());
    let node = Node::on(&stage, Trust::default()).await;
    let workers = workers(&[node.address]).await;
    let mut unread = Vec::new();
    for _ in 0..17 {
        let (duplex, output) = Duplex::new(None);
        let workers = workers.clone();
        let running =
            tokio::spawn(async move { workers.run(call(FunctionId::new(), b"", 600), Some(duplex)).await });
        unread.push((running, output));
    }
    while stage.begun.load(Ordering::SeqCst) < unread.len() {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        let ended = workers.run(call(FunctionId::new(), b"1", 20), None).await.unwrap();
        assert_eq!(ended.result.unwrap(), "1");
    }
    for (running, output) in unread {
        let (ended, bytes) = tokio::join!(running, all(output));
        assert_eq!(bytes + ended.unwrap().unwrap().result.unwrap().len(), STREAMED);
    }
}

/// An address to which connections are neither made nor refused.
async fn black_hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Nobody accepts them, and when the queue is full nobody is let in.
    let queued = || tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address));
    while let Ok(Ok(stream)) = queued().await {
        waiting.push(stream);
    }
    (address, waiting, listener)
}

#[tokio::test]
async fn calls_do_not_wait_one_after_another_for_who_cannot_be_reached() {
    let stage = Arc::new(Stage::default());
    let node = Node::on(&stage, Trust::default()).await;
    let (nowhere, _waiting, _listener) = black_hole().await;
    let workers = workers(&[nowhere, node.address]).await;
    let calls: Vec<_> = (0..40)
        .map(|number| {
            let (workers, function) = (workers.clone(), FunctionId::from_uuid(Uuid::from_u128(number)));
            tokio::spawn(async move { workers.run(call(function, b"1", 5), None).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().result.unwrap(), "1");
    }
}

#[tokio::test]
async fn what_a_stopping_worker_cuts_off_is_no_failure_of_the_function() {
    let stage = Arc::new(Stage::default());
    let node = Node::on(&stage, Trust::default()).await;
    let workers = workers(&[node.address]).await;
    let run = || {
        let workers = workers.clone();
        tokio::spawn(async move { workers.run(call(FunctionId::new(), b"killed", 60), None).await })
    };
    let crashed = run();
    stage.ends.notify_one();
    let failure = crashed.await.unwrap().unwrap().result.unwrap_err();
    assert_eq!(failure.error_type, ErrorType::Exited);
    let cut_off = run();
    while stage.begun.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    node.load.cut_off();
    stage.ends.notify_one();
    let lost = cut_off.await.unwrap();
    assert!(matches!(lost, Err(RunError::WorkerLost(_))), "{lost:?}");
    // What ends by itself meanwhile has ended so.
    let ended = workers.run(call(FunctionId::new(), b"1", 60), None).await.unwrap();
    assert_eq!(ended.result.unwrap(), "1");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Of HEADERS: this is all of the request.
const END: u8 = 0x5;

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a request that wakes, each written out (RFC 7541 §6.2.2).
fn wake() -> Vec<u8> {
    let mut block = Vec::new();
    let headers = [(":method", "POST"), (":scheme", "http"), (":path", "/v1/wake"), ("impuls-protocol", "1")];
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

#[tokio::test]
async fn calls_that_are_cancelled_all_at_once_take_no_other_with_them() {
    let node = Node::on(&Arc::default(), Trust::default()).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    for number in 0..30 {
        let id = 2 * number + 1;
        sent.extend(frame(HEADERS, END, id, &wake()));
        sent.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    sent.extend(frame(HEADERS, END, 99, &wake()));
    stream.write_all(&sent).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        assert_ne!(head[3], GOAWAY, "{}", String::from_utf8_lossy(&payload));
        if head[3] == HEADERS && head[5..] == 99_u32.to_be_bytes() {
            return;
        }
    }
}

/// Passes time at once.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_connection_over_which_no_node_asks_anything_is_closed() {
    let token = Some(Token::new("a-token-that-only-tests-know").unwrap());
    let node = Node::on(&Arc::default(), Trust { token, tls: None }).await;
    // One that says nothing, and one that answers all but the question who it is.
    let mut silent = TcpStream::connect(node.address).await.unwrap();
    let strangers = workers(&[node.address]).await;
    strangers.run(call(FunctionId::new(), b"1", 1), None).await.unwrap_err();
    while node.open.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    pass(30).await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(60), silent.read_to_end(&mut rest)).await;
    closed.unwrap().unwrap();
    while node.open.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_over_which_a_node_has_asked_stays() {
    let node = Node::on(&Arc::default(), Trust::default()).await;
    let workers = workers(&[node.address]).await;
    for _ in 0..2 {
        workers.run(call(FunctionId::new(), b"1", 600), None).await.unwrap();
        assert_eq!(node.open.load(Ordering::SeqCst), 1);
        pass(30).await;
    }
    assert_eq!(node.accepted.load(Ordering::SeqCst), 1);
}
