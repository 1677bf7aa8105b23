//! Creating, changing, rolling back and deleting functions.

use bytes::Bytes;
use impuls_artifacts::{ArchiveLimits, ArtifactError, validate_zip};
use impuls_domain::{
    ArtifactDigest, Built, Caller, CodeLayout, Contract, DeployStep, Function, FunctionId, FunctionName,
    FunctionState, LoadFailure, Revision, RevisionConfig, RevisionId, StateLog, VersionNumber,
};
use impuls_store::{FunctionKey, FunctionSnapshot, StoreError};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::control::{Control, authorise, micros, now, to_the_end};
use crate::error::ControlError;
use crate::input::{CODE_LIMIT, Code, FunctionChange, FunctionRef, NewFunction};
use crate::lock::FunctionGuard;
use crate::rollout::{BuildLog, RuntimeRefusal};

/// How long what was put is sure to be there although nothing names it: less than any time of grace
/// ([`crate::RetentionConfig::artifact_grace`]) that leaves room for a deploy.
const KEPT: Duration = Duration::from_secs(10);
/// How often a deploy begins again because another server deployed the same function in between.
const ATTEMPTS: usize = 4;

/// Code that the artifact store has.
#[derive(Clone, PartialEq, Eq)]
struct KeptCode {
    digest: ArtifactDigest,
    layout: CodeLayout,
    size: u64,
}

impl KeptCode {
    fn of(revision: &Revision) -> Self {
        Self { digest: revision.artifact, layout: revision.layout.clone(), size: revision.code_size }
    }
}

/// When code that nothing names yet was last put.
#[derive(Clone, Copy)]
struct Put {
    digest: ArtifactDigest,
    at: Instant,
}

impl Put {
    fn now(code: &KeptCode) -> Self {
        Self { digest: code.digest, at: Instant::now() }
    }
}

/// A revision that was built and loaded as far as that shows whether it can be called.
struct Prepared {
    revision: Revision,
    /// Why it cannot.
    failure: Option<LoadFailure>,
    /// What happened meanwhile.
    steps: Vec<(DeployStep, OffsetDateTime)>,
}

/// What a further deploy is made from.
enum Source {
    /// What is there, changed.
    Change(Box<FunctionChange>, Option<KeptCode>),
    /// An earlier version; `None` is the one before the newest.
    Version(Option<VersionNumber>),
}

impl Source {
    /// What the function is called afterwards.
    fn name(&self, current: &FunctionSnapshot) -> FunctionName {
        let renamed = match self {
            Self::Change(change, _) => change.rename.clone(),
            Self::Version(_) => None,
        };
        renamed.unwrap_or_else(|| current.function.name.clone())
    }

    /// The code that was handed in for it.
    const fn code(&self) -> Option<&KeptCode> {
        match self {
            Self::Change(_, code) => code.as_ref(),
            Self::Version(_) => None,
        }
    }

    /// Whether this is no change of what the function is now.
    fn is_overtaken(&self, current: &FunctionSnapshot) -> bool {
        let expected = match self {
            Self::Change(change, _) => change.expected,
            Self::Version(_) => None,
        };
        expected.is_some_and(|expected| expected != current.latest.id)
    }

    /// Who is told what a build writes.
    fn build_log(&self) -> &BuildLog {
        static NOBODY: BuildLog = BuildLog::nobody();
        match self {
            Self::Change(change, _) => &change.build_log,
            Self::Version(_) => &NOBODY,
        }
    }
}

