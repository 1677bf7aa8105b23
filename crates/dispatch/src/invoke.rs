//! The one way to run a function.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use impuls_domain::limits::{PAYLOAD_LIMIT, TIMEOUT_MS};
use impuls_domain::{
    Built, Caller, Contract, Deadline, ErrorType, Excerpt, Exchange, Failure, FunctionId, FunctionName,
    Invocation, InvocationId, InvocationStatus, Logs, Outcome, Qualifier, Revision, RevisionId, Usage,
    VersionNumber,
};
use impuls_queue::{EmbeddedQueue, InvocationQueue};
use impuls_sandbox::SandboxError;
use impuls_store::{AsyncInvocationStore, ClockStore, FunctionSnapshot, VersionStore};
use tokio::sync::Notify;

use crate::admission::{Admission, AdmissionConfig};
use crate::clock::Clock;
use crate::coming::{Announcement, Coming};
use crate::delivery::Held;
use crate::duplex::Duplex;
use crate::error::DispatchError;
use crate::execute::ExecutionConfig;
use crate::recorder::Recorder;
use crate::table::{Entry, Resolved, Table};
use crate::waiting::Waiters;
use crate::worker::{RunError, RunRequest, Target, Worker};

/// Functions of which delivery knows how many they let run at once; of others it finds out at their admission.
const NARROW: usize = 1_000;

/// Offers that are taken at once by who only passes the word.
const OFFERED: usize = 1_024;

/// Bounds of dispatch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Bounds of every function.
    pub admission: AdmissionConfig,
    /// Bounds of all one-off commands together.
    pub executions: ExecutionConfig,
    /// How often who waits for an asynchronous invocation looks whether another server has ended it. Default `None`: the store
    /// is this server's alone.
    pub look_again: Option<Duration>,
}

/// A function as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionRef<'a> {
    /// A UUID is an id, anything else a name of the native scope, or of the newest function that has it elsewhere.
    Text(&'a str),
    /// Its id.
    Id(FunctionId),
}

/// One call.
#[derive(Debug)]
pub struct InvokeRequest<'a> {
    /// Which function.
    pub function: FunctionRef<'a>,
    /// Which revision of it.
    pub qualifier: Qualifier,
    /// The event, opaque; empty means `null`.
    pub event: Bytes,
    /// What is not as usual.
    pub options: InvokeOptions,
}

/// What a call may bring besides its event.
#[derive(Clone, Debug, Default)]
pub struct InvokeOptions {
    /// The request id; a new one if `None`.
    pub id: Option<InvocationId>,
    /// Whether the function's log already has a record under that id, of an earlier attempt; this one gets an id of its own there.
    pub is_retry: bool,
    /// A timeout instead of the function's, at most the longest that a function may have.
    pub timeout: Option<Duration>,
    /// What else the function is told, as a JSON object; empty for nothing. The member `headers` reaches programs as
    /// `FUNCTION_HEADERS`.
    pub context: Bytes,
    /// Whether event and response are kept with the record, up to a bound. An asynchronous call keeps both anyway.
    pub keep_exchange: bool,
    /// Whether to measure what the call uses, where it has processes of its own (contracts `program` and `command`).
    /// That costs some 0.1 ms.
    pub measure: bool,
}

/// What became of a call.
#[derive(Debug)]
pub struct Invoked {
    /// The request id that the function saw.
    pub id: InvocationId,
    /// The version that ran.
    pub version: VersionNumber,
    /// How it ended.
    pub outcome: Outcome<Bytes>,
}

/// What a call of a function would run: found by [`Dispatch::callee`], called by [`Dispatch::call`].
pub struct Callee {
    entry: Arc<Entry>,
    target: Arc<Target>,
    /// How long the call has waited for the function's deploy, which counts towards its timeout.
    waited: Duration,
}

impl Callee {
    /// How its code is called.
    #[must_use]
    pub fn contract(&self) -> Contract {
        self.target.revision.config.contract
    }
}

/// From a request to an outcome; see the crate's documentation.
pub struct Dispatch {
    table: Table,
    coming: Arc<Coming>,
    pub(crate) worker: Arc<dyn Worker>,
    pub(crate) executions: Arc<Admission>,
    pub(crate) queue: Arc<dyn AsyncInvocationStore>,
    /// What tells servers which rows to look at.
    pub(crate) offers: Arc<dyn InvocationQueue>,
    /// There are rows that nobody offers.
    pub(crate) passed_over: Notify,
    /// The attempts of asynchronous invocations that this server holds.
    pub(crate) held: Held,
    pub(crate) waiters: Waiters,
    /// What asynchronous invocations go by.
    pub(crate) clock: Clock,
    pub(crate) look_again: Option<Duration>,
    versions: Arc<dyn VersionStore>,
    recorder: Recorder,
    in_flight: AtomicUsize,
    stopping: AtomicBool,
    idle: Notify,
    random: RandomState,
}

