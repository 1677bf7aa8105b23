//! `impuls worker`: sandboxes for controllers, and the delivery of asynchronous invocations.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use impuls_artifacts::{ArtifactStore, CodeFolders};
use impuls_cli::{ServeConfig, WorkerConfig};
use impuls_cluster::{About, Announcer, Load, Members, Own, RemoteWorkers, Server, Trust};
use impuls_dispatch::{Delivery, DeliveryConfig, Dispatch, Recorder, RecorderConfig};
use impuls_runtimes::{Announced, Catalogue};
use impuls_worker::LocalWorker;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::host::{Late, LocalHost};
use super::{load_functions, nodes, trust};
use crate::builds::Builds;
use crate::drivers::Drivers;
use crate::feed::{Feed, Heard};
use crate::fronts::{self, Fronts};
use crate::repair;
use crate::rollout::{Keeps, LocalRollout};
use crate::roots;
use crate::serve::{
    CONNECTION_SHUTDOWN, DELIVERY_SHUTDOWN, Kept, SANDBOX_SHUTDOWN, Stop, announce, data_dir, dispatch,
    give_back, hooks, lock, prewarm, search_path,
};
use crate::settings;
use crate::storage::Storage;

/// How long saying a last word to the store may take.
const LAST_WORD: Duration = Duration::from_secs(2);
/// The file of the data folder that has the name of this worker.
const ID_FILE: &str = "worker-id";
/// The longest name of a worker.
const ID_LIMIT: usize = 100;
/// Calls that one processor runs side by side without them being felt.
const CALLS_PER_CORE: usize = 4;

pub(super) async fn run(config: WorkerConfig) -> anyhow::Result<()> {
    let stop = Stop::install()?;
    let hooks = hooks(&config.serve)?;
    let trust = trust(config.trust.clone())?;
    let data = data_dir(&config.serve)?;
    let _lock = lock(&data)?;
    let listeners = fronts::bind(&config.serve.listen).await?;
    let identity = Identity::of(&config, &data, &listeners)?;
    let serve = config.serve;
    let toolchains = serve.toolchains.clone().unwrap_or_else(|| data.join("toolchains"));
    let images = data.clone();
    let catalogue =
        tokio::task::spawn_blocking(move || roots::catalogue(&search_path(Some(toolchains)), &images));
    let kept = Kept::open(&serve, &data).await?;
    let catalogue = Arc::new(catalogue.await?);
    let drivers = Drivers::start(&serve, &data).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(repair::run(drivers.all()));
    let worker = Worker::assemble((&serve, &data), kept, trust.clone(), (catalogue, drivers), identity)?;
    load_functions(&*worker.store.functions, &worker.dispatch).await?;
    let _following = worker.follow();
    let (close, closing) = watch::channel(false);
    let threads = Arc::new(Fronts::start(&worker.server, &closing)?);
    let mut accepting = JoinSet::new();
    let announced = fronts::addresses(&listeners)?;
    for listener in listeners {
        let threads = threads.clone();
        accepting.spawn(async move { threads.accept(listener).await });
    }
    // From now on others may send calls.
    worker.announcer.join().await?;
    let members = worker.remote.members().clone();
    members.look().await.context("cannot read which workers there are")?;
    tasks.spawn(worker.announcer.clone().run());
    tasks.spawn(members.run());
    if let Some(tls) = trust.tls {
        tasks.spawn(tls.follow());
    }
    let delivery = Delivery::new(
        DeliveryConfig::default(),
        worker.dispatch.clone(),
        worker.store.deliveries.clone(),
        worker.store.functions.clone(),
        hooks,
    );
    let (stop_delivery, stopped) = watch::channel(false);
    let delivering = tokio::spawn(delivery.clone().run(stopped));
    announce(&announced, &data)?;
    stop.requested().await;
    worker.load.drain();
    worker.dispatch.close();
    stop_delivery.send_replace(true);
    let drained = drain(&worker, &stop, serve.shutdown_timeout).await;
    accepting.shutdown().await;
    close.send_replace(true);
    let patience = if drained { DELIVERY_SHUTDOWN } else { Duration::ZERO };
    if tokio::time::timeout(patience, delivering).await.is_err() {
        give_back(&delivery).await;
    }
    tasks.shutdown().await;
    last_word("that this worker leaves", worker.announcer.leave()).await;
    worker.stop().await?;
    if drained && let Some(threads) = Arc::into_inner(threads) {
        threads.end(CONNECTION_SHUTDOWN).await;
    }
    Ok(())
}

