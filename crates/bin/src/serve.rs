//! `impuls serve`: puts the parts together, and takes them apart again in order.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use impuls_api::{App, Front, FrontConfig, RuntimeInfo};
use impuls_artifacts::{ArtifactStore, CodeFolders};
use impuls_cli::ServeConfig;
use impuls_control::{Control, Stores};
use impuls_dispatch::{Delivery, DeliveryConfig, Dispatch, Recorder, RecorderConfig, Scheduler, Worker};
use impuls_domain::{Cidr, Contract};
use impuls_outgoing::{Gate, OutgoingClient};
use impuls_runtimes::{Catalogue, SearchPath};
use impuls_worker::LocalWorker;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::artifacts::{self, Code};
use crate::authenticate::LocalUsers;
use crate::builds::Builds;
use crate::collection;
use crate::drivers::{self, Drivers};
use crate::edits::Edits;
use crate::feed::{Feed, Heard};
use crate::fronts::{self, Fronts};
use crate::functions;
use crate::readiness::ServerReadiness;
use crate::repair;
use crate::rollout::{LocalRollout, newest};
use crate::roots;
use crate::settings;
use crate::storage::{self, Storage};

/// This very program, also after its file was replaced by a newer one.
pub(crate) const SPAWNER: &str = "/proc/self/exe";
/// Threads for everything that no caller waits for.
const BACKGROUND_THREADS: usize = 2;
/// The languages, by alias, whose sandboxes are kept ready before the first function: those that a new user is likely to
/// begin with.
const PREWARMED: [&str; 2] = ["nodejs", "python"];
/// How long connections may take to be closed once no call is in flight; a client in the middle of a request may
/// take for ever.
pub(crate) const CONNECTION_SHUTDOWN: Duration = Duration::from_secs(1);
/// How long storing the ends of asynchronous invocations may take when the server stops.
pub(crate) const DELIVERY_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long sandboxes may take to end when the server stops.
pub(crate) const SANDBOX_SHUTDOWN: Duration = Duration::from_secs(10);

/// Where interpreters are looked for.
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment enters")]
pub(crate) fn search_path(toolchains: Option<PathBuf>) -> SearchPath {
    SearchPath {
        path: std::env::var_os("PATH").unwrap_or_default(),
        home: std::env::var_os("HOME").map(PathBuf::from),
        toolchains,
        agent: std::env::current_exe().unwrap_or_else(|_| PathBuf::from(SPAWNER)),
    }
}

/// Runs the server until it is told to stop.
pub(crate) fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let runtime = prepare(&config)?;
    let served = runtime.block_on(run(config));
    runtime.shutdown_background();
    served
}

/// What comes before everything else: the log, what settings cannot be, and the runtime of all that no caller waits for.
pub(crate) fn prepare(config: &ServeConfig) -> anyhow::Result<Runtime> {
    crate::logging::start(config.log_format, &config.log_level)?;
    storage::check(config)?;
    artifacts::check(&config.artifacts)?;
    drivers::check(&config.driver)?;
    for setting in &config.without_effect {
        tracing::warn!(
            "the setting {setting} is accepted and has no effect: functions run in the process sandbox"
        );
    }
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    raise_descriptor_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(BACKGROUND_THREADS).thread_name("background").enable_all();
    Ok(runtime.build()?)
}

/// A sandbox takes a few descriptors, so the server takes what it may have.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit on open descriptors");
    }
}