impl Dispatch {
    /// A dispatch without functions.
    #[must_use]
    pub fn new(
        config: Config,
        worker: Arc<dyn Worker>,
        versions: Arc<dyn VersionStore>,
        queue: Arc<dyn AsyncInvocationStore>,
        recorder: Recorder,
    ) -> Self {
        Self {
            table: Table::new(config.admission),
            coming: Arc::default(),
            worker,
            executions: Admission::new(config.executions.into(), None),
            look_again: config.look_again,
            queue,
            offers: Arc::new(EmbeddedQueue::default()),
            passed_over: Notify::new(),
            held: Held::default(),
            waiters: Waiters::default(),
            clock: Clock::default(),
            versions,
            recorder,
            in_flight: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            idle: Notify::new(),
            random: RandomState::new(),
        }
    }

    /// Tells of accepted invocations through this queue; through one in memory without it.
    #[must_use]
    pub fn with_queue(self, offers: Arc<dyn InvocationQueue>) -> Self {
        Self { offers, ..self }
    }

    /// Goes by the clock of this store, once it has been read ([`Dispatch::read_clock`]); by this machine's without it.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn ClockStore>) -> Self {
        Self { clock: Clock::of(clock), ..self }
    }

    /// Functions that let fewer calls run at once than delivery gives one, and how many; some of them if there are very many.
    pub(crate) fn narrow_functions(&self) -> HashMap<FunctionId, u32> {
        self.table.narrow(NARROW)
    }

    /// Makes calls see this state of a function.
    pub fn put_function(&self, snapshot: &FunctionSnapshot) {
        self.table.put(snapshot);
    }

    /// Makes a function uncallable and returns the revisions that calls may have used. Calls in flight go on.
    pub fn remove_function(&self, id: FunctionId) -> Vec<RevisionId> {
        self.table.remove(id).map(|entry| entry.revisions()).unwrap_or_default()
    }

    /// What calls of the newest revision run; `None` if there is no such function.
    #[must_use]
    pub fn latest(&self, id: FunctionId) -> Option<Arc<Target>> {
        self.table.by_id(id).map(|entry| entry.latest())
    }

    /// Whether some alias of the function sends calls to this version.
    #[must_use]
    pub fn is_aliased(&self, id: FunctionId, version: VersionNumber) -> bool {
        self.table.by_id(id).is_some_and(|entry| entry.is_aliased(version))
    }

    /// The newest target of every function, for keeping sandboxes warm.
    #[must_use]
    pub fn latest_targets(&self) -> Vec<Arc<Target>> {
        self.table.entries().iter().map(|entry| entry.latest()).collect()
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether new calls are refused.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// A number that nobody can foresee.
    pub(crate) fn random(&self) -> u64 {
        self.random.hash_one(InvocationId::new())
    }

    /// The name of a function that can be called.
    #[must_use]
    pub fn function_name(&self, id: FunctionId) -> Option<FunctionName> {
        self.table.by_id(id).map(|entry| entry.latest().function_name.clone())
    }

    /// Waits until asynchronous invocations were accepted here, and takes what is offered of them; for who has them
    /// delivered elsewhere.
    pub async fn next_submitted(&self) {
        let taken = self.offers.take(OFFERED).await;
        self.offers.settle(taken.receipt);
    }

    /// Has delivery look at the store at once.
    pub fn look_for_submitted(&self) {
        self.passed_over.notify_one();
    }

    /// Refuses new calls from now on, and has those who wait for an end look once more.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waiters.wake_all();
    }

    /// Waits until the calls in flight have ended; to be called after [`Dispatch::close`].
    pub async fn drain(&self) {
        loop {
            let idle = self.idle.notified();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Runs a function and waits for its outcome. Dropping the future means that the caller has hung up: the
    /// call is stopped where that harms no other, and recorded as cancelled.
    pub async fn invoke(
        &self,
        caller: &Caller,
        request: InvokeRequest<'_>,
    ) -> Result<Invoked, DispatchError> {
        let InvokeRequest { function, qualifier, event, options } = request;
        let callee = self.callee(caller, function, qualifier).await?;
        self.call(callee, event, options, None).await
    }

    /// Finds what a call would run.
    pub async fn callee(
        &self,
        caller: &Caller,
        function: FunctionRef<'_>,
        qualifier: Qualifier,
    ) -> Result<Callee, DispatchError> {
        if !caller.may_invoke() {
            return Err(DispatchError::Denied);
        }
        let waited = self.wait_for_deploy(function).await?;
        let entry = self.find(function)?;
        let target = self.resolve(&entry, qualifier).await?;
        Ok(Callee { entry, target, waited })
    }

    /// Waits while a function that has nothing to call is being deployed; returns for how long.
    async fn wait_for_deploy(&self, function: FunctionRef<'_>) -> Result<Duration, DispatchError> {
        if self.coming.is_empty() {
            return Ok(Duration::ZERO);
        }
        let name = match (self.find(function), function) {
            (Ok(entry), _) => match &*entry.latest() {
                Target { revision: Revision { built: Built::Failed(_), .. }, function_name, .. } => {
                    function_name.to_string()
                }
                _ => return Ok(Duration::ZERO),
            },
            (Err(_), FunctionRef::Text(name)) => name.to_owned(),
            (Err(_), FunctionRef::Id(_)) => return Ok(Duration::ZERO),
        };
        match self.coming.find(&name) {
            Some(deploy) => deploy.wait(&name).await,
            None => Ok(Duration::ZERO),
        }
    }

    /// Lets calls of this name wait until the announcement is dropped, no longer than `timeout`, as long as the name
    /// has nothing that could be called.
    #[must_use]
    pub fn announce(&self, function: &FunctionName, timeout: Duration) -> Announcement {
        self.coming.announce(function.as_str(), timeout)
    }

    /// Runs what was found and waits for its outcome, as [`Dispatch::invoke`] does; with an exchange the function may
    /// stream meanwhile.
    pub async fn call(
        &self,
        callee: Callee,
        event: Bytes,
        options: InvokeOptions,
        duplex: Option<Duplex>,
    ) -> Result<Invoked, DispatchError> {
        if event.len() > PAYLOAD_LIMIT {
            return Err(DispatchError::EventTooLarge { limit: PAYLOAD_LIMIT });
        }
        let _flight = self.take_off()?;
        let Callee { entry, target, waited } = callee;
        let (now, at) = (tokio::time::Instant::now().into_std(), SystemTime::now());
        let longest = Duration::from_millis(*TIMEOUT_MS.end());
        let InvokeOptions { id, is_retry, timeout, context, keep_exchange, measure } = options;
        let timeout = timeout.unwrap_or_else(|| target.revision.config.limits.timeout()).min(longest);
        let timeout = timeout.saturating_sub(waited);
        let deadline = Deadline::at(now + timeout);
        let _permit = entry.admission.admit(deadline).await?;
        let asked = keep_exchange.then(|| Excerpt::of(&event));
        let admitted =
            Admitted { id, is_retry, event, asked, context, duplex, deadline, timeout, now, at, measure };
        self.run(&entry, target, admitted).await
    }

    async fn run(
        &self,
        entry: &Arc<Entry>,
        target: Arc<Target>,
        admitted: Admitted,
    ) -> Result<Invoked, DispatchError> {
        let since_epoch = admitted.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = admitted.id.unwrap_or_else(|| InvocationId::at(since_epoch));
        let ends = since_epoch + admitted.timeout;
        let deadline_unix_ms = u64::try_from(ends.as_millis()).unwrap_or(u64::MAX);
        let version = target.version;
        let mut record = Record {
            dispatch: self,
            entry,
            id: if admitted.is_retry { InvocationId::at(since_epoch) } else { id },
            revision: target.revision.id,
            version,
            memory_mib: target.revision.config.limits.memory_mib(),
            at: admitted.at,
            asked: admitted.asked,
            done: false,
        };
        let Admitted { event, context, duplex, deadline, timeout, now, measure, .. } = admitted;
        let request = RunRequest {
            id,
            target,
            event,
            context,
            admitted: now,
            deadline,
            timeout,
            deadline_unix_ms,
            max_concurrency: entry.latest().revision.config.limits.max_concurrency(),
            measure,
        };
        match self.worker.run(request, duplex).await {
            Ok(outcome) => {
                record.ended(&outcome);
                Ok(Invoked { id, version, outcome })
            }
            Err(error) => {
                // A call whose caller broke off had begun, and one whose worker was lost may have; they are recorded
                // as cancelled.
                record.done = !matches!(error, RunError::InputBroken(_) | RunError::WorkerLost(_));
                Err(refusal(error))
            }
        }
    }

    pub(crate) fn take_off(&self) -> Result<Flight<'_>, DispatchError> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let flight = Flight(self);
        if self.stopping.load(Ordering::SeqCst) { Err(DispatchError::ShuttingDown) } else { Ok(flight) }
    }

    pub(crate) fn find(&self, function: FunctionRef<'_>) -> Result<Arc<Entry>, DispatchError> {
        let text = match function {
            FunctionRef::Text(text) => text,
            FunctionRef::Id(id) => {
                return self.table.by_id(id).ok_or_else(|| DispatchError::FunctionNotFound(id.to_string()));
            }
        };
        let by_id = || text.parse().ok().and_then(|id| self.table.by_id(id));
        let found = self.table.by_name(text).or_else(by_id).or_else(|| self.table.newest_named(text));
        found.ok_or_else(|| DispatchError::FunctionNotFound(text.chars().take(255).collect()))
    }

    pub(crate) async fn resolve(
        &self,
        entry: &Arc<Entry>,
        qualifier: Qualifier,
    ) -> Result<Arc<Target>, DispatchError> {
        let random = || self.random();
        let not_found = |qualifier| DispatchError::QualifierNotFound {
            function: entry.latest().function_name.to_string(),
            qualifier,
        };
        match entry.resolve(&qualifier, random) {
            Resolved::Target(target) => Ok(target),
            Resolved::Unknown => Err(not_found(qualifier)),
            Resolved::Load(number) => {
                let found =
                    self.versions.find_version(entry.id, number).await.map_err(DispatchError::Store)?;
                let version = found.ok_or_else(|| not_found(qualifier))?;
                Ok(entry.remember(Target {
                    function_name: entry.latest().function_name.clone(),
                    version: number,
                    revision: version.revision,
                }))
            }
        }
    }
}

