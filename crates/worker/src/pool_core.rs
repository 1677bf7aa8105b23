//! The sandboxes of one revision: who gets a slot, who waits, when another sandbox is started and when one goes.
//!
//! Pure: no clock, no thread, no sandbox. The shell ([`crate::pool`]) performs what is decided here.
//!
//! ```text
//!   arrive ──┬─ a slot is free ──────────────> Run
//!            ├─ room in the queue ───────────> Wait, and perhaps start a sandbox (single flight per slot needed)
//!            └─ else ────────────────────────> Refuse
//!   started ──> its slots go to the oldest waiting calls, the rest are free
//!   leave ────> the slot goes to the oldest waiting call, or is free
//!   lost ─────> the sandbox and its slots are gone; calls that wait may need another start
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Names a waiting call.
pub(crate) type Ticket = u64;
/// Names a sandbox of the pool.
pub(crate) type MemberKey = u64;

/// What becomes of a call that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Run(MemberKey),
    Wait {
        ticket: Ticket,
        /// Whether the shell must start a sandbox.
        start: bool,
    },
    Refuse,
}

/// What becomes of a slot that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It belongs to this waiting call now.
    Hand(Ticket),
    /// It is free.
    Keep,
    /// The pool drains and the sandbox is unused: destroy it. It is no member any more.
    Destroy,
    /// The sandbox was lost meanwhile.
    Gone,
}

#[derive(Debug)]
struct Member {
    busy: u32,
    /// Whether it has been used since it was last looked at.
    used: bool,
    /// When it was last seen in use.
    idle_since: Instant,
}

/// The decisions for one revision.
#[derive(Debug)]
pub(crate) struct PoolCore {
    slots: u32,
    queue_limit: usize,
    members: HashMap<MemberKey, Member>,
    /// One entry per free slot; the last is the one most recently used, whose caches are warmest.
    free: Vec<MemberKey>,
    starting: usize,
    waiting: VecDeque<Ticket>,
    next: u64,
    draining: bool,
}

impl PoolCore {
    pub(crate) fn new(slots: u32, queue_limit: usize) -> Self {
        Self {
            slots,
            queue_limit,
            members: HashMap::new(),
            free: Vec::new(),
            starting: 0,
            waiting: VecDeque::new(),
            next: 0,
            draining: false,
        }
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A free slot, if there is one.
    pub(crate) fn take_free(&mut self) -> Option<MemberKey> {
        let key = self.free.pop()?;
        if let Some(member) = self.members.get_mut(&key) {
            member.busy += 1;
            member.used = true;
        }
        Some(key)
    }

    pub(crate) fn arrive(&mut self) -> Arrival {
        if let Some(key) = self.take_free() {
            return Arrival::Run(key);
        }
        if self.waiting.len() >= self.queue_limit {
            return Arrival::Refuse;
        }
        let ticket = self.next();
        self.waiting.push_back(ticket);
        Arrival::Wait { ticket, start: self.begin_start() }
    }

    /// Whether the waiting calls need another sandbox beyond those being started; if so it counts as starting.
    pub(crate) fn begin_start(&mut self) -> bool {
        let needed = self.waiting.len() > self.starting * self.slots as usize;
        if needed {
            self.starting += 1;
            // A revision that is called after all, by its number for example, keeps its sandboxes again.
            self.draining = false;
        }
        needed
    }

    /// A sandbox is being started for nobody in particular.
    pub(crate) const fn begin_warm_up(&mut self) {
        self.starting += 1;
    }

    /// A started sandbox is ready. The calls returned have one of its slots each.
    pub(crate) fn started(&mut self, now: Instant) -> (MemberKey, Vec<Ticket>) {
        self.starting = self.starting.saturating_sub(1);
        let key = self.next();
        let count = self.waiting.len().min(self.slots as usize);
        let handed: Vec<Ticket> = self.waiting.drain(..count).collect();
        let busy = u32::try_from(count).unwrap_or(u32::MAX);
        self.members.insert(key, Member { busy, used: true, idle_since: now });
        self.free.extend(std::iter::repeat_n(key, (self.slots - busy) as usize));
        (key, handed)
    }

    /// A start has failed. The calls returned fail with it: those that the sandbox would have served. With
    /// `true` another start is needed for the rest.
    pub(crate) fn start_failed(&mut self) -> (Vec<Ticket>, bool) {
        self.starting = self.starting.saturating_sub(1);
        let count = self.waiting.len().min(self.slots as usize);
        let failed = self.waiting.drain(..count).collect();
        (failed, self.begin_start())
    }

    /// The machine has no room for the sandbox that was being started. If others of the pool are in use, the
    /// calls go on waiting for those; else the ones returned fail.
    pub(crate) fn start_deferred(&mut self) -> Vec<Ticket> {
        self.starting = self.starting.saturating_sub(1);
        if self.members.is_empty() && self.starting == 0 {
            self.waiting.drain(..).collect()
        } else {
            Vec::new()
        }
    }

    pub(crate) fn leave(&mut self, key: MemberKey) -> Leave {
        let Some(member) = self.members.get_mut(&key) else { return Leave::Gone };
        if let Some(ticket) = self.waiting.pop_front() {
            return Leave::Hand(ticket);
        }
        member.busy = member.busy.saturating_sub(1);
        if self.draining && member.busy == 0 {
            self.remove(key);
            return Leave::Destroy;
        }
        self.free.push(key);
        Leave::Keep
    }

    /// A waiting call does not wait any more.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| *waiting != ticket);
    }

