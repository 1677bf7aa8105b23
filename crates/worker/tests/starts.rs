//! Starts of sandboxes at the same time, in numbers, and of sandboxes that die, with a driver that does as it is told.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_artifacts::{ArtifactStore, CodeFolders, LocalArtifacts};
use impuls_dispatch::{ExecuteRequest, RunError, RunRequest, Target, Worker};
use impuls_domain::{
    Built, CodeLayout, CommandLine, Contract, Deadline, DriverChoice, Environment, ErrorType, FunctionId,
    InvocationId, Limits, LogLevel, Logs, Metadata, NetworkPolicy, Revision, RevisionConfig, RevisionId,
    SandboxId, VersionNumber,
};
use impuls_runtimes::{Catalogue, SearchPath};
use impuls_sandbox::{
    Assignment, Connection, Exit, Gone, InitReport, OutputSource, Refusals, Sandbox, SandboxDriver,
    SandboxError, SandboxSpec, SandboxUsage,
};
use impuls_worker::{BuildSettings, Config, Drivers, LocalWorker, Parts};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the driver's sandboxes are like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is never ready.
    Unready,
    /// It has died since; whoever asks is told so or not.
    Dead { known: bool },
    /// It loads its code and answers nothing.
    Silent,
    /// It loads its code when one more may be destroyed.
    Slow,
}

/// More than a test destroys.
const ENDS: usize = 1_000;

struct Driver {
    prewarmed: Kind,
    new: Kind,
    creates: AtomicUsize,
    assigns: Arc<AtomicUsize>,
    /// How many sandboxes may be destroyed.
    ends: Arc<Semaphore>,
}

impl Driver {
    fn new(prewarmed: Kind, new: Kind) -> Arc<Self> {
        let ends = Arc::new(Semaphore::new(ENDS));
        Arc::new(Self { prewarmed, new, creates: AtomicUsize::new(0), assigns: Arc::default(), ends })
    }
}

#[async_trait]
impl SandboxDriver for Driver {
    async fn create(&self, spec: SandboxSpec, _: Deadline) -> Result<Arc<dyn Sandbox>, SandboxError> {
        self.creates.fetch_add(1, Ordering::SeqCst);
        let kind = if spec.prewarm { self.prewarmed } else { self.new };
        if kind == Kind::Unready {
            std::future::pending::<()>().await;
        }
        let (assigns, ends) = (self.assigns.clone(), self.ends.clone());
        Ok(Arc::new(Place { id: spec.id, kind, assigns, ends, guests: Mutex::default() }))
    }

    async fn reap_orphans(&self) -> Result<usize, SandboxError> {
        Ok(0)
    }
}

struct Place {
    id: SandboxId,
    kind: Kind,
    assigns: Arc<AtomicUsize>,
    ends: Arc<Semaphore>,
    guests: Mutex<Vec<UnixStream>>,
}

struct NoOutput;

impl OutputSource for NoOutput {
    fn drain(&self) -> Vec<(LogLevel, String)> {
        Vec::new()
    }
}

#[async_trait]
impl Sandbox for Place {
    fn id(&self) -> SandboxId {
        self.id
    }

    async fn assign(&self, _: Assignment, _: Deadline) -> Result<InitReport, SandboxError> {
        self.assigns.fetch_add(1, Ordering::SeqCst);
        match self.kind {
            Kind::Silent => {}
            Kind::Slow => drop(self.ends.acquire().await),
            Kind::Unready | Kind::Dead { .. } => return Err(SandboxError::Gone(Gone)),
        }
        Ok(Ok(()))
    }

    async fn connect(&self) -> Result<Connection, SandboxError> {
        let (host, guest) = UnixStream::pair().unwrap();
        self.guests.lock().await.push(guest);
        Ok(Connection::serve(host, Arc::new(NoOutput)))
    }

    fn take_loose_logs(&self) -> Logs {
        Logs::default()
    }