/// Whether all calls have ended in time. A further signal ends the wait.
async fn drain(worker: &Worker, stop: &Stop, patience: Duration) -> bool {
    tracing::info!("stopping: calls go to other workers, calls in flight may take up to {patience:?}");
    last_word("that this worker stops", worker.announcer.announce()).await;
    let drained = tokio::select! {
        drained = tokio::time::timeout(patience, worker.drain()) => drained.is_ok(),
        () = stop.requested() => false,
    };
    if !drained {
        tracing::warn!(calls = worker.load.calls(), "calls in flight are cut off");
        worker.load.cut_off();
    }
    drained
}

/// Says something to the store that it would find out by itself a little later.
async fn last_word<T>(what: &str, word: impl Future<Output = Result<T, impuls_store::StoreError>>) {
    match tokio::time::timeout(LAST_WORD, word).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot say {what}");
        }
        Err(_) => tracing::warn!("cannot say {what}: the store does not answer"),
    }
}

/// Who this worker is and where it is reached.
struct Identity {
    id: String,
    address: String,
}

impl Identity {
    fn of(config: &WorkerConfig, data: &Path, listeners: &[TcpListener]) -> anyhow::Result<Self> {
        let id = match &config.worker_id {
            Some(id) => id.clone(),
            None => kept_id(data)?,
        };
        let is_name = |id: &str| id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if id.is_empty() || id.len() > ID_LIMIT || !is_name(&id) {
            bail!("--worker-id {id:?}: 1 to {ID_LIMIT} of letters, digits, `-`, `_` and `.` are allowed");
        }
        let bound = listeners.first().context("a worker listens somewhere")?.local_addr()?;
        let address = match &config.advertise {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => bail!(
                "listening on {bound} does not say where others reach this worker; give --advertise HOST:{}",
                bound.port()
            ),
            None => bound.to_string(),
        };
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !has_port || address.parse::<http::uri::Authority>().is_err() {
            bail!("--advertise {address:?}: a host and a port are wanted, such as worker1.internal:7070");
        }
        Ok(Self { id, address })
    }
}

/// The name that this data folder keeps, so that a worker that is started again has the same calls.
fn kept_id(data: &Path) -> anyhow::Result<String> {
    let path = data.join(ID_FILE);
    match std::fs::read_to_string(&path) {
        // Empty is what an earlier release left that was killed while it wrote.
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot read {}", path.display()))
        }
        Ok(_) | Err(_) => {
            let id = format!("worker-{}", impuls_domain::SandboxId::new());
            write_whole(&path, &id).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(id)
        }
    }
}

/// Writes a file that is there with all of its text or not at all, whenever this process is killed.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let made = path.with_extension("new");
    let mut file = std::fs::File::create(&made)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(made, path)
}

/// The memory of this machine, in MiB; 0 if it does not say.
fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn about(address: String, catalogue: &Catalogue, drivers: &Drivers) -> About {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    About {
        address,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: cores * CALLS_PER_CORE,
        memory_mib: memory_mib(),
        network: drivers.has_network(),
        runtimes: Announced::of(catalogue),
        ..About::default()
    }
}

/// The assembled worker.
struct Worker {
    store: Storage,
    local: Arc<LocalWorker>,
    drivers: Drivers,
    remote: Arc<RemoteWorkers>,
    dispatch: Arc<Dispatch>,
    rollout: Arc<LocalRollout>,
    heard: parking_lot::Mutex<Option<Heard>>,
    recorder: Recorder,
    recording: JoinHandle<()>,
    keeping: JoinHandle<()>,
    server: Arc<Server>,
    announcer: Arc<Announcer>,
    load: Arc<Load>,
}

