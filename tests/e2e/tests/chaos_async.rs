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
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use impuls_e2e::functions::{path, unique};
use impuls_e2e::host::processes_with;
use impuls_e2e::launch::program;
use impuls_e2e::{Data, Launch, Seed, Server, Value, eventually, json, within};
use impuls_testkit::s3::{ACCESS_KEY, SECRET_KEY};
use impuls_testkit::{
    Link, Postgres, PostgresOptions, Redis, RedisOptions, S3, SomeDatabase, SomeRedis, Weather,
};
use reqwest::Method;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

/// How long everything may take to be as it should after the last break, and after the last job was accepted: the lease of whoever
/// was killed has 20 seconds, then the store is looked at once a second, and what was put back runs.
const RECOVERED: Duration = Duration::from_secs(30);
/// How long submitting may take, breaks included.
const ALL_ACCEPTED: Duration = Duration::from_secs(120);
/// Jobs that are submitted at once.
const CLIENTS: usize = 16;
/// A try that was refused or broken off is repeated after this.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the launch of a server again and again.
type Launcher = Box<dyn Fn() -> Launch + Send + Sync>;

/// A server that may be dead.
struct Place {
    server: RwLock<Option<Server>>,
    launch: Launcher,
}

/// The servers of a test.
struct Fleet {
    /// First those that take requests.
    places: Vec<Place>,
    fronts: usize,
    accepted: AtomicUsize,
    /// What all processes of functions have in their command lines.
    mark: String,
}

/// A job that was acknowledged, by its number.
type Jobs = BTreeMap<usize, String>;

/// Jobs that are being submitted to a function while a test breaks something.
struct Running {
    fleet: Arc<Fleet>,
    name: String,
    submitting: JoinHandle<Jobs>,
}

impl Running {
    /// Deploys a function and begins to submit so many jobs.
    async fn start(fleet: &Arc<Fleet>, jobs: usize) -> Self {
        let (fleet, name) = (fleet.clone(), fleet.deploy().await);
        fleet.accepted.store(0, Ordering::SeqCst);
        let submitting = tokio::spawn({
            let (fleet, name) = (fleet.clone(), name.clone());
            async move { fleet.submit(&name, 0..jobs).await }
        });
        Self { fleet, name, submitting }
    }

    /// Waits until all are accepted and have ended as they should.
    async fn all_succeed(self) {
        let jobs = self.submitting.await.expect("all are accepted");
        self.fleet.all_succeeded(&self.name, &jobs).await;
    }

    /// The same, and nothing is left of anything.
    async fn end(self) {
        let fleet = self.fleet.clone();
        self.all_succeed().await;
        fleet.stop().await;
    }
}

impl Fleet {
    /// Starts all, of which the first so many take requests.
    async fn start(fronts: usize, launches: Vec<Launcher>) -> Arc<Self> {
        let mut places = Vec::new();
        for launch in launches {
            let server = launch().start().await;
            ready(&server);
            places.push(Place { server: RwLock::new(Some(server)), launch });
        }
        Arc::new(Self { places, fronts, accepted: AtomicUsize::new(0), mark: unique("chaos") })
    }

    /// Kills a server and starts it again.
    async fn kill(&self, which: usize) {
        self.kill_and(which, || ()).await;
    }

    /// Kills a server and starts it again when something else is done.
    async fn kill_and(&self, which: usize, then: impl FnOnce()) {
        let Place { server, launch } = &self.places[which];
        let mut server = server.write().await;
        server.take().expect("it runs").kill().await;
        then();
        *server = Some(launch().start().await);
        ready(server.as_ref().expect("it runs"));
    }

    /// A function whose result shows that it ran, when, and for which job.
    async fn deploy(&self) -> String {
        let mark = &self.mark;
        let code = format!(
            "exports.handler = async (n) => {{ process.title = '{mark}'; const begun = Date.now(); \
             await new Promise((done) => setTimeout(done, n % 20)); return {{ twice: 2 * n, begun }}; }};"
        );
        let first = self.places[0].server.read().await;
        let fields = json!({"concurrency": 16, "timeout_sec": 30});
        let name = first.as_ref().expect("it runs").node_with(&code, &fields).await;
        for Place { server, .. } in &self.places[..self.fronts] {
            let server = server.read().await;
            let server = server.as_ref().expect("it runs");
            let known = async || (server.invoke(&name, &json!(0)).await.status == 200).then_some(());
            eventually("the function is known", RECOVERED, known).await;
        }
        name
    }