    /// A sandbox ended or was killed. True if another start is needed.
    pub(crate) fn lost(&mut self, key: MemberKey) -> bool {
        self.remove(key);
        self.begin_start()
    }

    fn remove(&mut self, key: MemberKey) {
        if self.members.remove(&key).is_some() {
            self.free.retain(|free| *free != key);
        }
    }

    /// How many calls a sandbox is running.
    pub(crate) fn busy(&self, key: MemberKey) -> u32 {
        self.members.get(&key).map_or(0, |member| member.busy)
    }

    /// Takes out the sandboxes that have been unused for at least `timeout`, but leaves at least `keep`.
    pub(crate) fn take_idle(&mut self, now: Instant, timeout: Duration, keep: usize) -> Vec<MemberKey> {
        let spare = self.members.len().saturating_sub(keep);
        let mut idle = Vec::new();
        for (key, member) in &mut self.members {
            if std::mem::take(&mut member.used) || member.busy > 0 {
                member.idle_since = now;
            }
            if member.busy == 0 && now.duration_since(member.idle_since) >= timeout {
                idle.push((member.idle_since, *key));
            }
        }
        idle.sort_unstable();
        idle.truncate(spare);
        idle.iter().for_each(|(_, key)| self.remove(*key));
        idle.into_iter().map(|(_, key)| key).collect()
    }

    /// When the sandbox that has been unused longest was last used.
    pub(crate) fn longest_idle(&self) -> Option<Instant> {
        self.members.values().filter(|member| member.busy == 0).map(|member| member.idle_since).min()
    }

    /// Takes out the sandbox that has been unused longest.
    pub(crate) fn take_longest_idle(&mut self) -> Option<MemberKey> {
        let unused = self.members.iter().filter(|(_, member)| member.busy == 0);
        let key = unused.min_by_key(|(_, member)| member.idle_since).map(|(key, _)| *key)?;
        self.remove(key);
        Some(key)
    }

    /// Takes out every unused sandbox; those in use follow as they become free.
    pub(crate) fn drain(&mut self, now: Instant) -> Vec<MemberKey> {
        self.draining = true;
        self.take_idle(now, Duration::ZERO, 0)
    }

    /// Takes out every sandbox, in use or not.
    pub(crate) fn take_all(&mut self) -> Vec<MemberKey> {
        self.draining = true;
        self.free.clear();
        self.members.drain().map(|(key, _)| key).collect()
    }

    /// The revision is called again: keep its sandboxes from now on.
    pub(crate) const fn revive(&mut self) {
        self.draining = false;
    }

    /// Sandboxes that there are or will be.
    pub(crate) fn size(&self) -> usize {
        self.members.len() + self.starting
    }

    /// Whether sandboxes are being started.
    pub(crate) const fn is_starting(&self) -> bool {
        self.starting > 0
    }

    /// Whether nothing is here and nobody waits.
    pub(crate) fn is_unused(&self) -> bool {
        self.size() == 0 && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests;
