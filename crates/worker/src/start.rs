//! Making a sandbox of a revision: from the prewarmed ones if it can, else from nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use impuls_artifacts::{CodeFolder, CodeFolders, FolderLayout};
use impuls_dispatch::{RunError, Target};
use impuls_domain::{
    Built, CodeLayout, Deadline, ErrorType, Failure, Limits, LoadFailure, Logs, Revision, SandboxId,
};
use impuls_runtimes::{Catalogue, Launch};
use impuls_sandbox::{
    Assignment, Exit, Init, InitError, InitErrorKind, InitFailure, RuntimeImage, Sandbox, SandboxDriver,
    SandboxError, SandboxLimits, SandboxSpec,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::capacity::{Capacity, Claim};
use crate::config::Config;
use crate::drivers::Drivers;
use crate::live::{FirstCall, Live};
use crate::mounted::Mounted;
use crate::pool::{NoSlot, Pool};
use crate::prewarm::Prewarm;
use crate::refusals::RefusalBook;

/// Where code is inside a sandbox.
pub(crate) const CODE_DIR: &str = "/var/task";
/// The one variable of ours that every function sees.
const FUNCTION_NAME: &str = "IMPULS_FUNCTION_NAME";
/// How long a start waits for the spawner to be started again.
pub(crate) const SPAWNER_RESTART: Duration = Duration::from_millis(200);
/// Tries of a start whose new sandbox turns out to be dead. One that was prewarmed and died while it waited is none: after
/// a spawner's death the whole pool did.
pub(crate) const TRIES: usize = 3;

/// What starts of all revisions share.
pub(crate) struct StartContext {
    pub(crate) config: Config,
    pub(crate) drivers: Drivers,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) folders: Arc<CodeFolders>,
    pub(crate) mounted: Arc<Mounted>,
    pub(crate) prewarm: Prewarm,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) refusals: Arc<RefusalBook>,
    pub(crate) background: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) live: AtomicUsize,
    pub(crate) starting: AtomicUsize,
    /// One-off commands that are running.
    pub(crate) executing: AtomicUsize,
    /// Frees memory by destroying the longest unused sandbox of any pool; false if there is none.
    pub(crate) evict: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Why a revision's sandbox could not be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The function's own failure, with what its top level wrote.
    Init(InitFailure, Logs),
    Sandbox(SandboxError),
    Code(String),
}

impl From<SandboxError> for StartError {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(error)
    }
}

/// Limits of a sandbox that has no code yet; assigning sets the function's.
pub(crate) fn unassigned_limits() -> SandboxLimits {
    SandboxLimits::from(&Limits::default())
}

/// The plainest sandbox of a runtime.
pub(crate) fn unassigned(image: &Arc<RuntimeImage>, limits: SandboxLimits) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::new(),
        image: image.clone(),
        prewarm: false,
        interpreter_environment: BTreeMap::new(),
        limits,
    }
}

/// Counts something for as long as it lives.
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(crate) fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a sandbox for a pool in the background, whoever waits for it.
pub(crate) fn spawn(pool: Arc<Pool>, by: Deadline) {
    let context = pool.context.clone();
    let task = async move {
        let context = &pool.context;
        let begun = Instant::now();
        let _starting = Counted::new(&context.starting);
        match context.start(&pool.target, None, by).await {
            Ok((sandbox, logs)) => {
                let first = FirstCall { logs, init_duration: begun.elapsed() };
                let live = pool.started(|key| Live::new(pool.clone(), key, sandbox, first));
                context.watch(&live);
            }
            Err(StartError::Sandbox(SandboxError::AtCapacity)) => pool.start_deferred(),
            Err(error) => {
                tracing::debug!(?error, function = %pool.target.function_name, "a start failed");
                pool.start_failed(by, || no_slot(&error, begun.elapsed()));
            }
        }
    };
    let handle = context.background.clone();
    context.tasks.spawn_on(task, &handle);
}