async fn run(config: ServeConfig) -> anyhow::Result<()> {
    let stop = Stop::install()?;
    let hooks = hooks(&config)?;
    let data = data_dir(&config)?;
    let _lock = lock(&data)?;
    let mut listeners = fronts::bind(&config.listen).await?;
    listeners.extend(fronts::bind_free(&config.listen_if_free).await);
    let toolchains = config.toolchains.clone().unwrap_or_else(|| data.join("toolchains"));
    let images = data.clone();
    let catalogue =
        tokio::task::spawn_blocking(move || roots::catalogue(&search_path(Some(toolchains)), &images));
    let kept = Kept::open(&config, &data).await?;
    let catalogue = Arc::new(catalogue.await?);
    let drivers = Drivers::start(&config, &data).await?;
    let collector = collection::collector(&config.retention, &kept);
    let mut server = Server::assemble(&config, &data, kept, catalogue, drivers)?;
    server.load_functions().await?;
    let _following = server.feed.take().map(|(feed, heard)| feed.start(heard));
    let mut editing = match server.edits.take() {
        Some(edits) => Some(edits.start().await),
        None => None,
    };
    let delivery = server.delivery(hooks);
    recover(&server, &delivery).await?;
    let (stop_delivery, stopped) = watch::channel(false);
    let scheduler = Scheduler::new(server.dispatch.clone(), server.store.schedules.clone());
    let scheduling = tokio::spawn(scheduler.run(stopped.clone()));
    let collecting = tokio::spawn(collector.run(stopped.clone()));
    let delivering = tokio::spawn(delivery.clone().run(stopped));
    let (close, closing) = watch::channel(false);
    let threads = Arc::new(Fronts::start(&server.front, &closing)?);
    announce(&fronts::addresses(&listeners)?, &data)?;
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let threads = threads.clone();
            tokio::spawn(async move { threads.accept(listener).await })
        })
        .collect();
    stop.requested().await;
    server.readiness.drain();
    wait_for_balancers(&stop, config.shutdown_delay).await;
    // What is being deployed is deployed; what is found later the next server finds.
    editing.take();
    server.dispatch.close();
    stop_delivery.send_replace(true);
    tracing::info!(
        "stopping: new calls are refused, calls in flight may take up to {:?}",
        config.shutdown_timeout
    );
    for task in accepting {
        task.abort();
        // It ends by having been aborted; that is no news.
        let _ = task.await;
    }
    let drained = drain(&stop, &server.dispatch, config.shutdown_timeout).await;
    close.send_replace(true);
    // What has ended is stored; what was cut off is given back for the next server.
    let _ended = tokio::join!(scheduling, collecting);
    let patience = if drained { DELIVERY_SHUTDOWN } else { Duration::ZERO };
    if tokio::time::timeout(patience, delivering).await.is_err() {
        give_back(&delivery).await;
    }
    server.stop().await?;
    if drained && let Some(threads) = Arc::into_inner(threads) {
        threads.end(CONNECTION_SHUTDOWN).await;
    }
    Ok(())
}

/// Whether all calls in flight have ended in time. A further signal ends the wait.
pub(crate) async fn drain(stop: &Stop, dispatch: &Dispatch, timeout: Duration) -> bool {
    let drained = tokio::select! {
        drained = tokio::time::timeout(timeout, dispatch.drain()) => drained.is_ok(),
        () = stop.requested() => false,
    };
    if !drained {
        tracing::warn!(calls = dispatch.in_flight(), "calls in flight are cut off");
    }
    drained
}

/// Goes on as before for a while, so that whoever sends calls here can see that it should not. A further signal ends that.
pub(crate) async fn wait_for_balancers(stop: &Stop, delay: Duration) {
    if delay.is_zero() {
        return;
    }
    tracing::info!("stopping: /health/ready says so, new calls are answered for another {delay:?}");
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = stop.requested() => {}
    }
}

/// Gives back what an earlier server was running. In a store that others use as well what runs may be theirs; what
/// nobody runs any more is claimed when its lease has ended.
async fn recover(server: &Server, delivery: &Delivery) -> anyhow::Result<()> {
    server.dispatch.read_clock().await.context("cannot read the clock of the metadata store")?;
    if server.store.is_shared() {
        return Ok(());
    }
    let recovered = delivery.recover().await.context("cannot read the asynchronous invocations")?;
    if recovered > 0 {
        tracing::info!(recovered, "invocations that an earlier server was running are delivered again");
    }
    Ok(())
}

/// Gives back what this server is running and cannot wait for.
pub(crate) async fn give_back(delivery: &Delivery) {
    match delivery.give_back().await {
        Ok(given) => {
            tracing::warn!(given, "asynchronous invocations are cut off; the next server runs them again");
        }
        // Everything else is still to be stopped.
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot give asynchronous invocations back; they run again when their leases have ended"
        ),
    }
}

/// The way out for what is told over HTTP.
pub(crate) fn hooks(config: &ServeConfig) -> anyhow::Result<Arc<OutgoingClient>> {
    let range = |text: &String| -> anyhow::Result<Cidr> {
        text.parse().with_context(|| {
            format!("--hook-allow {text}: an address or a range is wanted, such as 10.0.0.0/8")
        })
    };
    let allow = config.hook_allow.iter().map(range).collect::<anyhow::Result<_>>()?;
    Ok(Arc::new(OutgoingClient::new(Gate { allow })))
}

pub(crate) fn data_dir(config: &ServeConfig) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let data = config.data_dir.choose()?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
    made.with_context(|| {
        format!("cannot make the data folder {}; give another with --data-dir", data.display())
    })?;
    data.canonicalize().with_context(|| format!("cannot use the data folder {}", data.display()))
}

