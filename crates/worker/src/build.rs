//! Builds of functions' source: each in a sandbox of its own with limits of its own, from which one archive comes out.
//! What was built is found again by its key; keeping that is the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use impuls_artifacts::{
    ArchiveLimits, ArtifactError, ArtifactStore, FolderLayout, digest_of, read_zip, validate_zip, zip_files,
};
use impuls_dispatch::{OnOutput, OutputStream, RunError};
use impuls_domain::{
    AllowEntry, Allowlist, ArtifactDigest, Built, CodeLayout, Deadline, LoadFailure, LogLevel, Logs,
    NetworkPolicy, Revision,
};
use impuls_runtimes::build::{Build, Inputs, Source};
use impuls_sandbox::{
    Assignment, BindMount, Exit, Init, LossReason, Lost, Part, RuntimeImage, SandboxError, SandboxLimits,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::local::LocalWorker;
use crate::room::Room;
use crate::start::{CODE_DIR, StartContext, unassigned};

/// What the sandboxes of builds are called where a function has its name, and how the agent knows them.
const BUILD: &str = "build";
/// The most bytes of output that are kept to say why a build failed: its end, where compilers say it.
const TAIL: usize = 64 * 1024;

/// Bounds of builds.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// Memory of one build, what it writes included, in MiB. Default 2048.
    pub memory_mib: u32,
    /// Processor share of one build, in thousandths of a core. Default 2000.
    pub milli_vcpu: u32,
    /// Processes and threads of one build. Default 1024.
    pub pids: u32,
    /// How long one build may take. Default 10 minutes.
    pub timeout: Duration,
    /// Builds at once; more wait. Default 2.
    pub at_once: usize,
    /// Variables that every build gets: where packages come from, for example.
    pub environment: BTreeMap<String, String>,
    /// What builds that fetch something may reach besides every public address: entries of a list
    /// ([`impuls_domain::Allowlist`]), at most 62.
    pub allow: Vec<AllowEntry>,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            milli_vcpu: 2000,
            pids: 1024,
            timeout: Duration::from_secs(600),
            at_once: 2,
            environment: BTreeMap::new(),
            allow: Vec::new(),
        }
    }
}

impl BuildSettings {
    /// The network of a build's sandbox.
    fn network(&self, build: &Build) -> NetworkPolicy {
        if !build.network {
            return NetworkPolicy::Off;
        }
        let public = ["*", "0.0.0.0/0"].map(str::to_owned).into_iter();
        let entries = public.chain(self.allow.iter().map(ToString::to_string));
        match Allowlist::new(entries) {
            Ok(list) if !self.allow.is_empty() => NetworkPolicy::Allow(list),
            _ => NetworkPolicy::Egress,
        }
    }
}

/// What builds share.
pub(crate) struct Builder {
    settings: BuildSettings,
    artifacts: Arc<dyn ArtifactStore>,
    permits: Semaphore,
}

impl Builder {
    pub(crate) fn new(settings: BuildSettings, artifacts: Arc<dyn ArtifactStore>) -> Self {
        let permits = Semaphore::new(settings.at_once);
        Self { settings, artifacts, permits }
    }
}

/// A build that may have to be made.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// The digest of everything that decides what comes out.
    pub key: ArtifactDigest,
    /// What it needs prepared, which is itself the archive of a build.
    pub seed: Option<Box<Self>>,
    build: Build,
    /// The source; `None` for a build out of nothing.
    source: Option<(ArtifactDigest, FolderLayout)>,
}

/// What has to be done to source before it can run.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Nothing.
    Nothing,
    /// A build.
    Build(Box<BuildPlan>),
    /// What this machine cannot do, and why.
    Impossible(LoadFailure),
}

/// What the agent is told.
#[derive(Serialize)]
struct Order<'a> {
    files: &'a BTreeMap<String, String>,
    steps: &'a [Vec<String>],
    env: BTreeMap<&'a str, &'a str>,
    output: &'a str,
    packed_limit: u64,
}

