//! The resolver of sandboxes: passes their questions on to the machine's own resolvers, as far as their policies
//! go, and keeps back answers that point where no sandbox may go.
//!
//! A sandbox is known by the address that it asks from; the packet filter lets it use no other. For a sandbox
//! with a list, the addresses in an answer are opened in the packet filter before it gets the answer.

mod judge;
mod shares;
mod upstream;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use impuls_domain::{Cidr, NetworkPolicy};
use impuls_sandbox::Refusals;
use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::judge::Verdict;
pub(super) use self::shares::Share;
use self::shares::{Idle, Shares};
use super::ground::Ground;
use super::hand::Hand;
use super::rules::{self, Names, OPENED_LIMIT};

/// The longest question, in bytes.
const QUESTION_LIMIT: usize = 1_232;
/// Questions in flight, of one sandbox, of all sandboxes of one function and of all. A function may have more than its
/// share while more than half of all is free: a hundred sandboxes that start at once ask at once.
const IN_FLIGHT: usize = 32;
const SHARE_IN_FLIGHT: usize = ALL_IN_FLIGHT / 8;
const ALL_IN_FLIGHT: usize = 512;
/// Questions of one sandbox in a second, and how many may come at once.
const RATE: f64 = 200.0;
const BURST: f64 = 400.0;
/// Connections of one sandbox, of one function and of all, how many questions one may carry and how long it may be silent.
const OWN_STREAMS: usize = 8;
const SHARE_STREAMS: usize = STREAMS / 8;
const STREAMS: usize = 128;
const STREAM_QUESTIONS: usize = 64;
const STREAM_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait where the system has no room.
const PAUSE: Duration = Duration::from_millis(10);
/// For how long an address is opened at least and at most, in seconds.
const OPEN_MIN: u64 = 60;
const OPEN_MAX: u64 = 86_400;

/// A sandbox that may ask.
#[derive(Debug)]
pub(super) struct Client {
    number: u32,
    policy: NetworkPolicy,
    /// The name of its function.
    function: String,
    refused: AtomicU64,
    /// As of the last count.
    refused_packets: AtomicU64,
    /// What [`untold`](Self::untold) has returned.
    told: Mutex<Refusals>,
    in_flight: Semaphore,
    streams: Arc<Semaphore>,
    /// What it has together with all other sandboxes of its function.
    share: Arc<Share>,
    pace: Mutex<Pace>,
    opened: tokio::sync::Mutex<HashMap<Target, Instant>>,
}

/// What is opened: an address, with every port or one.
type Target = (Ipv4Addr, Option<u16>);

