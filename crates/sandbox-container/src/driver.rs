//! The server's side of the driver: the ground, the runtime, what containers share.

mod engine;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use impuls_domain::Deadline;
use impuls_sandbox::carried::Carried;
use impuls_sandbox::host_ids::{HostIds, IdRange};
use impuls_sandbox::{
    RuntimeImage, Sandbox, SandboxDriver, SandboxError, SandboxNetwork, SandboxSpec, instance,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

pub(crate) use self::engine::{Engine, Handed};
use crate::bundle::Bundle;
use crate::cgroup;
use crate::config::Config;
use crate::ground::Ground;
use crate::oci::{OciRuntime, Safety};
use crate::orphans::{self, PREFIX};
use crate::root::{INIT, Plan};
use crate::sandbox::ContainerSandbox;
use crate::strays::{self, Strays};

/// The folder in which every server makes one for its roots; everybody may enter it, unlike the data folder, because a
/// container's own root user has to.
const STAGES: &str = "/run";
/// The second half of what nobody hands out; the process driver takes from the first. Two for each container: its root, who is
/// nobody once it runs, and its user.
const IDS: IdRange = IdRange { base: 0x7800_0000, parts: 2_047, step: 2 };
/// How long containers may take to end when the server stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// The driver of containers.
#[derive(Debug)]
pub struct ContainerDriver {
    core: Arc<Core>,
    run_dir: PathBuf,
}

/// An image, and its root once it has been put together.
type KnownImage = (Arc<RuntimeImage>, Arc<OnceCell<PathBuf>>);

/// What the driver and its containers share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) runtime: Handle,
    pub(crate) engine: Engine,
    pub(crate) folder: PathBuf,
    /// The same, open.
    pub(crate) handle: fs::File,
    pub(crate) ids: Mutex<HostIds>,
    pub(crate) network: Option<Arc<dyn SandboxNetwork>>,
    /// Containers that have not been removed yet.
    pub(crate) live: AtomicUsize,
    instance: String,
    ground: Arc<Ground>,
    /// Process 1 of every container.
    init: Carried,
    images: Mutex<Vec<KnownImage>>,
    strays: Mutex<Strays>,
    closed: AtomicBool,
}

impl ContainerDriver {
    /// Opens the ground. To be called as root, in the runtime for background work, which from then on serves everything
    /// but [`Sandbox::connect`]. Fails if the runtime has known escapes, unless [`Config::allow_unsafe`]. The process
    /// becomes the parent of its containers' first processes.
    pub async fn start(config: Config) -> Result<Arc<Self>, SandboxError> {
        check(&config.runtime, config.allow_unsafe)?;
        if !rustix::process::geteuid().is_root() {
            return Err(setup(
                "make containers as an ordinary user; start the server as root, or take the process \
                              driver",
            )(io::ErrorKind::PermissionDenied.into()));
        }
        let instance = instance::name().map_err(setup("read when this server started"))?;
        let folder = config.run_dir.join(&instance);
        let stage = Path::new(STAGES).join(format!("{PREFIX}{instance}"));
        let in_run_folder = format!("use run folder {}", config.run_dir.display());
        orphans::make_folder(&folder, &config.runtime.path).map_err(setup(&in_run_folder))?;
        let handle = fs::File::open(&folder).map_err(setup(&in_run_folder))?;
        fs::DirBuilder::new().mode(0o755).create(&stage).map_err(setup("make the folder of roots"))?;
        let ground = Ground::open(&stage).map_err(|error| {
            let _empty = fs::remove_dir(&stage);
            setup("open a mount namespace")(error)
        })?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| setup("become the parent of containers")(error.into()))?;
        let ground = Arc::new(ground);
        let core = Core {
            runtime: Handle::current(),
            engine: Engine::new(config.runtime, folder.join(orphans::STATE), ground.clone()),
            folder,
            handle,
            ids: Mutex::new(HostIds::new(IDS, std::process::id())),
            network: config.network,
            live: AtomicUsize::new(0),
            instance,
            ground,
            init: Carried::new(&config.init, INIT, &config.init_libraries),
            images: Mutex::default(),
            strays: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        Ok(Arc::new(Self { core: Arc::new(core), run_dir: config.run_dir }))
    }

    /// The program that makes the containers.
    #[must_use]
    pub fn runtime(&self) -> &OciRuntime {
        self.core.engine.runtime()
    }

    /// Waits until every container is removed, at most ten seconds, and removes the driver's own traces. Whoever still
    /// holds a sandbox should have destroyed it. The driver is of no further use.
    pub async fn shutdown(&self) {
        let until = Instant::now() + PATIENCE;
        while self.core.live.load(Ordering::Acquire) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.core.close();
    }
}

