//! The shell of [`pool_core`](crate::pool_core): a lock that belongs to one revision, a channel for each call that waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use impuls_dispatch::{LiveSandbox, RunError, Target};
use impuls_domain::{Deadline, Failure, Logs};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::live::Live;
use crate::pool_core::{Arrival, Leave, MemberKey, PoolCore, Ticket};
use crate::start;

/// What a refused caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call got no slot.
#[derive(Debug)]
pub(crate) enum NoSlot {
    /// The code cannot be loaded: the function's own failure, with what its top level wrote.
    Init { failure: Failure, logs: Logs, init_duration: Duration },
    /// The deadline passed while a sandbox was being started.
    InitTimeout,
    /// The platform is to blame.
    Platform(RunError),
}

type Handed = Result<Slot, NoSlot>;

struct State {
    core: PoolCore,
    lives: HashMap<MemberKey, Arc<Live>>,
    waiting: HashMap<Ticket, oneshot::Sender<Handed>>,
}

/// The sandboxes of one revision.
pub(crate) struct Pool {
    pub(crate) target: Arc<Target>,
    pub(crate) context: Arc<start::StartContext>,
    state: Mutex<State>,
}

/// The right to run one call in one sandbox; given back by drop.
pub(crate) struct Slot(pub(crate) Arc<Live>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("sandbox", &self.0.sandbox.id()).finish()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.pool.leave(&self.0);
    }
}

/// A place in the queue; given up by drop.
struct Place<'a> {
    pool: &'a Pool,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        if state.waiting.remove(&self.ticket).is_some() {
            state.core.abandon(self.ticket);
        }
    }
}

impl Pool {
    pub(crate) fn new(target: Arc<Target>, context: Arc<start::StartContext>) -> Arc<Self> {
        let core = PoolCore::new(target.revision.config.limits.concurrency(), context.config.queue_limit);
        let state = Mutex::new(State { core, lives: HashMap::new(), waiting: HashMap::new() });
        Arc::new(Self { target, context, state })
    }

    /// A slot of a warm sandbox, if one is free at once.
    pub(crate) fn try_acquire(&self) -> Option<Slot> {
        let mut state = self.state.lock();
        let key = state.core.take_free()?;
        state.lives.get(&key).cloned().map(Slot)
    }