/// A bucket of questions that fills with time.
#[derive(Debug)]
struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    fn take(&mut self, now: Instant) -> bool {
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

impl Client {
    pub(super) fn new(number: u32, policy: NetworkPolicy, function: &str, share: Arc<Share>) -> Self {
        Self {
            number,
            policy,
            function: function.to_owned(),
            refused: AtomicU64::new(0),
            refused_packets: AtomicU64::new(0),
            told: Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
            streams: Arc::new(Semaphore::new(OWN_STREAMS)),
            share,
            pace: Mutex::new(Pace { left: BURST, at: Instant::now() }),
            opened: tokio::sync::Mutex::default(),
        }
    }

    /// Its number among the server's sandboxes with a network.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Whether its function has a list.
    pub(super) const fn is_listed(&self) -> bool {
        self.policy.allowlist().is_some()
    }

    /// The name of its function.
    pub(super) fn function(&self) -> &str {
        &self.function
    }

    /// Packets that were refused, as of the last count; questions that were not asked and addresses that were kept
    /// back.
    pub(super) fn refused(&self) -> Refusals {
        let (packets, lookups) = (&self.refused_packets, &self.refused);
        Refusals { packets: packets.load(Ordering::Relaxed), lookups: lookups.load(Ordering::Relaxed) }
    }

    /// Notes how many packets have been refused. The count starts again with the rules, should somebody delete them.
    pub(super) fn set_refused_packets(&self, packets: u64) {
        self.refused_packets.fetch_max(packets, Ordering::Relaxed);
    }

    /// What has been refused since this was asked last.
    pub(super) fn untold(&self) -> Refusals {
        let now = self.refused();
        now.since(std::mem::replace(&mut *self.told.lock(), now))
    }

    fn count(&self, refusals: u64) {
        self.refused.fetch_add(refusals, Ordering::Relaxed);
    }
}

/// The resolver of one server.
#[derive(Debug)]
pub(super) struct Resolver {
    clients: RwLock<HashMap<Ipv4Addr, Arc<Client>>>,
    /// Instead of the machine's own.
    servers: Vec<SocketAddr>,
    operator: Vec<Cidr>,
    names: Names,
    filter: Hand<Ground>,
    in_flight: Semaphore,
    streams: Arc<Semaphore>,
    shares: Shares,
    idle: Idle,
}

impl Resolver {
    pub(super) fn new(
        servers: Vec<SocketAddr>,
        operator: Vec<Cidr>,
        names: Names,
        filter: Hand<Ground>,
    ) -> Self {
        Self {
            clients: RwLock::default(),
            servers,
            operator,
            names,
            filter,
            in_flight: Semaphore::new(ALL_IN_FLIGHT),
            streams: Arc::new(Semaphore::new(STREAMS)),
            shares: Shares::default(),
            idle: Idle::default(),
        }
    }

    /// What sandboxes of a function have together.
    pub(super) fn share(&self, function_id: &str) -> Arc<Share> {
        self.shares.of(function_id)
    }

    /// Lets a sandbox ask.
    pub(super) fn enter(&self, address: Ipv4Addr, client: Arc<Client>) {
        self.clients.write().insert(address, client);
    }

    /// Lets it ask no more.
    pub(super) fn leave(&self, address: Ipv4Addr) {
        self.clients.write().remove(&address);
    }

    /// The script that opens the lists of all who may ask.
    pub(super) fn lists(&self) -> String {
        let clients = self.clients.read();
        let script = |(address, client): (&Ipv4Addr, &Arc<Client>)| {
            let list = client.policy.allowlist()?;
            Some(rules::open_list(&self.names, client.number, *address, list))
        };
        clients.iter().filter_map(script).collect()
    }

    /// All who may ask.
    pub(super) fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.read().values().cloned().collect()
    }

    /// The packet filter has lost what was opened by name.
    pub(super) async fn forget_opened(&self) {
        for client in self.clients() {
            client.opened.lock().await.clear();
        }
    }

    fn client(&self, from: SocketAddr) -> Option<Arc<Client>> {
        let IpAddr::V4(address) = from.ip() else { return None };
        self.clients.read().get(&address).cloned()
    }

    /// Answers datagrams; never ends.
    pub(super) async fn serve_datagrams(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; QUESTION_LIMIT + 1];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (Some(client), Some(bytes)) = (self.client(from), buffer.get(..length.min(QUESTION_LIMIT)))
            else {
                continue;
            };
            if !client.pace.lock().take(Instant::now()) {
                client.count(1);
                continue;
            }
            let (resolver, socket, bytes) = (self.clone(), socket.clone(), bytes.to_vec());
            tokio::spawn(async move {
                if let Some(answer) = resolver.answer(&client, &bytes, None).await {
                    let _sandbox_gone = socket.send_to(&answer, from).await;
                }
            });
        }
    }

    /// Answers connections; never ends.
    pub(super) async fn serve_streams(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                // No descriptor is free; some will be.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Some(client) = self.client(from) else { continue };
            let Some(place) = self.place(&client).await else {
                client.count(1);
                continue;
            };
            let resolver = self.clone();
            tokio::spawn(async move {
                let _sandbox_gone = resolver.serve_stream(&client, stream).await;
                drop(place);
            });
        }
    }

    /// A place for a connection: where all are taken, that of the connection that has been silent longest.
    async fn place(&self, client: &Client) -> Option<[OwnedSemaphorePermit; 3]> {
        let own = client.streams.clone().try_acquire_owned().ok()?;
        let shared = client.share.streams.clone().try_acquire_owned().ok()?;
        let all = match self.streams.clone().try_acquire_owned() {
            Ok(permit) => permit,
            // It ends as soon as its task runs.
            Err(_) if self.idle.end_longest() => self.streams.clone().acquire_owned().await.ok()?,
            Err(_) => return None,
        };
        Some([own, shared, all])
    }

    async fn serve_stream(&self, client: &Client, mut stream: TcpStream) -> io::Result<()> {
        for _ in 0..STREAM_QUESTIONS {
            let mut buffer = Vec::new();
            let read = async {
                let length = usize::from(stream.read_u16().await?);
                buffer.resize(length.min(QUESTION_LIMIT), 0);
                stream.read_exact(&mut buffer).await?;
                Ok(length)
            };
            let (silent, ended) = self.idle.enter();
            let length: io::Result<usize> = tokio::select! {
                read = tokio::time::timeout(STREAM_PATIENCE, read) => read?,
                _for_another = ended => return Ok(()),
            };
            drop(silent);
            if length? > QUESTION_LIMIT || !client.pace.lock().take(Instant::now()) {
                client.count(1);
                return Ok(());
            }
            let Some(answer) = self.answer(client, &buffer, Some(u16::MAX)).await else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let whole = [&length.to_be_bytes(), answer.as_slice()].concat();
            tokio::time::timeout(STREAM_PATIENCE, stream.write_all(&whole)).await??;
        }
        Ok(())
    }

    /// The answer to one message, of at most `limit` bytes or as many as the message says that its sender takes.
    /// None to what is no message, and where too much is in flight.
    async fn answer(&self, client: &Client, bytes: &[u8], limit: Option<u16>) -> Option<Vec<u8>> {
        let shared = client.share.in_flight.try_acquire().ok();
        let is_free = shared.is_some() || self.in_flight.available_permits() > ALL_IN_FLIGHT / 2;
        let (true, Ok(_own), Ok(_all)) =
            (is_free, client.in_flight.try_acquire(), self.in_flight.try_acquire())
        else {
            client.count(1);
            return None;
        };
        let message = Message::from_vec(bytes).ok()?;
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        let limit = limit.unwrap_or_else(|| message.max_payload().min(upstream::UDP_LIMIT));
        let answer = self.judge(client, &message).await;
        let whole = answer.to_vec().ok()?;
        if whole.len() <= usize::from(limit) { Some(whole) } else { answer.truncate().to_vec().ok() }
    }

    async fn judge(&self, client: &Client, message: &Message) -> Message {
        let mut answer = Message::response(message.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = message.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_queries(message.queries.iter().cloned());
        if message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(upstream::UDP_LIMIT);
            answer.set_edns(edns);
        }
        let verdict = judge::question(message, &client.policy, &self.operator);
        answer.metadata.response_code = match (verdict, message.queries.first()) {
            (Verdict::Malformed, _) | (_, None) => ResponseCode::NotImp,
            (Verdict::Refused, _) => {
                client.count(1);
                ResponseCode::Refused
            }
            (Verdict::Empty, _) => ResponseCode::NoError,
            (Verdict::Absent, _) => {
                client.count(1);
                ResponseCode::NXDomain
            }
            (Verdict::Ask(ports), Some(query)) => {
                self.pass_on(client, query, &ports, &mut answer).await.unwrap_or_else(|error| {
                    tracing::debug!(error = %error, "a question of a sandbox found no answer");
                    ResponseCode::ServFail
                })
            }
        };
        answer
    }

    async fn pass_on(
        &self,
        client: &Client,
        query: &Query,
        ports: &[Option<u16>],
        answer: &mut Message,
    ) -> io::Result<ResponseCode> {
        let own = if self.servers.is_empty() { upstream::machines_own() } else { Vec::new() };
        let servers = if own.is_empty() { &self.servers } else { &own };
        let said = upstream::ask(query, servers).await?;
        let told = judge::answer(query, &said.answers, &client.policy, &self.operator);
        client.count(told.withheld);
        self.open(client, &told, ports).await?;
        answer.insert_answers(told.records);
        Ok(said.metadata.response_code)
    }

    /// Opens the addresses of an answer to a sandbox with a list.
    async fn open(&self, client: &Client, told: &judge::Told, ports: &[Option<u16>]) -> io::Result<()> {
        if ports.is_empty() || told.addresses.is_empty() {
            return Ok(());
        }
        let secs = u64::from(told.ttl).clamp(OPEN_MIN, OPEN_MAX);
        let now = Instant::now();
        // Held while the packet filter is at it: whoever asks for the same name must not be answered before.
        let mut opened = client.opened.lock().await;
        opened.retain(|_, until| *until > now);
        let wanted = now + Duration::from_secs(secs);
        let all = told.addresses.iter().flat_map(|&address| ports.iter().map(move |&port| (address, port)));
        let missing: Vec<Target> =
            all.filter(|key| opened.get(key).is_none_or(|&until| until < wanted)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if opened.len() + missing.len() > OPENED_LIMIT / 2 {
            return Err(io::Error::other("the sandbox has too many addresses open"));
        }
        // Longer than needed, so that a name that is looked up again and again is not opened again each time.
        let script = rules::open_name(&self.names, client.number, &missing, secs + OPEN_MIN);
        self.filter.ask(move |ground| ground.run(&script)).await??;
        let until = wanted + Duration::from_secs(OPEN_MIN);
        opened.extend(missing.into_iter().map(|target| (target, until)));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
