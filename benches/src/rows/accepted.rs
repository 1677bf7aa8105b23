//! Asynchronous calls: how fast they are accepted durably, and how long after the last one all have ended. Beside the embedded
//! store a bare HTTP server that appends each event to a file and answers when the disk has it, many at a time; beside
//! PostgreSQL a program that inserts the event, one row in each commit, over as many connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use impuls_testkit::{SomeDatabase, SomeRedis};
use serde::Serialize;
use serde_json::Value;

use super::Row;
use crate::bench::{Bench, EVENT};
use crate::cluster::Cluster;
use crate::http::{Connection, post};
use crate::load::CONNECTIONS;
use crate::processes::{Process, pause};
use crate::report::{Budget, Figure, Findings, number};
use crate::server::{Function, Language, Server, invoke_path};
use crate::services::{self, Inserts};
use crate::stats::median;

/// Calls in one turn.
const JOBS: u32 = 10_000;
/// How long they may take to end before something is wrong.
const MOST_WAIT: Duration = Duration::from_secs(120);
/// How often it is asked whether all have ended.
const POLL: Duration = Duration::from_millis(20);
/// Rows on a page when they are counted.
const PAGE: usize = 200;
/// Calls before those that count, so that every interpreter has compiled what it will.
const WARM_UP: u32 = 2_000;

/// What one turn measured.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    /// Where the calls are kept.
    store: &'static str,
    /// Accepted in a second.
    accepted: f64,
    /// From the last acceptance until all have ended, in seconds.
    finished_after: f64,
    /// Kept in a second by the peer.
    peer: f64,
}

/// Servers that keep calls somewhere.
struct Kept {
    store: &'static str,
    /// Who is called.
    server: Server,
    peer: Peer,
    /// Accepted in a second at least.
    budget: f64,
    /// Held so that they run on, and end before what they stand on.
    _worker: Option<Server>,
    _database: Option<SomeDatabase>,
    _redis: Option<SomeRedis>,
}

/// What keeps events and does nothing else.
enum Peer {
    Append(Process, SocketAddr),
    Insert(Inserts),
}

impl Peer {
    fn append(bench: &Bench) -> anyhow::Result<Self> {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("append-http").arg(bench.scratch("appended"));
        let (process, address) = bench.listener("append-http", &mut command)?;
        submit(address, "/", WARM_UP)?;
        Ok(Self::Append(process, address))
    }

    /// Has so many events kept, and gives how many there were in a second.
    fn keep(&self, bench: &Bench, events: u32) -> anyhow::Result<f64> {
        match self {
            Self::Append(_runs, address) => submit(*address, "/", events),
            Self::Insert(inserts) => inserts.run(bench, events),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Append(..) => "a bare server that syncs in groups",
            Self::Insert(_) => "pgbench, one INSERT and one commit for each",
        }
    }
}

impl Kept {
    fn embedded(bench: &Bench) -> anyhow::Result<Self> {
        Ok(Self {
            store: "embedded store",
            server: Server::start(bench, "accepted", &[])?,
            peer: Peer::append(bench)?,
            budget: 5_000.0,
            _worker: None,
            _database: None,
            _redis: None,
        })
    }

    fn postgres(bench: &Bench) -> anyhow::Result<Self> {
        let database = services::database(bench)?;
        let flags = ["--storage", "postgres", "--db-conn", database.url()];
        Ok(Self {
            store: "PostgreSQL",
            server: Server::start(bench, "accepted-postgres", &flags)?,
            peer: Peer::Insert(Inserts::prepare(bench)?),
            budget: 2_000.0,
            _worker: None,
            _database: Some(database),
            _redis: None,
        })
    }

    fn cluster(bench: &Bench) -> anyhow::Result<Self> {
        let (database, redis) = (services::database(bench)?, services::redis(bench)?);
        let cluster = Cluster::new("accepted", database.url(), Some(redis.url()));
        let worker = cluster.worker(bench, "worker", None, &[])?;
        Ok(Self {
            store: "PostgreSQL and Redis, controller and worker",
            server: cluster.controller(bench)?,
            peer: Peer::Insert(Inserts::prepare(bench)?),
            budget: 2_000.0,
            _worker: Some(worker),
            _database: Some(database),
            _redis: Some(redis),
        })
    }
}

/// The measurement.
pub(super) struct Accepted {
    all: Vec<Kept>,
    turns: Vec<Turn>,
}

impl Accepted {
    pub(super) fn prepare(bench: &Bench) -> anyhow::Result<Self> {
        let all = vec![Kept::embedded(bench)?, Kept::postgres(bench)?, Kept::cluster(bench)?];
        Ok(Self { all, turns: Vec::new() })
    }
}

