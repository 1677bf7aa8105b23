//! What the driver and its sandboxes share: the spawner of the moment and who lives there.

use std::collections::HashMap;
use std::fs::File;
use std::io::Seek;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use impuls_sandbox::{RuntimeImage, SandboxError, StartMethod};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, mpsc, oneshot, watch};

use super::keeper::{Keeper, Started};
use super::link::{Answer, Link, News};
use crate::cgroup::Cgroups;
use crate::isolation::IsolationReport;
use crate::messages::{End, Image, Key, Request};

/// Waits between attempts to start a spawner again.
const RESTART: Duration = Duration::from_millis(100);

/// How long the spawner may take to end everything.
const PATIENCE: Duration = Duration::from_secs(10);

/// One spawner and what has been prepared in it.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) link: Arc<Link>,
    images: Mutex<Vec<KnownImage>>,
}

/// An image, and whether the spawner has it.
type KnownImage = (Arc<RuntimeImage>, Arc<OnceCell<()>>);

/// The shared state.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) runtime: Handle,
    pub(crate) cgroups: Cgroups,
    instance: String,
    keeper: Keeper,
    station: Mutex<Option<Arc<Station>>>,
    live: Mutex<HashMap<Key, watch::Sender<Option<End>>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    closing: Mutex<bool>,
}

impl Core {
    /// Starts a spawner. Sandboxes' groups are to be called after `instance`.
    pub(super) async fn start(
        exe: &Path,
        instance: &str,
    ) -> Result<(Arc<Self>, IsolationReport), SandboxError> {
        let keeper = Keeper::start(exe.to_owned())
            .map_err(|source| SandboxError::Setup { step: "start the keeper thread".to_owned(), source })?;
        // Nobody starts another one here, so what the error says by itself would not be true.
        let opened = open(&keeper, instance).await.map_err(|error| match error {
            SandboxError::SpawnerGone => SandboxError::Setup {
                step: "start the spawner, which has said why on standard error".to_owned(),
                source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
            },
            other => other,
        })?;
        let core = Arc::new(Self {
            runtime: Handle::current(),
            cgroups: opened.cgroups,
            instance: instance.to_owned(),
            keeper,
            station: Mutex::new(Some(opened.station)),
            live: Mutex::default(),
            ended: Mutex::new(Some(opened.ended)),
            closing: Mutex::new(false),
        });
        tokio::spawn(attend(Arc::downgrade(&core), opened.news));
        Ok((core, opened.report))
    }

    /// What this driver is called on the machine.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// The spawner of the moment.
    pub(crate) fn station(&self) -> Result<Arc<Station>, SandboxError> {
        self.station.lock().clone().ok_or(SandboxError::SpawnerGone)
    }

    /// Notes a sandbox whose end is to be told.
    pub(crate) fn enter(&self, key: Key, end: watch::Sender<Option<End>>) {
        self.live.lock().insert(key, end);
    }

    /// Forgets it.
    pub(crate) fn leave(&self, key: Key) {
        self.live.lock().remove(&key);
    }

    fn told(&self, key: Key, end: End) {
        if let Some(sender) = self.live.lock().get(&key) {
            sender.send_replace(Some(end));
        }
    }

    /// The spawner is gone, and the kernel is killing every process 1. A sandbox's end is told when its cgroups
    /// could be removed, which the kernel allows only once nothing runs in them.
    async fn all_gone(&self) {
        *self.station.lock() = None;
        let live: Vec<(Key, watch::Sender<Option<End>>)> =
            self.live.lock().iter().map(|(key, sender)| (*key, sender.clone())).collect();
        let end = End { signal: Some(libc::SIGKILL), ..End::default() };
        for (key, sender) in live {
            self.remove_leftovers(key).await;
            sender.send_if_modified(|state| state.is_none() && state.replace(end).is_none());
        }
        // Those that were given up meanwhile: nobody awaits their end, and the spawner no longer heard of it.
        for key in self.cgroups.keys() {
            self.remove_leftovers(key).await;
        }
    }