    fn usage(&self) -> Option<SandboxUsage> {
        None
    }

    fn refusals(&self) -> Refusals {
        Refusals::default()
    }

    async fn exited(&self) -> Exit {
        if self.kind != (Kind::Dead { known: true }) {
            std::future::pending::<()>().await;
        }
        Exit { code: None, signal: Some(9), out_of_memory: false }
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        drop(self.ends.acquire().await);
        Ok(())
    }
}

struct Fixture {
    worker: Arc<LocalWorker>,
    driver: Arc<Driver>,
    artifacts: Arc<LocalArtifacts>,
    _folder: tempfile::TempDir,
}

fn fixture(config: Config, driver: Arc<Driver>) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Arc::new(LocalArtifacts::open(&folder.path().join("artifacts")).unwrap());
    let folders = CodeFolders::open(folder.path().join("code"), artifacts.clone()).unwrap();
    let parts = Parts {
        drivers: Drivers::one(DriverChoice::Auto, driver.clone()),
        catalogue: Arc::new(Catalogue::commands_only(&SearchPath::default())),
        folders: Arc::new(folders),
        artifacts: artifacts.clone(),
        builds: BuildSettings::default(),
        background: tokio::runtime::Handle::current(),
    };
    // Tests are about numbers of sandboxes, on a machine that others use, too.
    let worker = LocalWorker::new(Config { reserved_memory_mib: 0, ..config }, parts);
    Fixture { worker, driver, artifacts, _folder: folder }
}

fn after(secs: u64) -> Deadline {
    Deadline::at((Instant::now() + Duration::from_secs(secs)).into_std())
}

fn command() -> ExecuteRequest {
    ExecuteRequest {
        argv: vec!["true".to_owned()],
        environment: Environment::default(),
        stdin: Bytes::new(),
        working_dir: None,
        limits: Limits::default(),
        deadline: after(60),
        on_output: None,
    }
}