/// What the agent answers.
#[derive(Deserialize)]
struct Answer {
    failed_step: Option<usize>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    refused: Option<String>,
}

/// Everything that decides what comes out of a build, in one order.
#[derive(Serialize)]
struct KeyParts<'a> {
    recipe: &'a str,
    image: &'a str,
    files: &'a BTreeMap<String, String>,
    steps: &'a [Vec<String>],
    environment: &'a BTreeMap<String, String>,
    /// The operator's variables: another index may have another package of the same name and version.
    settings: &'a BTreeMap<String, String>,
    output: &'a str,
    /// Digests of the source or of its parts, with their names.
    inputs: Vec<(String, String)>,
    seed: Option<String>,
}

impl LocalWorker {
    /// How a revision's source is built.
    pub async fn plan_build(&self, revision: &Revision) -> Result<Planned, RunError> {
        let catalogue = &self.context.catalogue;
        let layout = self.context.source_layout(revision);
        let (files, manifests, bytes) = match revision.layout {
            CodeLayout::SingleFile => {
                let FolderLayout::SingleFile { names } = &layout else { return Ok(Planned::Nothing) };
                (names.clone(), BTreeMap::new(), None)
            }
            CodeLayout::Zip => {
                let bytes = self.builder.artifacts.get(&revision.artifact).await.map_err(code)?;
                let names: Vec<String> = catalogue
                    .manifests(&revision.config.runtime)
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect();
                let archive = bytes.clone();
                let (files, manifests) = blocking(move || contents(&archive, &names)).await?;
                (files, manifests, Some(bytes))
            }
        };
        let source = Source { config: &revision.config, files: &files, manifests: &manifests };
        if let Some(missing) = catalogue.lacks(&source) {
            return Ok(Planned::Impossible(failure(missing)));
        }
        let Some(build) = catalogue.build(&source) else { return Ok(Planned::Nothing) };
        let (inputs, layout) = match (&build.inputs, bytes) {
            (Inputs::Files(names), Some(bytes)) => {
                let names = names.clone();
                let layout = FolderLayout::Some { names: names.clone() };
                (blocking(move || digests(&bytes, &names)).await?, layout)
            }
            _ => (vec![(files.join("\0"), revision.artifact.to_string())], layout),
        };
        let mut plan = BuildPlan::new(build, inputs, &self.builder.settings.environment);
        plan.source = Some((revision.artifact, layout));
        Ok(Planned::Build(Box::new(plan)))
    }

    /// Makes a build, with what its seed came to. [`Built::Failed`] is the source's fault; `Err` is not. Output goes to
    /// `log` while it runs. Dropped half-way, it ends.
    pub async fn build(
        &self,
        plan: &BuildPlan,
        seed: Option<&ArtifactDigest>,
        log: &OnOutput,
    ) -> Result<Built, RunError> {
        let builder = &self.builder;
        let Ok(_permit) = builder.permits.acquire().await else { return Err(RunError::NoSandboxInTime) };
        let by = Deadline::at((Instant::now() + builder.settings.timeout).into_std());
        let context = &self.context;
        let mut image = RuntimeImage::clone(&plan.build.image);
        image.tmp_mib = builder.settings.memory_mib;
        // Folders stay for as long as they are held here.
        let _prepared = match (&plan.build.seed, seed) {
            (Some(seed), Some(digest)) => {
                let prepared = context.folders.folder(digest, &FolderLayout::Zip).await.map_err(code)?;
                let host = prepared.path().to_owned();
                image.mounts.push(BindMount { host, guest: seed.guest.clone() });
                Some(prepared)
            }
            _ => None,
        };
        let source = match &plan.source {
            Some((digest, layout)) => Some(context.folders.folder(digest, layout).await.map_err(code)?),
            None => None,
        };
        let folder = match &source {
            Some(source) => source.path().to_owned(),
            None => context.folders.empty().await.map_err(code)?,
        };
        let room = context.build_room(image, &builder.settings, by).await?;
        let assignment = Assignment {
            code: folder,
            limits: limits(&builder.settings),
            network: builder.settings.network(&plan.build),
            init: init(&room, &builder.settings),
        };
        let order = plan.order(&builder.settings, seed.is_some());
        let order = serde_json::to_vec(&order).map_err(|error| RunError::Code(error.into()))?;
        let (_connection, waiting) = room.call(assignment, &order, by).await?;
        let mut output = BuildOutput::new(log);
        while let Some(part) = waiting.next_part().await {
            output.add(part)?;
        }
        let answer = match waiting.await {
            Ok(reply) => {
                output.add(Part::Logs(reply.logs))?;
                reply.result.map_err(|error| protocol(error.message))?
            }
            Err(Lost { reason, logs }) => {
                output.add(Part::Logs(logs))?;
                let exit = room.killed().await;
                return Ok(Built::Failed(output.lost(reason, exit, &builder.settings)));
            }
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| protocol(error.to_string()))?;
        if let Some(failure) = answer.failure(&plan.build, &output.tail) {
            return Ok(Built::Failed(failure));
        }
        self.keep(output.archive.freeze()).await
    }