impl Control {
    /// Creates a function; its code becomes version 1. Code that cannot be loaded is stored all the same, with
    /// the state `Error`. [`ControlError::NameTaken`] if the scope has a function of that name.
    pub async fn create_function(
        &self,
        caller: &Caller,
        mut new: NewFunction,
    ) -> Result<FunctionSnapshot, ControlError> {
        authorise(caller)?;
        new.runtime = self.rollout.resolve_runtime(&new.runtime)?;
        let default = self.rollout.contracts(&new.runtime).first().copied();
        new.settings.contract = new.settings.contract.or(default);
        let config = new.config(&(self.default_network)())?;
        self.check_contract(&config)?;
        let code = checked(new.code).await?;
        let key = FunctionKey::Name(new.scope.clone(), new.name.clone());
        if self.stores.functions.find_function(&key).await.map_err(ControlError::Store)?.is_some() {
            return Err(ControlError::NameTaken(new.name));
        }
        // Until calls see the function, or it has turned out that they never will.
        let _announced = self.rollout.announce(&new.name, config.limits.timeout());
        let code = self.keep(code).await?;
        let mut put = Some(Put::now(&code));
        let revision = revision(FunctionId::new(), config, code);
        let accepted = (DeployStep::Accepted, revision.created_at);
        let Prepared { revision, failure, steps } = self.prepare(&new.name, revision, &new.build_log).await?;
        let state =
            failure.map_or(FunctionState::Active, |failure| FunctionState::Error { failure, serving: false });
        let mut state_log = StateLog::default();
        state_log.extend(std::iter::once(accepted).chain(steps));
        let function = Function {
            id: revision.function,
            scope: new.scope,
            name: new.name,
            latest: revision.id,
            latest_version: VersionNumber::FIRST,
            state,
            state_log,
            created_at: revision.created_at,
            updated_at: revision.created_at,
        };
        let guard = self.locks.lock(function.id).await;
        self.renew(&mut put, &function.name).await?;
        self.commit(guard, None, FunctionSnapshot { function, latest: revision, aliases: Vec::new() }).await
    }

    /// Changes what `change` names and publishes the result as the next version. A change that changes nothing
    /// publishes nothing, unless the newest version is in state `Error`.
    pub async fn update_function(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        mut change: FunctionChange,
    ) -> Result<FunctionSnapshot, ControlError> {
        authorise(caller)?;
        let found = self.find(reference).await?;
        if let Some(runtime) = &change.runtime {
            change.runtime = Some(self.rollout.resolve_runtime(runtime)?);
        } else if let Err(refusal @ RuntimeRefusal::NoWorker) =
            self.rollout.resolve_runtime(&found.latest.config.runtime)
        {
            // Any other refusal is no news: the function has that runtime already.
            return Err(refusal.into());
        }
        let mut config = change.config(&found.latest.config)?;
        let contracts = self.rollout.contracts(&config.runtime);
        if change.runtime.is_some()
            && change.settings.contract.is_none()
            && !contracts.contains(&config.contract)
        {
            // What the language before had means nothing to this one.
            change.settings.contract = contracts.first().copied();
            config = change.config(&found.latest.config)?;
        }
        self.check_contract(&config)?;
        if change.name.as_ref().is_some_and(|name| *name != found.function.name) {
            return Err(ControlError::NameFixed(found.function.name));
        }
        let code = match change.code.take() {
            Some(code) => Some(self.keep(checked(code).await?).await?),
            None => None,
        };
        self.deploy(found.function.id, &Source::Change(Box::new(change), code)).await
    }

    /// Publishes the code and settings of an earlier version as a new version; without `to`, of the version
    /// before the newest.
    pub async fn rollback(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        to: Option<VersionNumber>,
    ) -> Result<FunctionSnapshot, ControlError> {
        authorise(caller)?;
        let found = self.find(reference).await?;
        self.deploy(found.function.id, &Source::Version(to)).await
    }