impl StartContext {
    /// A sandbox that has loaded the target's code, with what the top level wrote. For a `check` its top level does not
    /// run to the end, and the cell is told after how long there was a sandbox.
    pub(crate) async fn start(
        &self,
        target: &Target,
        check: Option<&OnceLock<Duration>>,
        by: Deadline,
    ) -> Result<(Arc<dyn Sandbox>, Logs), StartError> {
        let begun = Instant::now();
        let code = self.code(target).await?;
        let config = &target.revision.config;
        let installed =
            self.catalogue.resolve(&config.runtime).map_err(|error| StartError::Code(error.to_string()))?;
        if let Built::Failed(failure) = &target.revision.built {
            return Err(StartError::Init(InitFailure::Reported(never_built(failure)), Logs::default()));
        }
        let launch = self.catalogue.launch(config, CODE_DIR);
        // The agent itself needs no such variable: the programs that it runs get them all.
        let steers = launch.command.is_empty() && config.environment.steers_the_interpreter();
        let assignment = Assignment {
            code: code.path().to_owned(),
            limits: SandboxLimits::from(&config.limits),
            network: config.network.clone(),
            init: init(target, launch, check.is_some()),
        };
        let image = installed.image_for(config.contract);
        let mut tries = TRIES;
        loop {
            let code_ready = begun.elapsed();
            let (sandbox, prewarmed) = match self.sandbox(image, target, steers, by).await {
                Err(StartError::Sandbox(SandboxError::SpawnerGone)) if tries > 1 => {
                    tries -= 1;
                    tokio::time::sleep(SPAWNER_RESTART).await;
                    continue;
                }
                sandbox => sandbox?,
            };
            let sandbox_ready = begun.elapsed();
            if let Some(told) = check {
                // A second try finds the first one's.
                let _known = told.set(sandbox_ready);
            }
            self.mounted.enter(sandbox.id(), &code);
            if !assignment.network.is_off() {
                self.refusals.enter(target.revision.function, &sandbox);
            }
            let report = sandbox.assign(assignment.clone(), by).await;
            let logs = sandbox.take_loose_logs();
            match report {
                Ok(Ok(())) => {
                    let loaded = begun.elapsed();
                    tracing::debug!(function = %target.function_name, ?code_ready, ?sandbox_ready, ?loaded, "a start by phase");
                    return Ok((sandbox, logs));
                }
                Ok(Err(failure)) => {
                    let gone = self.destroy(sandbox);
                    if check.is_some() {
                        drop(gone.await);
                    }
                    return Err(StartError::Init(failure, logs));
                }
                Err(error) => {
                    self.destroy(sandbox);
                    tries -= usize::from(!(prewarmed && is_death(&error)));
                    if tries == 0 || !error.is_retryable() {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    async fn code(&self, target: &Target) -> Result<CodeFolder, StartError> {
        let revision = &target.revision;
        let source = self.source_layout(revision);
        let layout = match &revision.built {
            Built::Archive(archive) => FolderLayout::Built { source: Box::new(source), archive: *archive },
            Built::AsIs | Built::Failed(_) => source,
        };
        let folder = self.folders.folder(&revision.artifact, &layout).await;
        folder.map_err(|error| StartError::Code(chain(&error)))
    }

    /// How a revision's source becomes files.
    pub(crate) fn source_layout(&self, revision: &Revision) -> FolderLayout {
        let config = &revision.config;
        match revision.layout {
            CodeLayout::Zip => FolderLayout::Zip,
            CodeLayout::SingleFile => FolderLayout::SingleFile {
                names: self.catalogue.source_files(&config.runtime, config.contract, &config.handler),
            },
        }
    }

    /// A prewarmed sandbox, or a new one, and whether it was prewarmed; always a new one if the function's environment
    /// `steers` the interpreter or it has a driver of its own.
    async fn sandbox(
        &self,
        image: &Arc<RuntimeImage>,
        target: &Target,
        steers: bool,
        by: Deadline,
    ) -> Result<(Arc<dyn Sandbox>, bool), StartError> {
        let choice = target.revision.config.driver;
        let driver = self.drivers.of(choice);
        let driver =
            driver.map_err(|error| StartError::Init(InitFailure::Reported(error), Logs::default()))?;
        if !steers
            && self.drivers.is_standard(choice)
            && let Some(sandbox) = self.prewarm.take(image)
        {
            return Ok((self.counted(sandbox), true));
        }
        let limits = SandboxLimits::from(&target.revision.config.limits);
        let mut spec = unassigned(image, limits);
        if steers {
            spec.interpreter_environment = target.revision.config.environment.variables().clone();
        }
        Ok((self.create(driver, spec, by).await?, false))
    }

    /// A new sandbox, for which there must be room.
    pub(crate) async fn create(
        &self,
        driver: &Arc<dyn SandboxDriver>,
        spec: SandboxSpec,
        by: Deadline,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let place = self.make_room(&spec.image)?;
        let sandbox = driver.create(spec, by).await?;
        place.keep();
        Ok(self.counted(sandbox))
    }

    /// Counts a sandbox that has its place as live, until it is [destroyed](Self::destroy).
    pub(crate) fn counted(&self, sandbox: Arc<dyn Sandbox>) -> Arc<dyn Sandbox> {
        self.live.fetch_add(1, Ordering::Relaxed);
        sandbox
    }

    fn make_room(&self, image: &RuntimeImage) -> Result<Claim, SandboxError> {
        let mib = image.idle_memory_mib;
        if let Some(claim) = self.capacity.claim(mib) {
            return Ok(claim);
        }
        // The memory of what is evicted will be free in a moment.
        if (self.evict)()
            && let Some(claim) = self.capacity.claim_place(mib)
        {
            return Ok(claim);
        }
        for sandbox in self.prewarm.take_all() {
            let sandbox = self.counted(sandbox);
            self.destroy(sandbox);
        }
        self.capacity.claim(mib).ok_or(SandboxError::AtCapacity)
    }

    /// Destroys a counted sandbox in the background, whether or not somebody waits for the end; a failure is logged.
    pub(crate) fn destroy(&self, sandbox: Arc<dyn Sandbox>) -> JoinHandle<()> {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.capacity.give_back();
        let (refusals, mounted) = (self.refusals.clone(), self.mounted.clone());
        let task = async move {
            match sandbox.destroy().await {
                Ok(()) => mounted.leave(sandbox.id()),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, sandbox = %sandbox.id(), "cannot destroy a sandbox");
                }
            }
            refusals.leave(sandbox.as_ref());
        };
        self.tasks.spawn_on(task, &self.background)
    }

    /// Takes the sandbox out of its pool when its process ends by itself.
    fn watch(&self, live: &Arc<Live>) {
        let (sandbox, live) = (live.sandbox.clone(), Arc::downgrade(live));
        let task = async move {
            sandbox.exited().await;
            let Some(live) = live.upgrade() else { return };
            let context = &live.pool.context;
            let by = Deadline::at((Instant::now() + context.config.init_timeout).into_std());
            if live.pool.lose(live.key, by) {
                context.destroy(sandbox);
            }
        };
        self.background.spawn(task);
    }
}

/// Whether a sandbox that was to load code turned out to be dead.
pub(crate) const fn is_death(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Gone(_) | SandboxError::SpawnerGone)
}

/// What calls of a revision are told whose build failed.
fn never_built(failure: &LoadFailure) -> InitError {
    InitError {
        kind: InitErrorKind::Syntax,
        class: failure.class.clone(),
        message: failure.message.clone(),
        stack: None,
        file: failure.file.clone(),
        line: failure.line,
    }
}

fn init(target: &Target, launch: Launch, check: bool) -> Init {
    let config = &target.revision.config;
    let mut environment = config.environment.variables().clone();
    environment.insert(FUNCTION_NAME.to_owned(), target.function_name.to_string());
    Init {
        command: launch.command,
        function_name: target.function_name.to_string(),
        function_version: target.version.to_string(),
        function_id: target.revision.function.to_string(),
        handler: config.handler.to_string(),
        contract: launch.contract.to_owned(),
        memory_mb: config.limits.memory_mib(),
        timeout_ms: u64::try_from(config.limits.timeout().as_millis()).unwrap_or(u64::MAX),
        concurrency: config.limits.concurrency(),
        environment,
        code_dir: CODE_DIR.to_owned(),
        check,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn no_slot(error: &StartError, init_duration: Duration) -> NoSlot {
    match error {
        StartError::Init(InitFailure::DeadlineExceeded, _) => NoSlot::InitTimeout,
        StartError::Init(failure, logs) => {
            NoSlot::Init { failure: init_failure(failure), logs: logs.clone(), init_duration }
        }
        StartError::Sandbox(SandboxError::DeadlineExceeded) => NoSlot::Platform(RunError::NoSandboxInTime),
        StartError::Sandbox(error) => NoSlot::Platform(RunError::Sandbox(copy(error))),
        StartError::Code(text) => NoSlot::Platform(RunError::Code(text.clone().into())),
    }
}

/// One start may fail several calls, and an error cannot be cloned.
fn copy(error: &SandboxError) -> SandboxError {
    match error {
        SandboxError::AtCapacity => SandboxError::AtCapacity,
        SandboxError::DeadlineExceeded => SandboxError::DeadlineExceeded,
        SandboxError::Gone(gone) => SandboxError::Gone(*gone),
        SandboxError::Setup { step, source } => SandboxError::Setup {
            step: step.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        SandboxError::Network(text) => SandboxError::Network(text.clone()),
        SandboxError::DiedInSetup(text) => SandboxError::DiedInSetup(text.clone()),
        SandboxError::Protocol(text) => SandboxError::Protocol(text.clone()),
        SandboxError::SpawnerGone => SandboxError::SpawnerGone,
    }
}

/// What kept code from loading, with its place first where one is known: `index.js:3: Unexpected token ')'`.
fn placed(error: &InitError) -> String {
    // The class is told apart from the message.
    let (class, message) = (String::new(), error.message.clone());
    LoadFailure { class, message, file: error.file.clone(), line: error.line }.to_string()
}

/// A failed load as the function's own failure.
pub(crate) fn init_failure(failure: &InitFailure) -> Failure {
    match failure {
        InitFailure::Reported(error) => Failure {
            error_type: ErrorType::InitError,
            class: error.class.clone(),
            message: placed(error),
            stack: error.stack.clone(),
        },
        InitFailure::Exited(exit) if exit.out_of_memory => exit_failure(exit),
        InitFailure::Exited(exit) => Failure { error_type: ErrorType::InitError, ..exit_failure(exit) },
        InitFailure::DeadlineExceeded => Failure {
            error_type: ErrorType::Timeout,
            class: String::new(),
            message: "the deadline passed while the module was being loaded".to_owned(),
            stack: None,
        },
    }
}

/// A process that ended as a failure of its function.
pub(crate) fn exit_failure(exit: &Exit) -> Failure {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (Some(code), None) => format!("ended with exit code {code}"),
        (None, None) => "closed its connection".to_owned(),
    };
    let (error_type, message) = if exit.out_of_memory {
        (ErrorType::OutOfMemory, "the sandbox reached its memory limit and was killed".to_owned())
    } else {
        (ErrorType::Exited, format!("the function's process {how} before it answered"))
    };
    Failure { error_type, class: String::new(), message, stack: None }
}