    /// Keeps an archive that passes every check of one that somebody uploads.
    async fn keep(&self, archive: Bytes) -> Result<Built, RunError> {
        let checked = archive.clone();
        let checked =
            tokio::task::spawn_blocking(move || validate_zip(&checked, &ArchiveLimits::default())).await;
        match checked.map_err(|error| RunError::Code(error.into()))? {
            Ok(()) => self.builder.artifacts.put(archive).await.map(Built::Archive).map_err(code),
            Err(error) => Ok(Built::Failed(failure(format!("what the build made cannot be kept: {error}")))),
        }
    }
}

impl BuildPlan {
    /// A plan without a source.
    fn new(build: Build, inputs: Vec<(String, String)>, settings: &BTreeMap<String, String>) -> Self {
        let seed = build.seed.as_ref().map(|seed| {
            let inputs = vec![("name".to_owned(), seed.name.clone())];
            Box::new(Self::new((*seed.build).clone(), inputs, settings))
        });
        let parts = KeyParts {
            recipe: &build.recipe,
            image: build.image.name.as_str(),
            files: &build.files,
            steps: &build.steps,
            environment: &build.environment,
            settings,
            output: &build.output,
            inputs,
            seed: seed.as_ref().map(|seed| seed.key.to_string()),
        };
        // A structure of texts.
        let key = digest_of(&serde_json::to_vec(&parts).unwrap_or_default());
        Self { key, seed, build, source: None }
    }

    fn order<'a>(&'a self, settings: &'a BuildSettings, has_seed: bool) -> Order<'a> {
        let without = self.build.seed.iter().filter(|_| !has_seed).flat_map(|seed| &seed.without);
        // The operator's come last and so replace those of the language.
        let variables = self.build.environment.iter().chain(without).chain(&settings.environment);
        Order {
            files: &self.build.files,
            steps: &self.build.steps,
            env: variables.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            output: &self.build.output,
            packed_limit: ArchiveLimits::default().packed_bytes,
        }
    }
}

impl StartContext {
    async fn build_room(
        self: &Arc<Self>,
        image: RuntimeImage,
        settings: &BuildSettings,
        by: Deadline,
    ) -> Result<Room, SandboxError> {
        let image = Arc::new(image);
        let sandbox = self.create(&self.drivers.builds, unassigned(&image, limits(settings)), by).await?;
        Ok(Room { context: self.clone(), sandbox, prewarmed: false })
    }
}

fn limits(settings: &BuildSettings) -> SandboxLimits {
    SandboxLimits { memory_mib: settings.memory_mib, milli_vcpu: settings.milli_vcpu, pids: settings.pids }
}

fn init(room: &Room, settings: &BuildSettings) -> Init {
    Init {
        function_name: BUILD.to_owned(),
        function_version: "1".to_owned(),
        function_id: room.sandbox.id().to_string(),
        handler: BUILD.to_owned(),
        contract: BUILD.to_owned(),
        memory_mb: settings.memory_mib,
        timeout_ms: 0,
        concurrency: 1,
        environment: BTreeMap::new(),
        code_dir: CODE_DIR.to_owned(),
        check: false,
        command: Vec::new(),
    }
}