/// Two servers on one data folder would damage each other.
pub(crate) fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    file.try_lock()
        .with_context(|| format!("the data folder {} is in use by another server", data.display()))?;
    Ok(file)
}

pub(crate) fn announce(addresses: &[SocketAddr], data: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "data folder {}", data.display())?;
    for address in addresses {
        writeln!(out, "listening on http://{address}")?;
    }
    out.flush()?;
    Ok(())
}

/// What outlives the server.
pub(crate) struct Kept {
    pub(crate) store: Storage,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    /// The store's number, which is that of the owner of the artifacts.
    pub(crate) identity: String,
}

impl Kept {
    /// Opens what the settings choose; what it cannot be opened for says what to do.
    pub(crate) async fn open(config: &ServeConfig, data: &Path) -> anyhow::Result<Self> {
        let (store, artifacts) =
            tokio::try_join!(Storage::open(config, data), artifacts::open(config, data))?;
        let identity = store.identity().await?;
        Code::of(config.artifacts.clone(), data).belong_to(&identity, &*artifacts).await?;
        Ok(Self { store, artifacts, identity })
    }
}

/// The assembled server.
struct Server {
    store: Storage,
    worker: Arc<LocalWorker>,
    drivers: Drivers,
    dispatch: Arc<Dispatch>,
    recorder: Recorder,
    recording: tokio::task::JoinHandle<()>,
    keeping: tokio::task::JoinHandle<()>,
    front: Arc<Front>,
    readiness: Arc<ServerReadiness>,
    /// Removes what other servers leave.
    repairing: tokio::task::JoinHandle<()>,
    /// Until it is started.
    feed: Option<(Feed, Heard)>,
    /// Where functions are files as well; until it is started.
    edits: Option<Edits>,
}

impl Server {
    fn assemble(
        config: &ServeConfig,
        data: &Path,
        Kept { store, artifacts, .. }: Kept,
        catalogue: Arc<Catalogue>,
        drivers: Drivers,
    ) -> anyhow::Result<Self> {
        let (store, tree) = store.with_tree(artifacts.clone())?;
        let folders = Arc::new(CodeFolders::open(data.join("code"), artifacts.clone())?);
        let default_network = drivers.default_network(config);
        let worker = LocalWorker::new(
            settings::worker(config, default_network.clone()),
            impuls_worker::Parts {
                drivers: drivers.for_worker(),
                catalogue: catalogue.clone(),
                folders,
                artifacts: artifacts.clone(),
                builds: settings::builds(&config.builds)?,
                background: tokio::runtime::Handle::current(),
            },
        );
        let recorder = Recorder::new(RecorderConfig::default(), store.invocations.clone());
        let dispatch = dispatch(&store, worker.clone(), &recorder);
        let stores = stores(&store, &recorder);
        let heard = store.changes().map(Heard::of);
        let rollout = LocalRollout {
            catalogue: catalogue.clone(),
            worker: worker.clone(),
            dispatch: dispatch.clone(),
            builds: Builds::new(worker.clone(), store.builds.clone()),
            activating: parking_lot::Mutex::default(),
            feed: heard.as_ref().map(Heard::tell),
            keeps: Arc::new(|_| true),
        };
        let rollout = Arc::new(rollout);
        let (functions, dispatched) = (store.functions.clone(), dispatch.clone());
        let feed = Feed { functions, dispatch: dispatched, rollout: rollout.clone() };
        let control = Control::new(stores, artifacts, rollout);
        let control = Arc::new(control.with_default_network(default_network));
        let readiness = ServerReadiness::new(store.functions.clone());
        let edits = tree.map(|tree| Edits { tree, control: control.clone() });
        let native = App::new(control.clone(), dispatch.clone(), runtime_infos(&catalogue));
        let front = front(config, native.with_readiness(readiness.clone()));
        prewarm(&worker, &catalogue);
        let recording = tokio::spawn(recorder.clone().run());
        let targets = dispatch.clone();
        let keeping = tokio::spawn(worker.clone().run(move || targets.latest_targets()));
        let repairing = tokio::spawn(repair::run(drivers.all()));
        let feed = heard.map(|heard| (feed, heard));
        Ok(Self {
            store,
            worker,
            drivers,
            dispatch,
            recorder,
            recording,
            keeping,
            front,
            readiness,
            repairing,
            feed,
            edits,
        })
    }