/// A call that may run.
struct Admitted {
    id: Option<InvocationId>,
    is_retry: bool,
    event: Bytes,
    /// What is kept of the event.
    asked: Option<Excerpt>,
    context: Bytes,
    duplex: Option<Duplex>,
    measure: bool,
    deadline: Deadline,
    timeout: Duration,
    now: Instant,
    at: SystemTime,
}

pub(crate) fn refusal(error: RunError) -> DispatchError {
    match error {
        RunError::NoSandboxInTime => DispatchError::Throttled { retry_after: Duration::from_secs(1) },
        RunError::QueueFull { retry_after } => DispatchError::Throttled { retry_after },
        RunError::BadEvent(message) => DispatchError::BadEvent(message),
        RunError::Sandbox(SandboxError::Network(why)) => {
            tracing::warn!(%why, "a function asks for a network that it cannot have");
            DispatchError::NoNetwork
        }
        RunError::InputBroken(broken) => DispatchError::InputBroken(broken),
        RunError::WorkerLost(worker) => {
            tracing::warn!(%worker, "a worker was lost while it ran a call");
            DispatchError::WorkerLost
        }
        RunError::NoWorker(why) => DispatchError::NoWorker(why),
        RunError::Sandbox(error) => DispatchError::Sandbox(error),
        RunError::Code(error) => DispatchError::Code(error),
    }
}