    /// Deletes a function with its versions, aliases and records, and returns it as it was.
    pub async fn delete_function(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
    ) -> Result<Function, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let guard = self.locks.lock(function.id).await;
        let (store, rollout, id) = (self.stores.functions.clone(), self.rollout.clone(), function.id);
        let existed = to_the_end(async move {
            let _guard = guard;
            let existed = store.delete_function(id).await.map_err(ControlError::Store)?;
            rollout.remove(id).await;
            Ok(existed)
        })
        .await?;
        if existed { Ok(function) } else { Err(reference.not_found()) }
    }

    async fn deploy(&self, id: FunctionId, source: &Source) -> Result<FunctionSnapshot, ControlError> {
        let mut put = source.code().map(Put::now);
        let guard = self.locks.lock(id).await;
        let mut announced = None;
        for _ in 0..ATTEMPTS {
            let current = self.find(&id.into()).await?;
            if source.is_overtaken(&current) {
                return Err(ControlError::Contended(current.function.name));
            }
            if !current.function.state.is_serving() {
                let timeout = current.latest.config.limits.timeout();
                announced = Some(self.rollout.announce(&current.function.name, timeout));
            }
            // Deploys that wait long, and long builds, must not find their code collected as nobody's.
            self.renew(&mut put, &current.function.name).await?;
            let (config, code) = self.plan(&current, source).await?;
            let same = source.name(&current) == current.function.name && is_same(&current, &config, &code);
            if matches!(source, Source::Change(..)) && same {
                return Ok(current);
            }
            let next = self.succeed(&current, revision(id, config, code), source).await?;
            self.renew(&mut put, &current.function.name).await?;
            match self.commit(guard.clone(), Some(current.function), next).await {
                Err(ControlError::Store(StoreError::Conflict)) => {}
                settled => return settled,
            }
        }
        drop(announced);
        Err(ControlError::Contended(self.find(&id.into()).await?.function.name))
    }

    fn check_contract(&self, config: &RevisionConfig) -> Result<(), ControlError> {
        let supported = self.rollout.contracts(&config.runtime);
        if !supported.contains(&config.contract) {
            let (runtime, contract) = (config.runtime.clone(), config.contract);
            return Err(RuntimeRefusal::Contract { runtime, contract, supported }.into());
        }
        if config.contract == Contract::Command && config.command.words().is_empty() {
            return Err(ControlError::NoCommand);
        }
        Ok(())
    }

    async fn plan(
        &self,
        current: &FunctionSnapshot,
        source: &Source,
    ) -> Result<(RevisionConfig, KeptCode), ControlError> {
        let now = &current.latest;
        match source {
            Source::Change(change, code) => {
                Ok((change.config(&now.config)?, code.clone().unwrap_or_else(|| KeptCode::of(now))))
            }
            Source::Version(to) => {
                let then = self.earlier(&current.function, *to).await?;
                let runtime = self.rollout.resolve_runtime(&then.config.runtime)?;
                let code = KeptCode::of(&then);
                Ok((RevisionConfig { runtime, ..then.config }, code))
            }
        }
    }

    async fn earlier(
        &self,
        function: &Function,
        to: Option<VersionNumber>,
    ) -> Result<Revision, ControlError> {
        if let Some(number) = to {
            return Ok(self.version(function, number).await?.revision);
        }
        let newest = Some(function.latest_version);
        let page = self.stores.versions.list_versions(function.id, newest, 1).await;
        let previous = page.map_err(ControlError::Store)?.into_iter().next();
        let nothing = || ControlError::NothingToRollBack(function.name.clone());
        Ok(previous.ok_or_else(nothing)?.revision)
    }

    /// Builds and loads a revision as far as that shows whether it can be called, and says why not.
    async fn prepare(
        &self,
        name: &FunctionName,
        revision: Revision,
        log: &BuildLog,
    ) -> Result<Prepared, ControlError> {
        let built = self.rollout.build(name, &revision, log).await?;
        let revision = Revision { built, ..revision };
        let mut steps = Vec::new();
        let failure = match &revision.built {
            Built::Failed(failure) => Some(failure.clone()),
            Built::AsIs | Built::Archive(_) => {
                let starting = now();
                steps.push((DeployStep::Starting, starting));
                let checked = self.rollout.check(name, &revision).await;
                let loading = checked.sandbox_after.map(|after| micros(starting + after));
                steps.extend(loading.map(|at| (DeployStep::Loading, at)));
                checked.failure
            }
        };
        let end = if failure.is_some() { DeployStep::Failed } else { DeployStep::Ready };
        steps.push((end, now()));
        Ok(Prepared { revision, failure, steps })
    }

    /// What `current` becomes. Code that cannot be called does not replace code that can.
    async fn succeed(
        &self,
        current: &FunctionSnapshot,
        next: Revision,
        source: &Source,
    ) -> Result<FunctionSnapshot, ControlError> {
        let name = source.name(current);
        let Prepared { revision: latest, failure, steps } =
            self.prepare(&name, next, source.build_log()).await?;
        let mut state_log = current.function.state_log.clone();
        state_log.extend(steps);
        let updated_at = latest.created_at;
        let was_serving = current.function.state.is_serving();
        let (latest, latest_version) = match &failure {
            Some(_) if was_serving => (current.latest.clone(), current.function.latest_version),
            _ => (latest, current.function.latest_version.next()),
        };
        let state = match failure {
            Some(failure) => FunctionState::Error { failure, serving: was_serving },
            None => FunctionState::Active,
        };
        let function = Function {
            latest: latest.id,
            latest_version,
            state,
            state_log,
            name,
            updated_at,
            ..current.function.clone()
        };
        Ok(FunctionSnapshot { function, latest, aliases: current.aliases.clone() })
    }

    /// Writes the store (over `expected`, or as a new function) and switches calls over.
    async fn commit(
        &self,
        guard: FunctionGuard,
        expected: Option<Function>,
        next: FunctionSnapshot,
    ) -> Result<FunctionSnapshot, ControlError> {
        let (store, rollout) = (self.stores.functions.clone(), self.rollout.clone());
        to_the_end(async move {
            let _guard = guard;
            let FunctionSnapshot { function, latest, .. } = &next;
            let written = match &expected {
                None => store.create_function(function, latest).await,
                Some(expected) => store.deploy_revision(expected, function, latest).await,
            };
            written.map_err(|error| refusal(error, &function.name))?;
            rollout.activate(&next).await;
            Ok(next)
        })
        .await
    }

    async fn keep(&self, (layout, bytes): (CodeLayout, Bytes)) -> Result<KeptCode, ControlError> {
        let size = bytes.len() as u64;
        let digest = self.artifacts.put(bytes).await?;
        Ok(KeptCode { digest, layout, size })
    }
}