    fn delivery(&self, hooks: Arc<OutgoingClient>) -> Arc<Delivery> {
        let store = self.store.deliveries.clone();
        Delivery::new(
            DeliveryConfig::default(),
            self.dispatch.clone(),
            store,
            self.store.functions.clone(),
            hooks,
        )
    }

    /// Makes every stored function callable.
    async fn load_functions(&self) -> anyhow::Result<()> {
        let loaded = functions::each(&*self.store.functions, |snapshot| {
            self.dispatch.put_function(snapshot);
            let target = Arc::new(newest(snapshot));
            self.worker.warm_up(&target, target.revision.config.limits.min_warm() as usize);
        });
        loaded.await.map(drop).context("cannot read the functions")
    }

    /// Ends every sandbox and stores what is not stored yet.
    async fn stop(self) -> anyhow::Result<()> {
        self.keeping.abort();
        self.repairing.abort();
        if tokio::time::timeout(SANDBOX_SHUTDOWN, self.worker.shut_down()).await.is_err() {
            tracing::error!("some sandboxes did not end in time; they end with this process");
        }
        self.drivers.shutdown().await;
        self.recorder.stop();
        self.recording.await?;
        self.store.close().await
    }
}

/// The one way to run a function, by this worker.
pub(crate) fn dispatch(store: &Storage, worker: Arc<dyn Worker>, recorder: &Recorder) -> Arc<Dispatch> {
    let config = settings::dispatch(store.is_shared());
    let (versions, queue) = (store.versions.clone(), store.queue.clone());
    let dispatch = Dispatch::new(config, worker, versions, queue, recorder.clone());
    let dispatch = dispatch.with_clock(store.clock.clone());
    let dispatch = Arc::new(match &store.offers {
        Some(offers) => dispatch.with_queue(offers.clone()),
        None => dispatch,
    });
    // It ends with the dispatch.
    tokio::spawn(Dispatch::follow_clock(Arc::downgrade(&dispatch)));
    dispatch
}

/// What the use cases stand on.
pub(crate) fn stores(store: &Storage, recorder: &Recorder) -> Stores {
    Stores {
        functions: store.functions.clone(),
        versions: store.versions.clone(),
        invocations: recorder.up_to_date(),
        queue: store.queue.clone(),
        schedules: store.schedules.clone(),
        clock: store.clock.clone(),
    }
}

/// The front door of all APIs.
pub(crate) fn front(config: &ServeConfig, native: App) -> Arc<Front> {
    let (control, dispatch) = (native.control.clone(), native.dispatch.clone());
    let router = crate::dialects::with_dialects(impuls_api::router(native), &control, &dispatch);
    let loopback_only = config.listen.iter().all(|address| address.ip().is_loopback());
    let authenticate = Arc::new(LocalUsers { loopback_only });
    Arc::new(Front::new(FrontConfig::default(), dispatch, router, authenticate))
}

/// Has sandboxes of the first languages ready.
pub(crate) fn prewarm(worker: &LocalWorker, catalogue: &Catalogue) {
    for (installed, aliases) in catalogue.installed() {
        if aliases.iter().any(|alias| PREWARMED.contains(alias)) {
            worker.prewarm(&installed.name, Contract::default());
        }
    }
}

fn runtime_infos(catalogue: &Catalogue) -> Vec<RuntimeInfo> {
    let info = |(installed, aliases): (&impuls_runtimes::Installed, Vec<&str>)| RuntimeInfo {
        name: installed.name.to_string(),
        aliases: aliases.into_iter().map(str::to_owned).collect(),
        version: installed.version.clone(),
        path: installed.path.display().to_string(),
    };
    catalogue.installed().map(info).collect()
}

/// SIGTERM and SIGINT.
pub(crate) struct Stop {
    signals: watch::Receiver<u32>,
    seen: std::sync::atomic::AtomicU32,
}

impl Stop {
    pub(crate) fn install() -> anyhow::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (sender, signals) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { signals, seen: std::sync::atomic::AtomicU32::new(0) })
    }

    /// Waits for a signal that has not been waited for yet: the first asks to stop, the second to stop at once.
    pub(crate) async fn requested(&self) {
        let seen = self.seen.load(std::sync::atomic::Ordering::SeqCst);
        let mut signals = self.signals.clone();
        // The sender lives as long as the process.
        let _ = signals.wait_for(|count| *count > seen).await;
        self.seen.store(seen + 1, std::sync::atomic::Ordering::SeqCst);
    }
}
