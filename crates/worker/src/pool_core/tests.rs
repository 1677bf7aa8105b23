use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive,
    Started,
    StartFailed,
    StartDeferred,
    Leave(usize),
    AbandonOldest,
    Lost(usize),
    Drain,
    Revive,
    TakeIdle(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Arrive),
        5 => Just(Step::Started),
        1 => Just(Step::StartFailed),
        1 => Just(Step::StartDeferred),
        6 => any::<prop::sample::Index>().prop_map(|i| Step::Leave(i.index(1000))),
        1 => Just(Step::AbandonOldest),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Lost(i.index(1000))),
        1 => Just(Step::Drain),
        1 => Just(Step::Revive),
        1 => (0usize..3).prop_map(Step::TakeIdle),
    ];
    prop::collection::vec(step, 0..300)
}

/// What the outside world holds, checked against the core after every step.
#[derive(Default)]
struct World {
    running: BTreeMap<MemberKey, u32>,
    waiting: VecDeque<Ticket>,
    starting: usize,
}

impl World {
    fn nth_running(&self, n: usize) -> Option<MemberKey> {
        let busy: Vec<_> = self.running.iter().filter(|(_, busy)| **busy > 0).map(|(key, _)| *key).collect();
        busy.get(n % busy.len().max(1)).copied()
    }

    fn step(&mut self, core: &mut PoolCore, step: Step, now: Instant) {
        match step {
            Step::Arrive => match core.arrive() {
                Arrival::Run(key) => *self.running.get_mut(&key).expect("a slot of a live sandbox") += 1,
                Arrival::Wait { ticket, start } => {
                    self.waiting.push_back(ticket);
                    self.starting += usize::from(start);
                }
                Arrival::Refuse => assert_eq!(self.waiting.len(), QUEUE),
            },
            Step::Started if self.starting > 0 => {
                self.starting -= 1;
                let (key, handed) = core.started(now);
                for ticket in &handed {
                    assert_eq!(self.waiting.pop_front(), Some(*ticket), "oldest first");
                }
                self.running.insert(key, u32::try_from(handed.len()).expect("few"));
            }
            Step::StartFailed if self.starting > 0 => {
                self.starting -= 1;
                let (failed, start) = core.start_failed();
                for ticket in failed {
                    assert_eq!(self.waiting.pop_front(), Some(ticket), "oldest first");
                }
                self.starting += usize::from(start);
            }
            Step::StartDeferred if self.starting > 0 => {
                self.starting -= 1;
                for ticket in core.start_deferred() {
                    assert_eq!(self.waiting.pop_front(), Some(ticket), "oldest first");
                }
            }
            Step::Leave(n) => {
                let Some(key) = self.nth_running(n) else { return };
                match core.leave(key) {
                    Leave::Hand(ticket) => assert_eq!(self.waiting.pop_front(), Some(ticket), "oldest first"),
                    Leave::Keep => *self.running.get_mut(&key).expect("live") -= 1,
                    Leave::Destroy => assert_eq!(self.running.remove(&key), Some(1)),
                    Leave::Gone => panic!("a live sandbox is not gone"),
                }
            }
            Step::AbandonOldest => {
                if let Some(ticket) = self.waiting.pop_front() {
                    core.abandon(ticket);
                }
            }
            Step::Lost(n) => {
                let keys: Vec<_> = self.running.keys().copied().collect();
                let Some(key) = keys.get(n % keys.len().max(1)) else { return };
                self.running.remove(key);
                self.starting += usize::from(core.lost(*key));
            }
            Step::Drain => self.taken(core.drain(now)),
            Step::Revive => core.revive(),
            Step::TakeIdle(keep) => self.taken(core.take_idle(now, Duration::ZERO, keep)),
            Step::Started | Step::StartFailed | Step::StartDeferred => {}
        }
    }

    fn taken(&mut self, keys: Vec<MemberKey>) {
        for key in keys {
            assert_eq!(self.running.remove(&key), Some(0), "only unused sandboxes are taken out");
        }
    }
}

const QUEUE: usize = 12;

proptest! {
    #[test]
    fn slots_are_never_oversold_and_nobody_waits_without_a_reason(slots in 1u32..5, steps in steps()) {
        let mut core = PoolCore::new(slots, QUEUE);
        let mut world = World::default();
        let start = Instant::now();
        for (step, n) in steps.into_iter().zip(0..) {
            world.step(&mut core, step, start + Duration::from_secs(n));
            prop_assert!(world.running.values().all(|busy| *busy <= slots), "a slot was sold twice");
            prop_assert_eq!(core.size(), world.running.len() + world.starting);
            let free: u32 = world.running.values().map(|busy| slots - busy).sum();
            prop_assert_eq!(core.free.len(), free as usize);
            if !world.waiting.is_empty() {
                prop_assert_eq!(free, 0, "a call waits beside a free slot");
                prop_assert!(world.starting > 0 || !world.running.is_empty(), "calls wait for nothing");
            }
        }
    }
}

#[test]
fn one_start_serves_as_many_calls_as_a_sandbox_has_slots() {
    let mut core = PoolCore::new(4, 100);
    let starts = (0..9).filter(|_| matches!(core.arrive(), Arrival::Wait { start: true, .. })).count();
    assert_eq!(starts, 3);
}

#[test]
fn the_warmest_sandbox_is_taken_first() {
    let mut core = PoolCore::new(1, 10);
    let now = Instant::now();
    core.begin_warm_up();
    core.begin_warm_up();
    let (first, _) = core.started(now);
    let (second, _) = core.started(now);
    assert_eq!(core.arrive(), Arrival::Run(second));
    assert_eq!(core.arrive(), Arrival::Run(first));
    core.leave(second);
    core.leave(first);
    assert_eq!(core.arrive(), Arrival::Run(first));
}

#[test]
fn min_warm_sandboxes_outlive_the_idle_timeout() {
    let mut core = PoolCore::new(1, 10);
    let (now, timeout) = (Instant::now(), Duration::from_secs(5));
    for _ in 0..3 {
        core.begin_warm_up();
        core.started(now);
    }
    assert_eq!(core.take_idle(now, timeout, 2).len(), 0, "all were just used");
    assert_eq!(core.take_idle(now + timeout, timeout, 2).len(), 1);
    assert_eq!(core.take_idle(now + timeout * 9, timeout, 2).len(), 0);
}

#[test]
fn a_sandbox_that_is_used_again_and_again_is_not_idle() {
    let mut core = PoolCore::new(1, 10);
    let (mut now, timeout) = (Instant::now(), Duration::from_secs(5));
    core.begin_warm_up();
    let (key, _) = core.started(now);
    for _ in 0..10 {
        now += Duration::from_secs(2);
        assert_eq!(core.arrive(), Arrival::Run(key));
        core.leave(key);
        assert!(core.take_idle(now, timeout, 0).is_empty());
    }
}
