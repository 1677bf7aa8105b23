//! All workers as one: what dispatch sees in a controller, and in a worker's own delivery loop.
//!
//! A call goes to the worker that [`ring`] says. A function with a bound of its own is run by its home alone, which
//! admits its calls; all others may go to the next worker when their home has more than its share. What has certainly not
//! begun is tried once more; what may have begun is the caller's to know.

pub(crate) mod exchange;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use impuls_dispatch::{
    CommandPool, Duplex, ExecuteRequest, Executed, LiveSandbox, Refusals, RunError, RunRequest, Target,
    Worker,
};
use impuls_domain::{Deadline, FunctionId, Outcome};
use impuls_sandbox::SandboxError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Missed, Peer};
use crate::convert::{
    Count, ExecuteHead, FunctionHead, WarmHead, Which, WirePool, WireRefusals, WireSandbox, micros,
};
use crate::members::Members;
use crate::protocol::{Frames, ProtocolError, Sending, json, kind, path};
use crate::ring;
use crate::server::Server;
use crate::serving::Serving;

/// How often a call is tried.
const TRIES: usize = 2;
/// How long a call waits for a worker to appear where there is none.
const WORKER_WAIT: Duration = Duration::from_secs(2);
/// How long after its deadline a call may still say how it ended: the worker makes sure that nothing is left of it.
const GRACE: Duration = Duration::from_secs(10);
/// How long a worker may take to say something about itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a worker may take to make ready what is asked at a deploy.
const WARM_TIMEOUT: Duration = Duration::from_secs(60);
/// The runtime of commands.
const COMMAND: &str = "command";

/// The worker that this process is itself.
pub struct Own {
    id: String,
    serving: Arc<Serving>,
}

impl Own {
    /// The worker of this name, whose calls from elsewhere come through this server.
    #[must_use]
    pub fn new(id: String, server: &Server) -> Self {
        Self { id, serving: server.serving().clone() }
    }
}

/// All workers as one.
pub struct RemoteWorkers {
    members: Arc<Members>,
    own: Option<Own>,
}

/// Why one worker has not run a call.
struct Miss {
    error: RunError,
    elsewhere: Elsewhere,
}

/// Whether another worker may run it instead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    /// It may have begun, or would fare no better.
    Never,
    /// This one has no room.
    IfUnbound,
    /// This one takes nothing at all.
    Always,
}

impl From<Missed> for Miss {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Gone(_) => {
                let error = RunError::NoWorker("the worker that it belongs to cannot be reached");
                Self { error, elsewhere: Elsewhere::Always }
            }
            Missed::Full => {
                let error = RunError::Sandbox(SandboxError::AtCapacity);
                Self { error, elsewhere: Elsewhere::IfUnbound }
            }
            Missed::Lost(why) => lost(why),
        }
    }
}

fn lost(why: String) -> Miss {
    Miss { error: RunError::WorkerLost(why), elsewhere: Elsewhere::Never }
}

/// What a call needs of a worker.
pub(crate) struct Wanted<'w> {
    pub(crate) key: u64,
    pub(crate) runtime: &'w str,
    /// Whether it may only run in its home.
    pub(crate) stays: bool,
}

impl RemoteWorkers {
    /// These workers; of them one may be this process itself, which is asked without the network.
    #[must_use]
    pub fn new(members: Arc<Members>, own: Option<Own>) -> Arc<Self> {
        Arc::new(Self { members, own })
    }

    /// Where to run something, of those that have not been tried.
    fn choose(&self, wanted: &Wanted<'_>, tried: &[Arc<Peer>]) -> Option<Arc<Peer>> {
        let all = self.members.peers();
        let fits = |peer: &&Arc<Peer>| {
            !peer.stops()
                && peer.about().has(wanted.runtime)
                && !tried.iter().any(|tried| Arc::ptr_eq(tried, peer))
        };
        let fitting: Vec<&Arc<Peer>> = all.iter().filter(fits).collect();
        let reachable: Vec<&Arc<Peer>> = fitting.iter().copied().filter(|peer| !peer.is_avoided()).collect();
        // Better one that may be back than none.
        let peers = if reachable.is_empty() { fitting } else { reachable };
        let candidates: Vec<ring::Candidate> = peers.iter().map(|peer| peer.candidate()).collect();
        let place = if wanted.stays { ring::home } else { ring::place };
        place(&candidates, wanted.key).and_then(|index| peers.get(index)).map(|peer| Arc::clone(peer))
    }