#[tokio::test]
async fn starts_at_the_same_time_are_no_more_than_there_is_room_for() {
    let driver = Driver::new(Kind::Unready, Kind::Unready);
    let Fixture { worker, driver, .. } =
        &fixture(Config { max_sandboxes: 3, prewarm: 0, ..Config::default() }, driver);
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let worker = worker.clone();
        calls.spawn(async move { worker.execute(command()).await });
    }
    for _ in 0..7 {
        let refused = calls.join_next().await.unwrap().unwrap();
        assert!(matches!(refused, Err(RunError::Sandbox(SandboxError::AtCapacity))), "{refused:?}");
    }
    assert_eq!(driver.creates.load(Ordering::SeqCst), 3);
    // Those that are given up make room.
    calls.shutdown().await;
    let next = worker.clone();
    calls.spawn(async move { next.execute(command()).await });
    while driver.creates.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn prewarmed_sandboxes_count_among_all() {
    let driver = Driver::new(Kind::Silent, Kind::Silent);
    let Fixture { worker, driver, .. } = &fixture(Config { max_sandboxes: 3, ..Config::default() }, driver);
    worker.prewarm_commands(20).await;
    let running = tokio::spawn(worker.clone().run(Vec::new));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(driver.creates.load(Ordering::SeqCst), 3);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_being_filled_keeps_no_place_from_a_call() {
    let driver = Driver::new(Kind::Unready, Kind::Silent);
    let Fixture { worker, driver, .. } = &fixture(Config { max_sandboxes: 1, ..Config::default() }, driver);
    worker.prewarm_commands(1).await;
    let filling = tokio::spawn(worker.clone().run(Vec::new));
    while driver.creates.load(Ordering::SeqCst) < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let executed = worker.execute(command()).await.unwrap();
    assert!(executed.timed_out, "it has begun, in a sandbox that answers nothing");
    filling.abort();
}

/// A worker whose pool has four sandboxes that have all died since.
async fn with_a_dead_pool(known: bool) -> Fixture {
    let driver = Driver::new(Kind::Dead { known }, Kind::Silent);
    let fixture = fixture(Config { prewarm: 4, ..Config::default() }, driver);
    fixture.worker.prewarm_commands(4).await;
    let filling = tokio::spawn(fixture.worker.clone().run(Vec::new));
    while fixture.worker.command_pool().await.ready < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    filling.abort();
    fixture
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_has_died_fails_no_start() {
    for known in [false, true] {
        let Fixture { worker, driver, .. } = &with_a_dead_pool(known).await;
        // The new one takes the command and answers nothing.
        let executed = worker.execute(command()).await.unwrap();
        assert!(executed.timed_out && !executed.prewarmed);
        let tried = if known { 1 } else { 5 };
        assert_eq!(driver.assigns.load(Ordering::SeqCst), tried, "the end was known: {known}");
    }
}

async fn target(fixture: &Fixture, slots: u32) -> Arc<Target> {
    let code = Bytes::from_static(b"true");
    let config = RevisionConfig {
        runtime: "command".parse().unwrap(),
        contract: Contract::Command,
        handler: "run".parse().unwrap(),
        command: CommandLine::new(vec!["true".to_owned()]).unwrap(),
        description: String::new(),
        metadata: Metadata::default(),
        environment: Environment::default(),
        limits: Limits::default().with_concurrency(slots).unwrap(),
        driver: DriverChoice::Auto,
        network: NetworkPolicy::Off,
    };
    Arc::new(Target {
        function_name: "slow".parse().unwrap(),
        version: VersionNumber::FIRST,
        revision: Revision {
            id: RevisionId::new(),
            function: FunctionId::new(),
            code_size: code.len() as u64,
            artifact: fixture.artifacts.put(code).await.unwrap(),
            layout: CodeLayout::SingleFile,
            built: Built::AsIs,
            config,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        },
    })
}

#[tokio::test(start_paused = true)]
async fn every_call_that_times_out_waits_for_the_end_of_its_sandbox() {
    let fixture =
        fixture(Config { prewarm: 0, ..Config::default() }, Driver::new(Kind::Silent, Kind::Silent));
    let target = target(&fixture, 2).await;
    assert_eq!(fixture.worker.warm(&target, 1, after(5)).await, 1);
    fixture.driver.ends.forget_permits(ENDS);
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let (worker, target) = (fixture.worker.clone(), target.clone());
        let request = RunRequest {
            id: InvocationId::new(),
            target,
            event: Bytes::new(),
            context: Bytes::new(),
            admitted: Instant::now().into_std(),
            deadline: after(1),
            timeout: Duration::from_secs(1),
            deadline_unix_ms: 0,
            max_concurrency: None,
            measure: false,
        };
        calls.spawn(async move { Worker::run(worker.as_ref(), request, None).await });
    }
    let early = tokio::time::timeout(Duration::from_secs(4), calls.join_next()).await;
    assert!(early.is_err(), "answered before its sandbox was gone: {early:?}");
    fixture.driver.ends.add_permits(8);
    while let Some(answered) = calls.join_next().await {
        let failure = answered.unwrap().unwrap().result.unwrap_err();
        assert_eq!(failure.error_type, ErrorType::Timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_given_up_keeps_no_place() {
    let config = Config { max_sandboxes: 1, prewarm: 0, ..Config::default() };
    let fixture = fixture(config, Driver::new(Kind::Slow, Kind::Slow));
    let (worker, driver) = (&fixture.worker, &fixture.driver);
    let target = target(&fixture, 1).await;
    driver.ends.forget_permits(ENDS);
    let checking = tokio::spawn({
        let (worker, target) = (worker.clone(), target.clone());
        async move { worker.check(&target).await }
    });
    while driver.assigns.load(Ordering::SeqCst) < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    checking.abort();
    driver.ends.add_permits(8);
    // A sandbox in which it is loaded, once the other is gone.
    let again = async {
        while worker.check(&target).await.0.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("there is room again");
}
