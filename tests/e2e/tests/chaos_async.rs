//! Asynchronous calls while servers, their database and their Redis are killed: what was accepted ends, once, by itself.
//!
//! Each test submits jobs over HTTP while it breaks something at points that follow from a seed, which it prints; the variable
//! `IMPULS_CHAOS_SEED` repeats them. Afterwards every job that was acknowledged has succeeded, with a result that only running
//! it can give, and that is of the attempt which the row names last.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that does not find what it expects panics; a seed that nobody sees repeats nothing"
)]

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use impuls_e2e::functions::{path, unique};
use impuls_e2e::host::processes_with;
use impuls_e2e::{Data, Launch, Server, Value, eventually, json, within};
use impuls_testkit::{Postgres, PostgresOptions, Redis, RedisOptions};
use reqwest::Method;
use tokio::sync::RwLock;

/// How long recovery and the rest of the work may take on a busy machine.
const ALL_END: Duration = Duration::from_secs(120);
/// How long submitting may take, breaks included.
const ALL_ACCEPTED: Duration = Duration::from_secs(120);
/// Jobs that are submitted at once.
const CLIENTS: usize = 16;
/// A try that was refused or broken off is repeated after this.
const PAUSE: Duration = Duration::from_millis(50);

/// SplitMix64.
struct Seed(u64);