    /// The same; where there is no worker, one may be just about to join.
    pub(crate) async fn find(
        &self,
        wanted: &Wanted<'_>,
        tried: &[Arc<Peer>],
        by: Deadline,
    ) -> Result<Arc<Peer>, RunError> {
        let until = (Instant::now() + WORKER_WAIT).min(by.instant().into());
        loop {
            if let Some(peer) = self.choose(wanted, tried) {
                return Ok(peer);
            }
            if !self.members.looked(until).await {
                let all = self.members.peers();
                let why = match all.iter().any(|peer| !peer.stops()) {
                    _ if !tried.is_empty() => "the worker that it belongs to cannot be reached",
                    true => "no worker that is there has the runtime",
                    false => "there is no worker",
                };
                return Err(RunError::NoWorker(why));
            }
        }
    }

    async fn run_on(
        &self,
        peer: &Peer,
        request: &RunRequest,
        duplex: &mut Option<Duplex>,
    ) -> Result<Outcome<Bytes>, Miss> {
        let _counted = peer.count();
        let until = Instant::from(request.deadline.instant()) + GRACE;
        let run = exchange::run(peer, request, duplex);
        match tokio::time::timeout_at(until, run).await {
            Ok(ended) => ended,
            Err(_) => Err(lost(format!("{} does not answer", peer.id()))),
        }
    }

    /// Asks one worker something that it answers with one JSON object.
    pub(crate) async fn ask<T: DeserializeOwned>(
        peer: &Peer,
        path: &'static str,
        head: &impl Serialize,
        within: Duration,
    ) -> Result<T, Unanswered> {
        let asking = async {
            let response = peer.ask(path, Sending::whole([json(kind::HEAD, head)])).await;
            let response = response.map_err(Unanswered::Missed)?;
            Frames::new(response.into_body()).expect(kind::ENDED, "answer").await.map_err(Unanswered::Broken)
        };
        tokio::time::timeout(within, asking).await.unwrap_or(Err(Unanswered::Late))
    }

    /// Asks all workers at once; those that do not answer are left out.
    async fn ask_all<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
        head: impl Serialize + Clone + Send + Sync + 'static,
    ) -> Vec<T> {
        let mut asking = JoinSet::new();
        for peer in self.members.peers().iter().filter(|peer| !peer.is_avoided()) {
            let (peer, head) = (Arc::clone(peer), head.clone());
            asking.spawn(async move {
                let answer = Self::ask::<T>(&peer, path, &head, ANSWER_TIMEOUT).await;
                answer
                    .inspect_err(|error| tracing::debug!(worker = %peer.id(), %error, path, "no answer"))
                    .ok()
            });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asking.join_next().await {
            answers.extend(answer.ok().flatten());
        }
        answers
    }

    /// Has some worker look for asynchronous invocations that are due; it would look by itself a little later.
    pub async fn wake(&self) {
        let wanted =
            Wanted { key: ring::hash(uuid::Uuid::now_v7().as_bytes()), runtime: COMMAND, stays: true };
        let Some(peer) = self.choose(&wanted, &[]) else { return };
        if let Err(error) = Self::ask::<Count>(&peer, path::WAKE, &Count::default(), ANSWER_TIMEOUT).await {
            tracing::debug!(worker = %peer.id(), %error, "a worker was not woken");
        }
    }

    /// Has the home of a function make a change of it effective, and waits for that: its newest revision is warm
    /// afterwards if the one before was.
    pub async fn activate(&self, function: FunctionId, runtime: &str) {
        let wanted = Wanted { key: key(function), runtime, stays: true };
        let Some(peer) = self.choose(&wanted, &[]) else { return };
        let head = FunctionHead { function };
        if let Err(error) = Self::ask::<Count>(&peer, path::ACTIVATE, &head, WARM_TIMEOUT).await {
            // The store has told it as well.
            tracing::debug!(worker = %peer.id(), %error, "a worker does not say that a function is ready");
        }
    }

    /// Whether this process is the home of a function.
    #[must_use]
    pub fn is_home(&self, function: FunctionId, runtime: &str) -> bool {
        let wanted = Wanted { key: key(function), runtime, stays: true };
        let home = self.choose(&wanted, &[]);
        home.is_some_and(|home| self.own.as_ref().is_some_and(|own| own.id == home.id()))
    }

    /// The list of workers.
    #[must_use]
    pub const fn members(&self) -> &Arc<Members> {
        &self.members
    }
}

/// The place of a function in the ring.
pub(crate) fn key(function: FunctionId) -> u64 {
    ring::hash(function.as_uuid().as_bytes())
}

pub(crate) fn which(target: &Target) -> Which {
    Which { function: target.revision.function, version: target.version.get(), revision: target.revision.id }
}

/// Why a worker has not said what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error(transparent)]
    Missed(Missed),
    #[error(transparent)]
    Broken(ProtocolError),
    #[error("it takes too long")]
    Late,
}

