//! The executor: a worker of its own, and a folder that goes with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use impuls_artifacts::{CodeFolders, LocalArtifacts};
use impuls_dispatch::execute::{ARGUMENTS_LIMIT, STDIN_LIMIT};
use impuls_dispatch::image::runs_locally;
use impuls_dispatch::{ExecuteRequest, Executed, Worker as _};
use impuls_domain::{Deadline, DriverChoice, Environment, Limits};
use impuls_runtimes::{Catalogue, SearchPath};
use impuls_sandbox::SandboxDriver as _;
use impuls_sandbox_process::ProcessDriver;
use impuls_worker::{BuildSettings, Drivers, LocalWorker, Parts};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{InvocationResult, Options, SandboxConfig};
use crate::error::ExecutorError;
use crate::program;

/// Whoever can run a command in a sandbox.
#[async_trait]
pub trait SandboxExecutor: Send + Sync {
    /// Runs one command in a sandbox of its own and waits for its end. Dropping the future kills it. `Err` means that
    /// it did not run; a command that failed is a result with an error text.
    async fn execute(&self, config: SandboxConfig) -> Result<InvocationResult, ExecutorError>;
}

/// Runs commands in process sandboxes. Dropped, it ends its sandboxes and the process that makes them;
/// [`ProcessExecutor::shutdown`] also waits for that.
pub struct ProcessExecutor {
    worker: Arc<LocalWorker>,
    driver: Arc<ProcessDriver>,
    keeping: JoinHandle<()>,
    limits: Limits,
    options: Options,
    running: Semaphore,
    _folder: TempDir,
}

impl std::fmt::Debug for ProcessExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessExecutor").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ProcessExecutor {
    /// Starts the process that makes sandboxes. To be called in a tokio runtime, which must live as long as the
    /// executor. Fails where sandboxes cannot be isolated as usual, unless [`Options::allow_weaker_isolation`].
    pub async fn start(options: Options) -> Result<Self, ExecutorError> {
        let helper = program::find(options.helper.clone())?;
        let limits =
            Limits::default().with_memory_mib(options.memory_mib)?.with_milli_vcpu(options.milli_vcpu)?;
        let folder =
            tempfile::Builder::new().prefix("impuls-embed-").tempdir().map_err(ExecutorError::Folder)?;
        let driver = ProcessDriver::start(impuls_sandbox_process::Config {
            run_dir: folder.path().join("run"),
            exe: helper.clone(),
            allow_weaker: options.allow_weaker_isolation,
            network: impuls_sandbox_process::NetworkConfig::default(),
        });
        let driver = driver.await.map_err(ExecutorError::Setup)?;
        driver.reap_orphans().await.map_err(ExecutorError::Setup)?;
        let (artifacts, folders) = folders(folder.path())?;
        let worker = LocalWorker::new(
            impuls_worker::Config { prewarm: options.prewarm, ..impuls_worker::Config::default() },
            Parts {
                drivers: Drivers::one(DriverChoice::Process, driver.clone()),
                catalogue: Arc::new(catalogue(&helper)),
                folders: Arc::new(folders),
                artifacts,
                builds: BuildSettings::default(),
                background: tokio::runtime::Handle::current(),
            },
        );
        let keeping = tokio::spawn(worker.clone().run(Vec::new));
        let running = Semaphore::new(options.max_concurrency.max(1));
        Ok(Self { worker, driver, keeping, limits, options, running, _folder: folder })
    }

    /// Ends every sandbox, commands that run included, and waits until all of it is gone.
    pub async fn shutdown(&self) {
        self.running.close();
        self.keeping.abort();
        self.worker.shut_down().await;
        self.driver.shutdown().await;
    }

    fn request(&self, config: SandboxConfig) -> Result<ExecuteRequest, ExecutorError> {
        if !runs_locally(&config.source) {
            return Err(ExecutorError::Image(config.source));
        }
        if config.command.first().is_none_or(String::is_empty) {
            return Err(ExecutorError::NoProgram(config.function_id));
        }
        let arguments = config.command.iter().map(|part| part.len() + 1).sum::<usize>();
        within("the command", arguments, ARGUMENTS_LIMIT)?;
        within("the payload", config.payload.len(), STDIN_LIMIT)?;
        Ok(ExecuteRequest {
            argv: config.command,
            environment: environment(config.env_vars.unwrap_or_default())?,
            stdin: config.payload.into(),
            working_dir: None,
            limits: self.limits.clone(),
            deadline: Deadline::at((Instant::now() + self.options.timeout).into_std()),
            on_output: None,
        })
    }
}

impl Drop for ProcessExecutor {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

#[async_trait]
impl SandboxExecutor for ProcessExecutor {
    async fn execute(&self, config: SandboxConfig) -> Result<InvocationResult, ExecutorError> {
        let _permit = self.running.acquire().await.map_err(|_| ExecutorError::ShutDown)?;
        let request = self.request(config)?;
        Ok(result(self.worker.execute(request).await?))
    }
}

fn result(executed: Executed) -> InvocationResult {
    let error = executed.failure();
    let logs = String::from_utf8_lossy(&executed.stderr).into_owned();
    InvocationResult {
        request_id: Uuid::now_v7().to_string(),
        response: error.is_none().then(|| executed.stdout.to_vec()),
        logs: Some(logs).filter(|logs| !logs.is_empty()),
        error,
        exit_code: executed.exit_code,
        stdout: executed.stdout.to_vec(),
    }
}

fn environment(entries: Vec<String>) -> Result<Environment, ExecutorError> {
    let pair = |entry: String| match entry.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(ExecutorError::Variable(entry)),
    };
    let variables = entries.into_iter().map(pair).collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Environment::new(variables)?)
}

fn within(what: &'static str, bytes: usize, limit: usize) -> Result<(), ExecutorError> {
    if bytes > limit { Err(ExecutorError::TooLarge { what, limit }) } else { Ok(()) }
}

/// The one runtime that commands need.
fn catalogue(helper: &Path) -> Catalogue {
    Catalogue::commands_only(&SearchPath { agent: helper.to_owned(), ..SearchPath::default() })
}

fn folders(folder: &Path) -> Result<(Arc<LocalArtifacts>, CodeFolders), ExecutorError> {
    let artifacts = Arc::new(LocalArtifacts::open(&folder.join("artifacts"))?);
    Ok((artifacts.clone(), CodeFolders::open(folder.join("code"), artifacts)?))
}