impl Seed {
    #[expect(clippy::disallowed_methods, reason = "a seed comes from outside")]
    fn new(test: &str) -> Self {
        let given = std::env::var("IMPULS_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(now.as_nanos() as u64);
        println!("{test}: IMPULS_CHAOS_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// The servers of a test, of which some may be dead.
struct Fleet {
    servers: Vec<RwLock<Option<Server>>>,
    launches: Vec<Box<dyn Fn() -> Launch + Send + Sync>>,
    accepted: AtomicUsize,
}

/// A job that was acknowledged, by its number.
type Jobs = BTreeMap<usize, String>;

impl Fleet {
    async fn start(launches: Vec<Box<dyn Fn() -> Launch + Send + Sync>>) -> Arc<Self> {
        let mut servers = Vec::new();
        for launch in &launches {
            servers.push(RwLock::new(Some(launch().start().await)));
        }
        Arc::new(Self { servers, launches, accepted: AtomicUsize::new(0) })
    }

    /// Kills a server and starts it again.
    async fn kill(&self, which: usize) {
        let mut place = self.servers[which].write().await;
        place.take().expect("it runs").kill().await;
        *place = Some(self.launches[which]().start().await);
        ready(place.as_ref().expect("it runs"));
    }

    /// A function whose result shows that it ran, when, and for which job; all of its processes have the mark.
    async fn deploy(&self, mark: &str) -> String {
        let code = format!(
            "exports.handler = async (n) => {{ process.title = '{mark}'; const begun = Date.now(); \
             await new Promise((done) => setTimeout(done, n % 20)); return {{ twice: 2 * n, begun }}; }};"
        );
        let first = self.servers[0].read().await;
        ready(first.as_ref().expect("it runs"));
        let name = first
            .as_ref()
            .expect("it runs")
            .node_with(&code, &json!({"concurrency": 16, "timeout_sec": 30}))
            .await;
        for server in &self.servers {
            let server = server.read().await;
            let server = server.as_ref().expect("it runs");
            ready(server);
            let known = async || (server.invoke(&name, &json!(0)).await.status == 200).then_some(());
            eventually("the function is known", ALL_END, known).await;
        }
        name
    }

    /// Has all jobs accepted, whatever is broken meanwhile: what is not acknowledged is submitted again, under its key.
    async fn submit(self: &Arc<Self>, name: &str, jobs: usize) -> Jobs {
        let next = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (fleet, next, name) = (self.clone(), next.clone(), name.to_owned());
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    loop {
                        let job = next.fetch_add(1, Ordering::SeqCst);
                        if job >= jobs {
                            return mine;
                        }
                        mine.push((job, fleet.submit_one(&name, job, client).await));
                        fleet.accepted.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let all = async {
            let mut accepted = Jobs::new();
            for client in clients {
                accepted.extend(client.await.expect("a client does not panic"));
            }
            accepted
        };
        within("all jobs are accepted", ALL_ACCEPTED, all).await
    }

    async fn submit_one(&self, name: &str, job: usize, client: usize) -> String {
        let url = format!("{}/invocations?max_retries=0", path(name));
        for attempt in 0.. {
            let place = self.servers[(client + attempt) % self.servers.len()].read().await;
            if let Some(server) = place.as_ref() {
                let request = server.request(Method::POST, &url).body(job.to_string());
                let request = request.header("Idempotency-Key", format!("job-{job}")).timeout(ALL_END);
                // Broken off: nothing was acknowledged.
                if let Ok(reply) = server.try_send(request).await {
                    match reply.status {
                        202 => return reply.json()["id"].as_str().expect("an id").to_owned(),
                        503 => assert!(reply.headers.contains_key("retry-after"), "{reply:?}"),
                        other => panic!("status {other}: {}", reply.text()),
                    }
                }
            }
            drop(place);
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("it is tried for ever")
    }

    /// Waits until so many jobs are accepted.
    async fn accepted(&self, count: usize) {
        let reached = async || (self.accepted.load(Ordering::SeqCst) >= count).then_some(());
        eventually("so many jobs are accepted", ALL_ACCEPTED, reached).await;
    }

    /// Every job has ended once, well, and by its last attempt.
    async fn all_succeeded(&self, name: &str, jobs: &Jobs) {
        let place = self.servers[0].read().await;
        let server = place.as_ref().expect("it runs");
        let left = async || {
            for status in ["queued", "running"] {
                let reply = server.get(&format!("{}/invocations?status={status}&limit=1", path(name))).await;
                if reply.status != 200
                    || reply.json()["items"].as_array().is_none_or(|items| !items.is_empty())
                {
                    return None;
                }
            }
            Some(())
        };
        eventually("nothing waits and nothing runs", ALL_END, left).await;
        let ids: HashSet<&String> = jobs.values().collect();
        assert_eq!(ids.len(), jobs.len(), "each job has an id of its own");
        let mut again = 0;
        for (job, id) in jobs {
            let row = server.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
            assert_eq!(
                (&row["status"], &row["result"]["twice"]),
                (&json!("succeeded"), &json!(2 * job)),
                "{row}"
            );
            let (begun, started) = (row["result"]["begun"].as_f64(), unix_ms(&row["started_at"]));
            // The start of an attempt is noted before its function begins.
            assert!(begun.expect("a time") + 1.0 >= started, "an old attempt has the last word: {row}");
            again += usize::from(row["attempts"] != 1);
        }
        println!("{again} of {} jobs took more than one attempt", jobs.len());
    }

    /// Stops all servers; nothing of any sandbox is left.
    async fn stop(&self, mark: &str) {
        for place in &self.servers {
            let server = place.write().await.take().expect("it runs");
            assert!(server.stop().await.success());
        }
        let gone = async || processes_with(mark).is_empty().then_some(());
        eventually("no sandbox is left", ALL_END, gone).await;
    }
}

/// What a server says when its database is gone is no surprise.
fn ready(server: &Server) {
    for text in
        ["a request failed", "invocation records are lost", "cannot give asynchronous invocations back"]
    {
        server.expect_error(text);
    }
}

/// Milliseconds since 1970, with `date`'s help.
fn unix_ms(time: &Value) -> f64 {
    let time = time.as_str().expect("a time");
    let output = Command::new("date").args(["+%s.%N", "--date", time]).output().expect("date runs");
    let seconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    (seconds * 1_000.0).floor()
}

type Backing = (Postgres, Redis);

async fn backing() -> Backing {
    let started = tokio::task::spawn_blocking(|| {
        (Postgres::start(PostgresOptions::default()), Redis::start(RedisOptions::default()))
    });
    started.await.expect("they start")
}

/// Two servers that share a database, a Redis and, as operators would, the folder of artifacts.
async fn two_servers((postgres, redis): &Backing) -> Arc<Fleet> {
    let (database, redis) = (postgres.url(&postgres.database()), redis.url());
    let (here, there) = (Data::new(), Data::new());
    std::fs::create_dir(there.folder()).expect("a data folder");
    let artifacts = here.folder().join("artifacts");
    std::os::unix::fs::symlink(artifacts, there.folder().join("artifacts")).expect("a link");
    let launch = |data: Data| -> Box<dyn Fn() -> Launch + Send + Sync> {
        let (database, redis) = (database.clone(), redis.clone());
        Box::new(move || {
            Launch::on(&data)
                .argument("--storage=postgres")
                .variable("IMPULS_DB_CONN", &database)
                .variable("IMPULS_REDIS", &redis)
        })
    };
    Fleet::start(vec![launch(here), launch(there)]).await
}

/// Does something that blocks to what servers stand on.
async fn disturb(backing: Backing, what: impl FnOnce(&mut Backing) + Send + 'static) -> Backing {
    let disturbed = tokio::task::spawn_blocking(move || {
        let mut backing = backing;
        what(&mut backing);
        backing
    });
    disturbed.await.expect("it comes back")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_loses_nothing_when_its_server_is_killed() {
    let mut seed = Seed::new("embedded store");
    let data = Data::new();
    let fleet = Fleet::start(vec![Box::new(move || Launch::on(&data))]).await;
    let mark = unique("chaos");
    // A job that was running at three deaths would be given up, so each set of jobs sees two.
    for _ in 0..3 {
        let name = fleet.deploy(&mark).await;
        fleet.accepted.store(0, Ordering::SeqCst);
        let submitting = tokio::spawn({
            let (fleet, name) = (fleet.clone(), name.clone());
            async move { fleet.submit(&name, 700).await }
        });
        for _ in 0..2 {
            fleet.accepted(1 + seed.below(690)).await;
            fleet.kill(0).await;
        }
        let jobs = submitting.await.expect("all are accepted");
        assert_eq!(jobs.len(), 700);
        fleet.all_succeeded(&name, &jobs).await;
    }
    fleet.stop(&mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn servers_that_are_killed_lose_nothing() {
    let mut seed = Seed::new("servers");
    let backing = backing().await;
    let fleet = two_servers(&backing).await;
    let mark = unique("chaos");
    let name = fleet.deploy(&mark).await;
    let submitting = tokio::spawn({
        let (fleet, name) = (fleet.clone(), name.clone());
        async move { fleet.submit(&name, 2_000).await }
    });
    fleet.accepted(1 + seed.below(900)).await;
    fleet.kill(seed.below(2)).await;
    fleet.accepted(1_000 + seed.below(900)).await;
    tokio::join!(fleet.kill(0), fleet.kill(1));
    let jobs = submitting.await.expect("all are accepted");
    fleet.all_succeeded(&name, &jobs).await;
    fleet.stop(&mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn a_database_that_is_killed_loses_nothing() {
    let mut seed = Seed::new("database");
    let backing = backing().await;
    let fleet = two_servers(&backing).await;
    let mark = unique("chaos");
    let name = fleet.deploy(&mark).await;
    let submitting = tokio::spawn({
        let (fleet, name) = (fleet.clone(), name.clone());
        async move { fleet.submit(&name, 2_000).await }
    });
    let mut backing = backing;
    for round in 0..2 {
        fleet.accepted(round * 900 + 1 + seed.below(900)).await;
        backing = disturb(backing, |(postgres, _)| postgres.kill()).await;
        tokio::time::sleep(Duration::from_millis(seed.below(3_000) as u64)).await;
        backing = disturb(backing, |(postgres, _)| postgres.resume()).await;
    }
    let jobs = submitting.await.expect("all are accepted");
    fleet.all_succeeded(&name, &jobs).await;
    fleet.stop(&mark).await;
    drop(backing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn a_redis_that_is_killed_or_emptied_loses_nothing() {
    let mut seed = Seed::new("redis");
    let mut backing = backing().await;
    let fleet = two_servers(&backing).await;
    let mark = unique("chaos");
    let name = fleet.deploy(&mark).await;
    let submitting = tokio::spawn({
        let (fleet, name) = (fleet.clone(), name.clone());
        async move { fleet.submit(&name, 2_000).await }
    });
    for round in 0..3 {
        fleet.accepted(round * 600 + 1 + seed.below(600)).await;
        backing = disturb(backing, |(_, redis)| {
            redis.command(&["FLUSHALL"]);
            redis.kill();
        })
        .await;
        tokio::time::sleep(Duration::from_millis(seed.below(1_000) as u64)).await;
        backing = disturb(backing, |(_, redis)| redis.resume()).await;
        fleet.accepted(round * 600 + 1 + seed.below(600)).await;
        backing = disturb(backing, |(_, redis)| drop(redis.command(&["FLUSHALL"]))).await;
    }
    let jobs = submitting.await.expect("all are accepted");
    fleet.all_succeeded(&name, &jobs).await;
    fleet.stop(&mark).await;
    drop(backing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn two_schedulers_make_each_tick_once() {
    let backing = backing().await;
    let fleet = two_servers(&backing).await;
    let mark = unique("chaos");
    let place = fleet.servers[0].read().await;
    let server = place.as_ref().expect("it runs");
    let name = server.node("exports.handler = async (event) => event;").await;
    let schedule = format!("{}/schedules/often", path(&name));
    let put = server.put(&schedule, &json!({"interval_sec": 1})).await;
    assert!([200, 201].contains(&put.status), "{}", put.text());
    let succeeded = format!("{}/invocations?status=succeeded&limit=200", path(&name));
    let ids = async || {
        let list = server.get(&succeeded).await.with_status(200).json();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        (items.len() >= 8).then_some(items)
    };
    let items = eventually("eight ticks have run", ALL_END, ids).await;
    server.delete(&schedule).await;
    let mut ticks = HashSet::new();
    for item in &items {
        let id = item["id"].as_str().expect("an id");
        let row = server.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
        assert!(ticks.insert(row["result"]["time"].to_string()), "a tick ran twice: {items:?}");
    }
    drop(place);
    fleet.stop(&mark).await;
}

/// A small file system in memory; gone with this.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(folder: &std::path::Path, size: &str) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "no small file system");
        Self(folder.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: what a panic leaves may still use it.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_full_disk_refuses_calls_and_loses_none() {
    let data = Data::new();
    let _small = Small::mount(&data.folder(), "48m");
    let launched = data.clone();
    let fleet = Fleet::start(vec![Box::new(move || Launch::on(&launched))]).await;
    let mark = unique("chaos");
    let name = fleet.deploy(&mark).await;
    let mut jobs = fleet.submit(&name, 200).await;
    let filler = data.folder().join("filler");
    {
        let place = fleet.servers[0].read().await;
        let server = place.as_ref().expect("it runs");
        server.expect_error("disk");
        server.expect_error("full");
        // As much as there is; that not all of it fits is the point.
        let _full = std::fs::write(&filler, vec![0; 64 << 20]);
        let mut refused = 0;
        for job in 200..2_000 {
            let request = server.request(Method::POST, &format!("{}/invocations", path(&name)));
            let request = request.header("Idempotency-Key", format!("job-{job}")).body(job.to_string());
            let reply = server.send(request).await;
            if reply.status == 202 {
                jobs.insert(job, reply.json()["id"].as_str().expect("an id").to_owned());
                continue;
            }
            assert_eq!(reply.status, 503, "{}", reply.text());
            refused += 1;
            if refused == 20 {
                break;
            }
        }
        assert_eq!(refused, 20, "the disk was never full");
        std::fs::remove_file(&filler).expect("there is room again");
    }
    let more = fleet.submit(&name, 400).await;
    jobs.extend(more);
    fleet.all_succeeded(&name, &jobs).await;
    fleet.stop(&mark).await;
}