impl Control {
    /// Puts code again that was put a while ago. [`ControlError::Contended`] if it is gone already.
    async fn renew(&self, put: &mut Option<Put>, name: &FunctionName) -> Result<(), ControlError> {
        let Some(put) = put.as_mut().filter(|put| put.at.elapsed() >= KEPT) else { return Ok(()) };
        let bytes = match self.artifacts.get(&put.digest).await {
            Err(ArtifactError::NotFound(_)) => return Err(ControlError::Contended(name.clone())),
            found => found?,
        };
        self.artifacts.put(bytes).await?;
        put.at = Instant::now();
        Ok(())
    }
}

fn refusal(error: StoreError, name: &FunctionName) -> ControlError {
    match error {
        StoreError::NameTaken => ControlError::NameTaken(name.clone()),
        StoreError::NotFound => ControlError::FunctionNotFound(name.to_string()),
        other @ (StoreError::Conflict
        | StoreError::Full
        | StoreError::Backend { .. }
        | StoreError::Damaged(_)) => ControlError::Store(other),
    }
}

fn is_same(current: &FunctionSnapshot, config: &RevisionConfig, code: &KeptCode) -> bool {
    current.function.state == FunctionState::Active
        && current.latest.config == *config
        && KeptCode::of(&current.latest) == *code
}

fn revision(function: FunctionId, config: RevisionConfig, code: KeptCode) -> Revision {
    Revision {
        id: RevisionId::new(),
        function,
        artifact: code.digest,
        layout: code.layout,
        code_size: code.size,
        built: Built::AsIs,
        config,
        created_at: now(),
    }
}

/// Code that may be kept: neither empty nor too large, and an archive that can be unpacked.
async fn checked(code: Code) -> Result<(CodeLayout, Bytes), ControlError> {
    let (layout, bytes) = code.into_bytes();
    if bytes.is_empty() {
        return Err(ControlError::CodeEmpty);
    }
    if bytes.len() > CODE_LIMIT {
        return Err(ControlError::CodeTooLarge { bytes: bytes.len(), limit: CODE_LIMIT });
    }
    if layout == CodeLayout::Zip {
        let archive = bytes.clone();
        let validated =
            tokio::task::spawn_blocking(move || validate_zip(&archive, &ArchiveLimits::default()));
        validated.await.map_err(|_| ControlError::Stopping)??;
    }
    Ok((layout, bytes))
}