    /// Has all jobs accepted, whatever is broken meanwhile: what is not acknowledged is submitted again, under its key.
    async fn submit(self: &Arc<Self>, name: &str, jobs: Range<usize>) -> Jobs {
        let next = Arc::new(AtomicUsize::new(jobs.start));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (fleet, next, name) = (self.clone(), next.clone(), name.to_owned());
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    loop {
                        let job = next.fetch_add(1, Ordering::SeqCst);
                        if job >= jobs.end {
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
            let place = self.places[(client + attempt) % self.fronts].server.read().await;
            if let Some(server) = place.as_ref() {
                let request = server.request(Method::POST, &url).body(job.to_string());
                let request = request.header("Idempotency-Key", format!("job-{job}")).timeout(ALL_ACCEPTED);
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
        let place = self.places[0].server.read().await;
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
        eventually("nothing waits and nothing runs", RECOVERED, left).await;
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
    async fn stop(&self) {
        for place in &self.places {
            let server = place.server.write().await.take().expect("it runs");
            assert!(server.stop().await.success());
        }
        let gone = async || processes_with(&self.mark).is_empty().then_some(());
        eventually("no sandbox is left", RECOVERED, gone).await;
    }
}

/// What a server says when its database is gone is no surprise.
fn ready(server: &Server) {
    for text in [
        "a request failed",
        "invocation records are lost",
        "cannot give asynchronous invocations back",
        "cannot start a sandbox",
    ] {
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

/// A PostgreSQL and a Redis that a test breaks.
type Backing = (Postgres, Redis);

async fn backing() -> Backing {
    let started = tokio::task::spawn_blocking(|| {
        (Postgres::start(PostgresOptions::default()), Redis::start(RedisOptions::default()))
    });
    started.await.expect("they start")
}

/// Data folders for servers that share, as operators would, the folder of artifacts.
fn sharing<const N: usize>() -> [Data; N] {
    let folders: [Data; N] = std::array::from_fn(|_| Data::new());
    let artifacts = folders[0].scratch().join("artifacts");
    std::fs::create_dir(&artifacts).expect("a folder");
    for data in &folders {
        std::fs::create_dir(data.folder()).expect("a data folder");
        std::os::unix::fs::symlink(&artifacts, data.folder().join("artifacts")).expect("a link");
    }
    folders
}

/// Two servers that share a database and a Redis.
async fn two_servers(database: String, redis: String) -> Arc<Fleet> {
    let launches = sharing::<2>().map(|data| -> Launcher {
        let (database, redis) = (database.clone(), redis.clone());
        Box::new(move || {
            let launch = Launch::on(&data).argument("--storage=postgres");
            launch.variable("IMPULS_DB_CONN", &database).variable("IMPULS_REDIS", &redis)
        })
    });
    Fleet::start(2, launches.into()).await
}

async fn on_backing((postgres, redis): &Backing) -> Arc<Fleet> {
    two_servers(postgres.url(&postgres.database()), redis.url()).await
}

/// Two controllers, which take requests, and two workers.
async fn nodes((postgres, redis): &Backing) -> Arc<Fleet> {
    let (database, redis) = (postgres.url(&postgres.database()), redis.url());
    let roles = ["controller", "controller", "worker", "worker"];
    let launches = roles.into_iter().zip(sharing::<4>()).map(|(role, data)| -> Launcher {
        let (database, redis) = (database.clone(), redis.clone());
        Box::new(move || {
            let launch =
                Launch::bare(&data, program()).arguments([role, "--listen", "127.0.0.1:0", "--data-dir"]);
            let launch =
                launch.argument(data.folder()).variable("IMPULS_CLUSTER_TOKEN", "only-for-these-tests");
            launch.variable("IMPULS_DB_CONN", &database).variable("IMPULS_REDIS", &redis)
        })
    });
    Fleet::start(2, launches.collect()).await
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

/// A while below this many milliseconds. There is nothing to wait for: any moment will do.
async fn a_while(seed: &mut Seed, below_ms: usize) {
    tokio::time::sleep(Duration::from_millis(seed.below(below_ms) as u64)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_loses_nothing_when_its_server_is_killed() {
    let mut seed = Seed::new("embedded store");
    let data = Data::new();
    let fleet = Fleet::start(1, vec![Box::new(move || Launch::on(&data))]).await;
    // A job that was running at three deaths would be given up, so each set of jobs sees two.
    for _ in 0..3 {
        let running = Running::start(&fleet, 700).await;
        for _ in 0..2 {
            fleet.accepted(1 + seed.below(690)).await;
            fleet.kill(0).await;
        }
        running.all_succeed().await;
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn servers_that_are_killed_lose_nothing() {
    let mut seed = Seed::new("servers");
    let backing = backing().await;
    let fleet = on_backing(&backing).await;
    let running = Running::start(&fleet, 2_000).await;
    fleet.accepted(1 + seed.below(900)).await;
    fleet.kill(seed.below(2)).await;
    fleet.accepted(1_000 + seed.below(900)).await;
    tokio::join!(fleet.kill(0), fleet.kill(1));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn controllers_and_workers_that_are_killed_lose_nothing() {
    let mut seed = Seed::new("controllers and workers");
    let backing = backing().await;
    let fleet = nodes(&backing).await;
    let running = Running::start(&fleet, 2_000).await;
    fleet.accepted(1 + seed.below(600)).await;
    fleet.kill(2 + seed.below(2)).await;
    fleet.accepted(700 + seed.below(500)).await;
    fleet.kill(seed.below(2)).await;
    fleet.accepted(1_300 + seed.below(600)).await;
    tokio::join!(fleet.kill(0), fleet.kill(1), fleet.kill(2), fleet.kill(3));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn a_database_that_is_killed_loses_nothing() {
    let mut seed = Seed::new("database");
    let mut backing = backing().await;
    let fleet = on_backing(&backing).await;
    let running = Running::start(&fleet, 2_000).await;
    for round in 0..2 {
        fleet.accepted(round * 900 + 1 + seed.below(900)).await;
        backing = disturb(backing, |(postgres, _)| postgres.kill()).await;
        a_while(&mut seed, 3_000).await;
        backing = disturb(backing, |(postgres, _)| postgres.resume()).await;
    }
    running.end().await;
    drop(backing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn a_redis_that_is_killed_or_emptied_loses_nothing() {
    let mut seed = Seed::new("redis");
    let mut backing = backing().await;
    let fleet = on_backing(&backing).await;
    let running = Running::start(&fleet, 2_000).await;
    for round in 0..3 {
        fleet.accepted(round * 600 + 1 + seed.below(600)).await;
        backing = disturb(backing, |(_, redis)| {
            redis.command(&["FLUSHALL"]);
            redis.kill();
        })
        .await;
        a_while(&mut seed, 1_000).await;
        backing = disturb(backing, |(_, redis)| redis.resume()).await;
        fleet.accepted(round * 600 + 1 + seed.below(600)).await;
        backing = disturb(backing, |(_, redis)| drop(redis.command(&["FLUSHALL"]))).await;
    }
    running.end().await;
    drop(backing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs pip"]
async fn a_bucket_that_fails_or_is_slow_loses_nothing() {
    let mut seed = Seed::new("bucket");
    let s3 = tokio::task::spawn_blocking(|| S3::start(Path::new(env!("CARGO_TARGET_TMPDIR")))).await;
    let s3 = s3.expect("moto starts");
    let (link, data) = (Link::to(s3.address()), Data::new());
    let (location, unpacked) = (S3::location(link.address(), "code"), data.folder().join("code"));
    let launch = move || {
        let launch = Launch::on(&data).variable("IMPULS_ARTIFACTS", &location);
        launch.variable("AWS_ACCESS_KEY_ID", ACCESS_KEY).variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    };
    let fleet = Fleet::start(1, vec![Box::new(launch)]).await;
    let running = Running::start(&fleet, 900).await;
    for (round, weather) in [Weather::Refusing, Weather::Silent].into_iter().enumerate() {
        fleet.accepted(round * 400 + 1 + seed.below(400)).await;
        // The next server has to fetch the code again, and cannot.
        fleet.kill_and(0, || drop(std::fs::remove_dir_all(&unpacked))).await;
        link.set(weather);
        a_while(&mut seed, 3_000).await;
        link.set(Weather::Fair);
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres, redis"]
async fn two_schedulers_make_each_tick_once() {
    let backing = tokio::task::spawn_blocking(|| (SomeDatabase::get(), SomeRedis::get())).await;
    let (database, redis) = backing.expect("they start");
    let fleet = two_servers(database.url().to_owned(), redis.url().to_owned()).await;
    let place = fleet.places[0].server.read().await;
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
    let items = eventually("eight ticks have run", RECOVERED, ids).await;
    server.delete(&schedule).await;
    let mut ticks = HashSet::new();
    for item in &items {
        let id = item["id"].as_str().expect("an id");
        let row = server.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
        assert!(ticks.insert(row["result"]["time"].to_string()), "a tick ran twice: {items:?}");
    }
    drop(place);
    fleet.stop().await;
}

/// A small file system in memory; gone with this.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(folder: &Path, size: &str) -> Self {
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
    let fleet = Fleet::start(1, vec![Box::new(move || Launch::on(&launched))]).await;
    let name = fleet.deploy().await;
    let mut jobs = fleet.submit(&name, 0..200).await;
    let filler = data.folder().join("filler");
    {
        let place = fleet.places[0].server.read().await;
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
    // What was refused is accepted now, under its key.
    jobs.extend(fleet.submit(&name, 0..400).await);
    fleet.all_succeeded(&name, &jobs).await;
    fleet.stop().await;
}