impl Worker {
    fn assemble(
        (config, data): (&ServeConfig, &Path),
        Kept { store, artifacts, .. }: Kept,
        trust: Trust,
        (catalogue, drivers): (Arc<Catalogue>, Drivers),
        identity: Identity,
    ) -> anyhow::Result<Self> {
        let local = local((config, data), artifacts, (&catalogue, &drivers))?;
        let builds = Builds::new(local.clone(), store.builds.clone());
        let host = Arc::new(LocalHost {
            worker: local.clone(),
            functions: store.functions.clone(),
            versions: store.versions.clone(),
            builds: builds.clone(),
            late: OnceLock::new(),
            old: parking_lot::Mutex::default(),
        });
        let Identity { id, address } = identity;
        let about = About { tls: trust.tls.is_some(), ..about(address, &catalogue, &drivers) };
        let (load, nodes) = (Arc::new(Load::default()), nodes(&store)?);
        let server = Server::new(host.clone(), load.clone(), trust.clone());
        let members = Members::new(nodes.clone(), trust);
        let remote = RemoteWorkers::new(members, Some(Own::new(id.clone(), &server)));
        let recorder = Recorder::new(RecorderConfig::default(), store.invocations.clone());
        let dispatch = dispatch(&store, remote.clone(), &recorder);
        let heard = store.changes().map(Heard::of);
        let ring = remote.clone();
        let keeps: Keeps = Arc::new(move |target| {
            ring.is_home(target.revision.function, target.revision.config.runtime.as_str())
        });
        let rollout = Arc::new(LocalRollout {
            catalogue: catalogue.clone(),
            worker: local.clone(),
            dispatch: dispatch.clone(),
            builds,
            activating: parking_lot::Mutex::default(),
            feed: heard.as_ref().map(Heard::tell),
            keeps: keeps.clone(),
        });
        // Nobody has asked yet, so it is not there yet.
        let _set = host.late.set(Late { dispatch: dispatch.clone(), rollout: rollout.clone() });
        let announcer = Announcer::new(nodes, id, about, load.clone());
        let recording = tokio::spawn(recorder.clone().run());
        let targets = dispatch.clone();
        let kept = move || {
            let all = targets.latest_targets();
            all.into_iter()
                .filter(|target| target.revision.config.limits.min_warm() > 0 && keeps(target))
                .collect()
        };
        let keeping = tokio::spawn(local.clone().run(kept));
        let heard = parking_lot::Mutex::new(heard);
        Ok(Self {
            store,
            local,
            drivers,
            remote,
            dispatch,
            rollout,
            heard,
            recorder,
            recording,
            keeping,
            server,
            announcer,
            load,
        })
    }

    /// Follows what controllers change, until dropped.
    fn follow(&self) -> Option<JoinSet<()>> {
        let heard = self.heard.lock().take()?;
        let (functions, dispatch) = (self.store.functions.clone(), self.dispatch.clone());
        Some(Feed { functions, dispatch, rollout: self.rollout.clone() }.start(heard))
    }

    /// Waits until nothing runs here, for whoever it was.
    async fn drain(&self) {
        self.dispatch.drain().await;
        self.load.idle().await;
    }

    /// Ends every sandbox and stores what is not stored yet.
    async fn stop(self) -> anyhow::Result<()> {
        self.keeping.abort();
        if tokio::time::timeout(SANDBOX_SHUTDOWN, self.local.shut_down()).await.is_err() {
            tracing::error!("some sandboxes did not end in time; they end with this process");
        }
        self.drivers.shutdown().await;
        self.recorder.stop();
        self.recording.await?;
        self.store.close().await
    }
}

/// The sandboxes of this machine, with the first ones on their way.
fn local(
    (config, data): (&ServeConfig, &Path),
    artifacts: Arc<dyn ArtifactStore>,
    (catalogue, drivers): (&Arc<Catalogue>, &Drivers),
) -> anyhow::Result<Arc<LocalWorker>> {
    let folders = Arc::new(CodeFolders::open(data.join("code"), artifacts.clone())?);
    let network = drivers.default_network(config);
    let worker = LocalWorker::new(
        settings::worker(config, network),
        impuls_worker::Parts {
            drivers: drivers.for_worker(),
            catalogue: catalogue.clone(),
            folders,
            artifacts,
            builds: settings::builds(&config.builds)?,
            background: tokio::runtime::Handle::current(),
        },
    );
    prewarm(&worker, catalogue);
    Ok(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_keeps_its_name_and_makes_one_where_none_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let first = kept_id(folder.path()).unwrap();
        assert!(first.starts_with("worker-"), "{first}");
        assert_eq!(kept_id(folder.path()).unwrap(), first);
        // Killed while it wrote.
        std::fs::write(folder.path().join(ID_FILE), "").unwrap();
        let second = kept_id(folder.path()).unwrap();
        assert!(second.starts_with("worker-") && second != first, "{second}");
        assert_eq!(kept_id(folder.path()).unwrap(), second);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