/// Refuses a runtime that strangers' code has left before.
fn check(runtime: &OciRuntime, allow_unsafe: bool) -> Result<(), SandboxError> {
    let refuse = |what: String| Err(setup(&what)(io::ErrorKind::Unsupported.into()));
    match runtime.safety() {
        Safety::Fine => Ok(()),
        Safety::Escapes(why) if allow_unsafe => {
            tracing::warn!(%runtime, "this OCI runtime is used although {why}");
            Ok(())
        }
        Safety::Escapes(why) => refuse(format!(
            "use {runtime}: {why}; install a newer one, name another with --oci-runtime, or, if your distribution \
             has mended this one under its old number, say --allow-unsafe-oci-runtime"
        )),
        Safety::Unusable(why) => {
            refuse(format!("use {runtime}: {why}; name crun, runc or youki with --oci-runtime"))
        }
    }
}

pub(crate) fn setup(step: &str) -> impl Fn(io::Error) -> SandboxError {
    move |source| SandboxError::Setup { step: step.to_owned(), source }
}

impl Core {
    /// The root of an image. Callers at the same time wait for one of them.
    async fn root(&self, image: &Arc<RuntimeImage>) -> Result<PathBuf, SandboxError> {
        let (number, prepared) = {
            let mut images = self.images.lock();
            let known = images.iter().position(|(known, _)| Arc::ptr_eq(known, image) || known == image);
            let number = known.unwrap_or_else(|| {
                images.push((image.clone(), Arc::default()));
                images.len() - 1
            });
            (number, images.get(number).map(|(_, prepared)| prepared.clone()).unwrap_or_default())
        };
        let build = async || {
            let root = self.ground.stage().join(number.to_string());
            let resolver = self.network.as_ref().and_then(|network| network.resolver());
            let plan = Plan { image: image.clone(), init: self.init.mounts.clone(), resolver };
            let folder = root.clone();
            self.ground.run(move || plan.build(&folder)).await.map(|()| root)
        };
        let name = &image.name;
        let root = prepared.get_or_try_init(build).await;
        root.cloned().map_err(setup(&format!("put together the root of {name}")))
    }

    /// Where a container's cgroups are, from the root of each hierarchy.
    pub(crate) fn cgroup(&self, container: &str) -> String {
        orphans::group_path(&self.instance, container)
    }

    /// What a container is told to be.
    pub(crate) async fn describe(
        &self,
        spec: &SandboxSpec,
        first_id: u32,
    ) -> Result<serde_json::Value, SandboxError> {
        let root = self.root(&spec.image).await?;
        let steered = !spec.interpreter_environment.is_empty();
        let mut arguments = if steered { &spec.image.steered_argv } else { &spec.image.argv }.clone();
        if spec.prewarm && !spec.image.warm_argument.is_empty() {
            arguments.push(spec.image.warm_argument.to_owned());
        }
        let environment: Vec<(String, String)> = spec.interpreter_environment.clone().into_iter().collect();
        let bundle = Bundle {
            image: &spec.image,
            root: &root,
            init: &self.init.command,
            arguments: &arguments,
            environment: &environment,
            limits: spec.limits,
            first_id,
            cgroup: &self.cgroup(&spec.id.to_string()),
            swap: cgroup::counts_swap(),
        };
        Ok(bundle.config())
    }

    /// Removes what the driver itself has on the machine.
    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let own = format!("{PREFIX}{}", self.instance);
        cgroup::tops(|name| name == own).iter().for_each(|folder| orphans::remove_group(folder));
        let _gone_already = fs::remove_dir(self.ground.stage());
        let _gone_already = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl SandboxDriver for ContainerDriver {
    async fn create(&self, spec: SandboxSpec, by: Deadline) -> Result<Arc<dyn Sandbox>, SandboxError> {
        if by.instant() <= Instant::now() {
            return Err(SandboxError::DeadlineExceeded);
        }
        let core = self.core.clone();
        // A task of its own, because a runtime must not be stopped half-way: given up, the container is made and goes.
        let made = core.runtime.clone().spawn(async move { ContainerSandbox::make(&core, spec).await });
        let ready = async {
            let sandbox =
                made.await.map_err(|error| setup("make a container")(io::Error::other(error)))??;
            sandbox.await_ready().await?;
            Ok(sandbox as Arc<dyn Sandbox>)
        };
        let ready = tokio::time::timeout_at(by.instant().into(), ready).await;
        ready.unwrap_or(Err(SandboxError::DeadlineExceeded))
    }

    async fn reap_orphans(&self) -> Result<usize, SandboxError> {
        let strays = self.core.strays.lock().bury(strays::children(), Instant::now());
        if strays > 0 {
            tracing::debug!(strays, "waited for processes that others had left behind");
        }
        let reaped = orphans::reap(&self.run_dir, Path::new(STAGES), &self.core.instance).await;
        reaped.map_err(setup("remove what dead servers left"))
    }
}