    /// Removes the cgroups of a sandbox whose spawner is gone.
    pub(crate) async fn remove_leftovers(&self, key: Key) {
        const ATTEMPTS: u32 = 200;
        for _ in 0..ATTEMPTS {
            self.cgroups.kill(key);
            if self.cgroups.remove(key).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tracing::warn!(sandbox = %format_args!("{key:032x}"), "cgroup of a dead sandbox cannot be removed");
    }

    /// Starts another spawner; returns what it will say.
    async fn restart(&self) -> Result<mpsc::UnboundedReceiver<News>, SandboxError> {
        let opened = open(&self.keeper, &self.instance).await?;
        *self.ended.lock() = Some(opened.ended);
        *self.station.lock() = Some(opened.station);
        Ok(opened.news)
    }

    /// Ends the spawner and waits until it has ended, and everything with it.
    pub(super) async fn close(&self) {
        *self.closing.lock() = true;
        if let Ok(station) = self.station() {
            station.link.close();
        }
        let ended = self.ended.lock().take();
        if let Some(ended) = ended
            && tokio::time::timeout(PATIENCE, ended).await.is_err()
        {
            tracing::error!("the spawner does not end; the kernel will kill it with this process");
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(station) = self.station.get_mut() {
            station.link.close();
        }
    }
}

/// A new spawner's station, what it can do, and what it will say.
struct Opened {
    station: Arc<Station>,
    news: mpsc::UnboundedReceiver<News>,
    ended: oneshot::Receiver<()>,
    cgroups: Cgroups,
    report: IsolationReport,
}

async fn open(keeper: &Keeper, instance: &str) -> Result<Opened, SandboxError> {
    let failed = |source| SandboxError::Setup { step: "start the spawner".to_owned(), source };
    let Started { socket, ended } = keeper.spawn().await.map_err(failed)?;
    let link = Arc::new(Link::new(socket).map_err(failed)?);
    let ended = closed_at_end(link.clone(), ended);
    // Unbounded, but a sandbox ends once.
    let (sender, news) = mpsc::unbounded_channel();
    tokio::spawn(link.clone().serve(sender));
    let cgroup = instance.to_owned();
    match link.ask(|request| Request::Hello { request, cgroup }, &[]).await? {
        Answer::Welcome(cgroups, report) => {
            let station = Arc::new(Station { link, images: Mutex::default() });
            Ok(Opened { station, news, ended, cgroups, report })
        }
        Answer::Done | Answer::Assigned(_) | Answer::Failed(_) => Err(SandboxError::SpawnerGone),
    }
}

/// Closes the link when its spawner has ended, whoever else still has the spawner's end of it; resolves then.
fn closed_at_end(link: Arc<Link>, ended: oneshot::Receiver<()>) -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let _ended_or_never_started = ended.await;
        link.close();
        let _nobody_waits = tell.send(());
    });
    told
}

/// Passes the spawner's news on; when it is gone, starts another and does the same for that.
async fn attend(core: Weak<Core>, mut news: mpsc::UnboundedReceiver<News>) {
    loop {
        while let Some(News { key, end }) = news.recv().await {
            if let Some(core) = core.upgrade() {
                core.told(key, end);
            }
        }
        let Some(core) = core.upgrade() else { return };
        core.all_gone().await;
        news = loop {
            if *core.closing.lock() {
                return;
            }
            tracing::error!("the spawner is gone; starting another");
            match core.restart().await {
                Ok(news) => break news,
                Err(error) => tracing::error!(error = %error, "the spawner cannot be started"),
            }
            tokio::time::sleep(RESTART).await;
        };
    }
}

impl Station {
    /// Makes sure that the spawner knows an image, and returns its number there. Callers at the same time wait
    /// for one of them.
    pub(crate) async fn image(
        &self,
        image: &Arc<RuntimeImage>,
        resolver: Option<Ipv4Addr>,
    ) -> Result<u32, SandboxError> {
        let (number, prepared) = {
            let mut images = self.images.lock();
            let known = images.iter().position(|(known, _)| Arc::ptr_eq(known, image) || known == image);
            let number = known.unwrap_or_else(|| {
                images.push((image.clone(), Arc::default()));
                images.len() - 1
            });
            let prepared = images.get(number).map(|(_, prepared)| prepared.clone()).unwrap_or_default();
            (u32::try_from(number).unwrap_or(u32::MAX), prepared)
        };
        prepared.get_or_try_init(|| self.prepare(number, image, resolver)).await?;
        Ok(number)
    }

    async fn prepare(
        &self,
        number: u32,
        image: &RuntimeImage,
        resolver: Option<Ipv4Addr>,
    ) -> Result<(), SandboxError> {
        let failed = |source| SandboxError::Setup { step: "describe the runtime".to_owned(), source };
        let paths = |(a, b): &(PathBuf, PathBuf)| (a.clone(), b.clone());
        let wire = Image {
            mounts: image.mounts.iter().map(|mount| (mount.host.clone(), mount.guest.clone())).collect(),
            links: image.links.iter().map(paths).collect(),
            files: image.files.iter().map(|(path, text)| (path.clone(), (*text).to_owned())).collect(),
            resolver,
            zygote: match &image.start {
                StartMethod::Exec => Vec::new(),
                StartMethod::Zygote(command) => command.clone(),
            },
        };
        // Longer than a message may be, so it goes as a file.
        let memory = memfd_create("impuls-image", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let mut file = File::from(memory);
        serde_json::to_writer(&mut file, &wire).map_err(|e| failed(e.into()))?;
        file.rewind().map_err(failed)?;
        let fds = [file.as_fd()];
        Ok(self.link.order(|request| Request::Image { request, image: number }, &fds).await?)
    }
}
