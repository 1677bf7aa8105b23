//! `impuls controller`: takes requests, decides, and has workers run them. Keeps nothing that another controller lacks.

use std::sync::Arc;

use anyhow::Context as _;
use impuls_api::{App, Front};
use impuls_cli::{ControllerConfig, DefaultNetwork, ServeConfig};
use impuls_cluster::{Members, RemoteWorkers, Trust};
use impuls_control::Control;
use impuls_dispatch::{Dispatch, Recorder, RecorderConfig, Scheduler};
use impuls_domain::NetworkPolicy;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::rollout::{RemoteRollout, default_network, runtime_infos};
use super::{load_functions, nodes, trust};
use crate::collection;
use crate::feed::{Feed, Heard};
use crate::fronts::{self, Fronts};
use crate::readiness::ServerReadiness;
use crate::serve::{
    CONNECTION_SHUTDOWN, Kept, Stop, announce, data_dir, dispatch, drain, front, stores, wait_for_balancers,
};
use crate::storage::Storage;

pub(super) async fn run(config: ControllerConfig) -> anyhow::Result<()> {
    let stop = Stop::install()?;
    let trust = trust(config.trust)?;
    let config = config.serve;
    let data = data_dir(&config)?;
    let listeners = fronts::bind(&config.listen).await?;
    let kept = Kept::open(&config, &data).await?;
    let collector = collection::collector(&config.retention, &kept);
    let controller = Controller::assemble(&config, kept, trust.clone())?;
    let members = controller.remote.members();
    members.look().await.context("cannot read which workers there are")?;
    if members.peers().is_empty() {
        tracing::warn!("no worker is there yet; start one with `impuls worker`");
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(members.clone().run());
    if let Some(tls) = trust.tls {
        tasks.spawn(tls.follow());
    }
    load_functions(&*controller.store.functions, &controller.dispatch).await?;
    let _following = controller.follow();
    let (stop_scheduling, stopped) = watch::channel(false);
    let scheduler = Scheduler::new(controller.dispatch.clone(), controller.store.schedules.clone());
    let scheduling = tokio::spawn(scheduler.run(stopped.clone()));
    let collecting = tokio::spawn(collector.run(stopped));
    if controller.store.offers.is_none() {
        // Without Redis nobody else hears what is accepted here.
        let (dispatch, remote) = (controller.dispatch.clone(), controller.remote.clone());
        tasks.spawn(async move {
            loop {
                dispatch.next_submitted().await;
                remote.wake().await;
            }
        });
    }
    let (close, closing) = watch::channel(false);
    let threads = Arc::new(Fronts::start(&controller.front, &closing)?);
    announce(&fronts::addresses(&listeners)?, &data)?;
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let threads = threads.clone();
        accepting.spawn(async move { threads.accept(listener).await });
    }
    stop.requested().await;
    controller.readiness.drain();
    wait_for_balancers(&stop, config.shutdown_delay).await;
    controller.dispatch.close();
    stop_scheduling.send_replace(true);
    let patience = config.shutdown_timeout;
    tracing::info!("stopping: new calls are refused, calls in flight may take up to {patience:?}");
    accepting.shutdown().await;
    let drained = drain(&stop, &controller.dispatch, patience).await;
    close.send_replace(true);
    let _ended = tokio::join!(scheduling, collecting);
    tasks.shutdown().await;
    controller.stop().await?;
    if drained && let Some(threads) = Arc::into_inner(threads) {
        threads.end(CONNECTION_SHUTDOWN).await;
    }
    Ok(())
}

/// The assembled controller.
struct Controller {
    store: Storage,
    remote: Arc<RemoteWorkers>,
    dispatch: Arc<Dispatch>,
    rollout: Arc<RemoteRollout>,
    heard: parking_lot::Mutex<Option<Heard>>,
    recorder: Recorder,
    recording: tokio::task::JoinHandle<()>,
    front: Arc<Front>,
    readiness: Arc<ServerReadiness>,
}

impl Controller {
    fn assemble(
        config: &ServeConfig,
        Kept { store, artifacts, .. }: Kept,
        trust: Trust,
    ) -> anyhow::Result<Self> {
        let remote = RemoteWorkers::new(Members::new(nodes(&store)?, trust), None);
        let recorder = Recorder::new(RecorderConfig::default(), store.invocations.clone());
        let dispatch = dispatch(&store, remote.clone(), &recorder);
        let heard = store.changes().map(Heard::of);
        let feed = heard.as_ref().map(Heard::tell);
        let rollout = Arc::new(RemoteRollout { remote: remote.clone(), dispatch: dispatch.clone(), feed });
        let control = Control::new(stores(&store, &recorder), artifacts, rollout.clone());
        let workers = remote.clone();
        let control = match config.default_network {
            Some(DefaultNetwork::Off) => control.with_default_network(NetworkPolicy::Off),
            Some(DefaultNetwork::Egress) => control.with_default_network(NetworkPolicy::Egress),
            None => control.with_default_network_by(move || default_network(&workers)),
        };
        let workers = remote.clone();
        let readiness = ServerReadiness::new(store.functions.clone());
        let native = App::new(Arc::new(control), dispatch.clone(), Vec::new());
        let native = native.with_readiness(readiness.clone());
        let front = front(config, native.with_runtimes(move || runtime_infos(&workers)));
        let recording = tokio::spawn(recorder.clone().run());
        let heard = parking_lot::Mutex::new(heard);
        Ok(Self { store, remote, dispatch, rollout, heard, recorder, recording, front, readiness })
    }

    /// Follows what other controllers change, until dropped.
    fn follow(&self) -> Option<JoinSet<()>> {
        let heard = self.heard.lock().take()?;
        let (functions, dispatch) = (self.store.functions.clone(), self.dispatch.clone());
        Some(Feed { functions, dispatch, rollout: self.rollout.clone() }.start(heard))
    }

    /// Stores what is not stored yet.
    async fn stop(self) -> anyhow::Result<()> {
        self.recorder.stop();
        self.recording.await?;
        self.store.close().await
    }
}