/// Counts a call in flight for as long as it lives.
pub(crate) struct Flight<'a>(&'a Dispatch);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let last = self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.stopping.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}

/// Records a call when it ends; dropped before that, as cancelled.
struct Record<'a> {
    dispatch: &'a Dispatch,
    entry: &'a Arc<Entry>,
    id: InvocationId,
    revision: RevisionId,
    version: VersionNumber,
    memory_mib: u32,
    at: SystemTime,
    asked: Option<Excerpt>,
    done: bool,
}

/// How a call ended, as its record has it.
struct End {
    status: InvocationStatus,
    failure: Option<Failure>,
    exchange: Option<Box<Exchange>>,
    logs: Logs,
    usage: Usage,
}

impl Record<'_> {
    fn ended(&mut self, outcome: &Outcome<Bytes>) {
        self.done = true;
        let failure = outcome.result.as_ref().err().cloned();
        let status = match &failure {
            None => InvocationStatus::Succeeded,
            Some(failure) if failure.error_type == ErrorType::Timeout => InvocationStatus::Timeout,
            Some(_) => InvocationStatus::Failed,
        };
        let response = |outcome: &Outcome<Bytes>| outcome.result.as_ref().ok().map(|body| Excerpt::of(body));
        let exchange =
            self.asked.take().map(|event| Box::new(Exchange { event, response: response(outcome) }));
        self.push(End { status, failure, exchange, logs: outcome.logs.clone(), usage: outcome.usage });
    }

    fn push(&self, end: End) {
        let End { status, failure, exchange, logs, usage } = end;
        let record = Invocation {
            id: self.id,
            function: self.entry.id,
            revision: self.revision,
            version: self.version,
            status,
            failure,
            exchange,
            logs,
            usage,
            started_at: self.at.into(),
        };
        self.dispatch.recorder.push(self.entry, record);
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.done {
            let usage = Usage { memory_mib: self.memory_mib, ..Usage::default() };
            let exchange = self.asked.take().map(|event| Box::new(Exchange { event, response: None }));
            let (status, logs) = (InvocationStatus::Cancelled, Logs::default());
            self.push(End { status, failure: None, exchange, logs, usage });
        }
    }
}