/// Posts so many events over all connections; every answer must be 202. Gives how many there were in a second.
fn submit(address: SocketAddr, path: &str, jobs: u32) -> anyhow::Result<f64> {
    let (request, taken) = (post(path, EVENT.as_bytes()), AtomicU32::new(0));
    let client = || -> anyhow::Result<()> {
        let mut connection = Connection::open(address)?;
        while taken.fetch_add(1, Ordering::Relaxed) < jobs {
            let reply = connection.exchange(&request)?;
            if reply.status != 202 {
                bail!("status {}: {}", reply.status, String::from_utf8_lossy(reply.body));
            }
        }
        Ok(())
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client is lost")))
    })?;
    Ok(f64::from(jobs) / begun.elapsed().as_secs_f64())
}

/// Waits until nothing of the function waits or runs.
fn finished(connection: &mut Connection, path: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < MOST_WAIT {
        if count(connection, path, "queued", 1)? + count(connection, path, "running", 1)? == 0 {
            return Ok(());
        }
        pause(POLL);
    }
    bail!("calls that were accepted have not ended within {MOST_WAIT:?}")
}

/// How many of the function's calls stand so; counted no further than the page that reaches `at_most`.
fn count(connection: &mut Connection, path: &str, status: &str, at_most: usize) -> anyhow::Result<usize> {
    let (mut found, mut cursor) = (0, String::new());
    let limit = at_most.min(PAGE);
    loop {
        let list = connection.json("GET", &format!("{path}?status={status}&limit={limit}{cursor}"), None)?;
        found += list.get("items").and_then(Value::as_array).context("no list of calls")?.len();
        match list.get("next_cursor").and_then(Value::as_str) {
            Some(next) if found < at_most => cursor = format!("&cursor={next}"),
            _ => return Ok(found),
        }
    }
}

/// One turn: how many were accepted in a second, and how many seconds after the last one all had ended.
fn turn(server: &Server, round: u32) -> anyhow::Result<(f64, f64)> {
    let mut connection = server.connect()?;
    // One function a turn, so that its calls can be counted; the database may have those of an earlier run.
    let (name, code) = (format!("job-{}-{round}", std::process::id()), Language::Node.echo());
    let function = Function { concurrency: CONNECTIONS, ..Function::of(Language::Node, &name, &code) };
    function.create(&mut connection)?;
    let path = format!("/api/v1/functions/{name}/invocations");
    let warm = post(&invoke_path(&name), EVENT.as_bytes());
    for _ in 0..WARM_UP {
        connection.exchange(&warm)?;
    }
    let accepted = submit(server.address, &path, JOBS)?;
    let last = Instant::now();
    finished(&mut connection, &path)?;
    let finished_after = last.elapsed().as_secs_f64();
    let succeeded = count(&mut connection, &path, "succeeded", usize::MAX)?;
    if succeeded != JOBS as usize {
        bail!("of {JOBS} accepted calls {succeeded} have succeeded");
    }
    Ok((accepted, finished_after))
}

impl Row for Accepted {
    fn name(&self) -> &'static str {
        "asynchronous calls"
    }

    fn round(&mut self, bench: &Bench, round: u32) -> anyhow::Result<()> {
        for kept in &self.all {
            let (accepted, finished_after) = turn(&kept.server, round)?;
            let peer = kept.peer.keep(bench, JOBS)?;
            self.turns.push(Turn { store: kept.store, accepted, finished_after, peer });
        }
        Ok(())
    }

    fn findings(self: Box<Self>) -> anyhow::Result<Findings> {
        let mut figures = Vec::new();
        for kept in &self.all {
            let turns = || self.turns.iter().filter(|turn| turn.store == kept.store);
            let peer = format!("{} {}/s", kept.peer.name(), number(median(turns().map(|turn| turn.peer))));
            let figure = |what: &str, value, unit| {
                Figure::told(5, format!("asynchronous calls, {}, {what}", kept.store), value, unit)
            };
            figures.extend([
                figure("accepted durably", median(turns().map(|turn| turn.accepted)), "/s")
                    .within(Budget::AtLeast(kept.budget))
                    .with(format!("{JOBS} calls over {CONNECTIONS} connections, delivery running; {peer}")),
                figure("accepted, to the peer", median(turns().map(|turn| turn.accepted / turn.peer)), "×"),
                figure(
                    "the last of 10,000 ended after",
                    median(turns().map(|turn| turn.finished_after)),
                    "s",
                )
                .within(Budget::AtMost(4.0)),
            ]);
        }
        Ok(Findings { name: "accepted", figures, samples: serde_json::to_value(&self.turns)? })
    }
}