#[async_trait]
impl Worker for RemoteWorkers {
    async fn run(&self, request: RunRequest, mut duplex: Option<Duplex>) -> Result<Outcome<Bytes>, RunError> {
        let revision = &request.target.revision;
        let stays = request.max_concurrency.is_some();
        let runtime = revision.config.runtime.clone();
        let wanted = Wanted { key: key(revision.function), runtime: runtime.as_str(), stays };
        let mut tried: Vec<Arc<Peer>> = Vec::new();
        loop {
            let peer = self.find(&wanted, &tried, request.deadline).await?;
            if let Some(own) = self.own.as_ref().filter(|own| own.id == peer.id()) {
                let _entered = own.serving.load.enter();
                return own.serving.run(request, duplex).await;
            }
            let miss = match self.run_on(&peer, &request, &mut duplex).await {
                Ok(outcome) => return Ok(outcome),
                Err(miss) => miss,
            };
            tried.push(peer);
            let may_go = match miss.elsewhere {
                Elsewhere::Never => false,
                Elsewhere::IfUnbound => !stays,
                Elsewhere::Always => true,
            };
            if !may_go || tried.len() >= TRIES {
                return Err(miss.error);
            }
        }
    }

    async fn execute(&self, request: ExecuteRequest) -> Result<Executed, RunError> {
        let wanted =
            Wanted { key: ring::hash(uuid::Uuid::now_v7().as_bytes()), runtime: COMMAND, stays: false };
        let mut tried: Vec<Arc<Peer>> = Vec::new();
        loop {
            let peer = self.find(&wanted, &tried, request.deadline).await?;
            let counted = peer.count();
            let now = Instant::now().into_std();
            let head = ExecuteHead {
                argv: request.argv.clone(),
                environment: request.environment.variables().clone(),
                working_dir: request.working_dir.clone(),
                memory_mib: request.limits.memory_mib(),
                milli_vcpu: request.limits.milli_vcpu(),
                remaining_us: micros(request.deadline.remaining(now)),
                has_stdin: !request.stdin.is_empty(),
                streams: request.on_output.is_some(),
            };
            let until = Instant::from(request.deadline.instant()) + GRACE;
            let executing = exchange::execute(&peer, head, &request);
            let miss = match tokio::time::timeout_at(until, executing).await {
                Ok(Ok(executed)) => return Ok(executed),
                Ok(Err(miss)) => miss,
                Err(_) => lost(format!("{} does not answer", peer.id())),
            };
            drop(counted);
            tried.push(peer);
            if miss.elsewhere == Elsewhere::Never || tried.len() >= TRIES {
                return Err(miss.error);
            }
        }
    }

    async fn prewarm_commands(&self, count: usize) -> CommandPool {
        let workers = self.members.peers().iter().filter(|peer| !peer.stops()).count();
        let share = Count { count: count.div_ceil(workers.max(1)) };
        sum(self.ask_all(path::PREWARM, share).await)
    }

    async fn command_pool(&self) -> CommandPool {
        sum(self.ask_all(path::POOL, Count::default()).await)
    }

    async fn sandboxes(&self) -> Vec<LiveSandbox> {
        let all: Vec<Vec<WireSandbox>> = self.ask_all(path::SANDBOXES, Count::default()).await;
        all.into_iter().flatten().filter_map(WireSandbox::sandbox).collect()
    }

    async fn refusals(&self, function: FunctionId) -> Refusals {
        let all: Vec<WireRefusals> = self.ask_all(path::REFUSALS, FunctionHead { function }).await;
        all.into_iter().fold(Refusals::default(), |sum, more| sum.and(more.into()))
    }

    async fn warm(&self, target: &Arc<Target>, count: usize, by: Deadline) -> usize {
        let revision = &target.revision;
        let runtime = revision.config.runtime.as_str();
        let wanted = Wanted { key: key(revision.function), runtime, stays: true };
        let Ok(peer) = self.find(&wanted, &[], by).await else { return 0 };
        let remaining = by.remaining(Instant::now().into_std());
        let head = WarmHead { which: which(target), count, remaining_us: micros(remaining) };
        let answer = Self::ask::<Count>(&peer, path::WARM, &head, remaining + GRACE).await;
        answer.map_or(0, |answer| answer.count)
    }
}

fn sum(pools: Vec<WirePool>) -> CommandPool {
    let pools = pools.into_iter().map(CommandPool::from);
    pools.fold(CommandPool::default(), |sum, pool| CommandPool {
        ready: sum.ready + pool.ready,
        target: sum.target + pool.target,
        running: sum.running + pool.running,
    })
}