    /// A slot of a warm sandbox, or of one that is started for this call.
    pub(crate) async fn acquire(self: &Arc<Self>, by: Deadline) -> Result<Slot, NoSlot> {
        let (ticket, receiver) = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            match state.core.arrive() {
                Arrival::Run(key) => {
                    return state.lives.get(&key).cloned().map(Slot).ok_or_else(lost);
                }
                Arrival::Refuse => {
                    return Err(NoSlot::Platform(RunError::QueueFull { retry_after: RETRY_AFTER }));
                }
                Arrival::Wait { ticket, start } => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.insert(ticket, sender);
                    if start {
                        start::spawn(self.clone(), by);
                    }
                    (ticket, receiver)
                }
            }
        };
        let _place = Place { pool: self, ticket };
        match tokio::time::timeout_at(by.instant().into(), receiver).await {
            Ok(Ok(handed)) => handed,
            Ok(Err(_)) => Err(lost()),
            Err(_) if self.state.lock().core.is_starting() => Err(NoSlot::InitTimeout),
            Err(_) => Err(NoSlot::Platform(RunError::NoSandboxInTime)),
        }
    }

    /// Its live sandboxes, measured.
    pub(crate) fn sandboxes(&self) -> Vec<LiveSandbox> {
        let lives: Vec<Arc<Live>> = self.state.lock().lives.values().cloned().collect();
        let (target, limits) = (&self.target, &self.target.revision.config.limits);
        let describe = |live: Arc<Live>| LiveSandbox {
            id: live.sandbox.id(),
            function: target.revision.function,
            function_name: target.function_name.clone(),
            version: target.version,
            memory_mib: limits.memory_mib(),
            milli_vcpu: limits.milli_vcpu(),
            usage: live.sandbox.usage(),
            refused: live.sandbox.refusals(),
        };
        lives.into_iter().map(describe).collect()
    }

    /// Starts a sandbox for nobody in particular, to have it warm.
    pub(crate) fn warm_up(self: &Arc<Self>, by: Deadline) {
        self.state.lock().core.begin_warm_up();
        start::spawn(self.clone(), by);
    }

    /// A started sandbox is ready: hands its slots to the calls that wait.
    pub(crate) fn started(self: &Arc<Self>, make: impl FnOnce(MemberKey) -> Arc<Live>) -> Arc<Live> {
        let (live, senders) = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let (key, tickets) = state.core.started(Instant::now());
            let live = make(key);
            state.lives.insert(key, live.clone());
            let senders: Vec<_> = tickets.iter().map(|ticket| state.waiting.remove(ticket)).collect();
            (live, senders)
        };
        for sender in senders {
            Self::hand(&live, sender);
        }
        live
    }

    fn hand(live: &Arc<Live>, sender: Option<oneshot::Sender<Handed>>) {
        // A slot whose call has gone meanwhile is dropped here, outside the lock, and so given back.
        let slot = Slot(live.clone());
        if let Some(sender) = sender {
            drop(sender.send(Ok(slot)));
        }
    }

    /// A start has failed: so do the calls that it would have served, each with what `reason` makes for it.
    pub(crate) fn start_failed(self: &Arc<Self>, by: Deadline, reason: impl Fn() -> NoSlot) {
        let (senders, start) = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let (tickets, start) = state.core.start_failed();
            (tickets.iter().filter_map(|ticket| state.waiting.remove(ticket)).collect::<Vec<_>>(), start)
        };
        for sender in senders {
            drop(sender.send(Err(reason())));
        }
        if start {
            start::spawn(self.clone(), by);
        }
    }

    /// There is no room for another sandbox: calls wait for those in use, or fail if there are none.
    pub(crate) fn start_deferred(&self) {
        let senders: Vec<_> = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let tickets = state.core.start_deferred();
            tickets.iter().filter_map(|ticket| state.waiting.remove(ticket)).collect()
        };
        for sender in senders {
            let refusal = RunError::QueueFull { retry_after: RETRY_AFTER };
            drop(sender.send(Err(NoSlot::Platform(refusal))));
        }
    }

    fn leave(&self, live: &Arc<Live>) {
        let (sender, destroy) = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            match state.core.leave(live.key) {
                Leave::Hand(ticket) => (Some(state.waiting.remove(&ticket)), None),
                Leave::Destroy => (None, state.lives.remove(&live.key)),
                Leave::Keep | Leave::Gone => (None, None),
            }
        };
        if let Some(sender) = sender {
            Self::hand(live, sender);
        }
        if let Some(live) = destroy {
            self.context.destroy(live.sandbox.clone());
        }
    }

    /// The sandbox ended or is about to be killed: nobody gets a slot of it any more. False if it was known.
    pub(crate) fn lose(self: &Arc<Self>, key: MemberKey, by: Deadline) -> bool {
        let (known, start) = {
            let mut state = self.state.lock();
            let known = state.lives.remove(&key).is_some();
            (known, known && state.core.lost(key))
        };
        if start {
            start::spawn(self.clone(), by);
        }
        known
    }

    /// How many calls a sandbox is running.
    pub(crate) fn busy(&self, key: MemberKey) -> u32 {
        self.state.lock().core.busy(key)
    }

    /// Sandboxes that there are or will be.
    pub(crate) fn size(&self) -> usize {
        self.state.lock().core.size()
    }

    /// Whether the pool can be forgotten.
    pub(crate) fn is_unused(&self) -> bool {
        self.state.lock().core.is_unused()
    }

    /// When the sandbox that has been unused longest was last used.
    pub(crate) fn longest_idle(&self) -> Option<Instant> {
        self.state.lock().core.longest_idle()
    }

    /// Destroys sandboxes that have been unused for at least `timeout`, but leaves at least `keep`. To be called
    /// regularly: use is noticed from one call to the next.
    pub(crate) fn destroy_idle(&self, timeout: Duration, keep: usize) -> usize {
        self.destroy(|core| core.take_idle(Instant::now(), timeout, keep))
    }

    /// Destroys the sandbox that has been unused longest; false if none is.
    pub(crate) fn destroy_longest_idle(&self) -> bool {
        self.destroy(|core| core.take_longest_idle().into_iter().collect()) > 0
    }

    /// Destroys what is unused and lets nothing become idle any more.
    pub(crate) fn drain(&self) {
        self.destroy(|core| core.drain(Instant::now()));
    }

    /// Destroys every sandbox; calls that run in one end with it.
    pub(crate) fn destroy_all(&self) {
        self.destroy(PoolCore::take_all);
    }

    /// Keeps sandboxes again.
    pub(crate) fn revive(&self) {
        self.state.lock().core.revive();
    }

    fn destroy(&self, take: impl FnOnce(&mut PoolCore) -> Vec<MemberKey>) -> usize {
        let lives: Vec<Arc<Live>> = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            take(&mut state.core).iter().filter_map(|key| state.lives.remove(key)).collect()
        };
        for live in &lives {
            self.context.destroy(live.sandbox.clone());
        }
        lives.len()
    }
}

fn lost() -> NoSlot {
    NoSlot::Platform(RunError::Sandbox(impuls_sandbox::SandboxError::Gone(impuls_sandbox::Gone)))
}