impl Answer {
    fn failure(&self, build: &Build, tail: &str) -> Option<LoadFailure> {
        if let Some(refused) = &self.refused {
            return Some(failure(refused.clone()));
        }
        self.failed_step?;
        if tail.trim().is_empty() {
            let how = match (self.exit_code, self.signal) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            };
            return Some(failure(format!("the build ended with {how} and said nothing")));
        }
        Some(build.diagnose(tail))
    }
}

fn failure(message: String) -> LoadFailure {
    LoadFailure { class: "BuildError".to_owned(), message, file: None, line: None }
}

/// What comes out of a build while it runs.
struct BuildOutput<'a> {
    log: &'a OnOutput,
    tail: String,
    archive: BytesMut,
}

impl<'a> BuildOutput<'a> {
    fn new(log: &'a OnOutput) -> Self {
        Self { log, tail: String::new(), archive: BytesMut::new() }
    }

    fn add(&mut self, part: Part) -> Result<(), RunError> {
        match part {
            Part::Logs(logs) => self.add_logs(&logs),
            Part::Chunk(chunk) => {
                if (self.archive.len() + chunk.len()) as u64 > ArchiveLimits::default().packed_bytes {
                    return Err(protocol("a build sent more than it was allowed to".to_owned()));
                }
                self.archive.extend_from_slice(&chunk);
            }
        }
        Ok(())
    }

    fn add_logs(&mut self, logs: &Logs) {
        for line in logs.lines() {
            let stream = match line.level {
                LogLevel::Stdout => OutputStream::Stdout,
                LogLevel::Stderr | LogLevel::Debug | LogLevel::Info | LogLevel::Warn | LogLevel::Error => {
                    OutputStream::Stderr
                }
            };
            self.log.call(stream, &line.text);
            self.tail.push_str(&line.text);
        }
        if self.tail.len() > 2 * TAIL {
            let from = self.tail.ceil_char_boundary(self.tail.len() - TAIL);
            self.tail.drain(..from);
        }
    }

    fn lost(&self, reason: LossReason, exit: Exit, settings: &BuildSettings) -> LoadFailure {
        let why = if reason == LossReason::DeadlinePassed {
            format!("the build took longer than {} s", settings.timeout.as_secs())
        } else if exit.out_of_memory {
            format!("the build needed more than {} MiB of memory", settings.memory_mib)
        } else {
            "the build's sandbox ended".to_owned()
        };
        failure(if self.tail.is_empty() { why } else { format!("{why}; it had written:\n{}", self.tail) })
    }
}

/// Names of the files of an archive, and the texts of those that are wanted.
fn contents(
    archive: &Bytes,
    wanted: &[String],
) -> Result<(Vec<String>, BTreeMap<String, String>), ArtifactError> {
    let limits = ArchiveLimits::default();
    let files = zip_files(archive, &limits)?;
    let texts = read_zip(archive, wanted, &limits)?.into_iter();
    let text = |(name, bytes): (String, Vec<u8>)| (name, String::from_utf8_lossy(&bytes).into_owned());
    Ok((files, texts.map(text).collect()))
}

/// The names and digests of some files of an archive.
fn digests(archive: &Bytes, names: &[String]) -> Result<Vec<(String, String)>, ArtifactError> {
    let files = read_zip(archive, names, &ArchiveLimits::default())?.into_iter();
    Ok(files.map(|(name, bytes)| (name, digest_of(&bytes).to_string())).collect())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, RunError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RunError::Code(error.into()))?.map_err(code)
}

fn code(error: ArtifactError) -> RunError {
    RunError::Code(error.into())
}

fn protocol(text: String) -> RunError {
    RunError::Sandbox(SandboxError::Protocol(text))
}

#[cfg(test)]
mod tests;
