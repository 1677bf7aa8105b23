//! Cases of `ScheduleStore`.
#![expect(clippy::indexing_slicing, reason = "a case that does not find what it stored panics")]

use std::time::Duration;

use impuls_domain::schedule::SCHEDULES_PER_FUNCTION;
use impuls_domain::{Cadence, CronRule, FunctionId, Interval, InvocationId, Qualifier, Schedule, ScheduleId};

use super::async_invocation::{Queue, queued};
use super::fixture::{at, create};
use crate::{ScheduleStore, StoreError, Tick};

/// What the cases need.
pub trait Schedules: Queue + ScheduleStore {}

impl<S: Queue + ScheduleStore> Schedules for S {}

pub(super) fn schedule(function: FunctionId, name: &str) -> Schedule {
    Schedule {
        id: ScheduleId::new(),
        function,
        name: name.parse().expect("a name"),
        qualifier: Qualifier::Latest,
        cadence: Cadence::Every(Interval::new(Duration::from_millis(1_500)).expect("an interval")),
        event: None,
        enabled: true,
        next_tick: Some(at(5)),
        last_tick: None,
        created_at: at(0),
        updated_at: at(1),
    }
}

async fn list(store: &impl Schedules, function: FunctionId) -> Vec<Schedule> {
    store.list_schedules(function).await.expect("the store answers")
}

/// Every field survives; names are in order; functions are separate.
pub async fn schedules_come_back_whole_by_name(store: &impl Schedules) {
    let function = create(store, "timed").await.id;
    let cron = Schedule {
        cadence: Cadence::Cron(CronRule::new("*/5 * * * *", "Europe/Berlin").expect("a rule")),
        qualifier: "3".parse().expect("a version"),
        event: Some(b"{}".to_vec()),
        enabled: false,
        next_tick: None,
        last_tick: Some(at(3)),
        ..schedule(function, "b")
    };
    let every = schedule(function, "a");
    for schedule in [&cron, &every] {
        store.put_schedule(schedule).await.expect("kept");
        store.put_schedule(schedule).await.expect("kept again");
    }
    assert_eq!(list(store, function).await, [every, cron]);
    assert_eq!(list(store, FunctionId::new()).await, []);
    let refused = store.put_schedule(&schedule(FunctionId::new(), "a")).await;
    assert!(matches!(refused, Err(StoreError::NotFound)), "{refused:?}");
}

/// A schedule of the same name replaces the one before; deleting is repeatable.
pub async fn a_name_stands_for_the_last_schedule(store: &impl Schedules) {
    let function = create(store, "timed").await.id;
    let (first, second) = (schedule(function, "a"), schedule(function, "a"));
    store.put_schedule(&first).await.expect("kept");
    store.put_schedule(&second).await.expect("kept");
    assert_eq!(list(store, function).await, std::slice::from_ref(&second));
    assert!(!store.delete_schedule(first.id).await.expect("the store answers"));
    assert!(store.delete_schedule(second.id).await.expect("the store answers"));
    assert!(!store.delete_schedule(second.id).await.expect("the store answers"));
}

/// A function has no more schedules than it may have.
pub async fn schedules_are_bounded(store: &impl Schedules) {
    let function = create(store, "timed").await.id;
    for n in 0..SCHEDULES_PER_FUNCTION {
        store.put_schedule(&schedule(function, &n.to_string())).await.expect("kept");
    }
    let refused = store.put_schedule(&schedule(function, "more")).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    store.put_schedule(&schedule(function, "7")).await.expect("one is replaced");
}

/// Only what is due, in order, no more than asked for.
pub async fn due_schedules_come_longest_due_first(store: &impl Schedules) {
    let function = create(store, "timed").await.id;
    for (name, tick) in [("a", Some(at(6))), ("b", Some(at(5))), ("c", None), ("d", Some(at(7)))] {
        store.put_schedule(&Schedule { next_tick: tick, ..schedule(function, name) }).await.expect("kept");
    }
    let due = async |limit| {
        let due = store.due_schedules(at(6), limit).await.expect("the store answers");
        due.iter().map(|schedule| schedule.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(due(9).await, ["b", "a"]);
    assert_eq!(due(1).await, ["b"]);
}

/// Of two who fire the same tick one wins, and there is one invocation.
pub async fn a_tick_is_fired_once(store: &impl Schedules) {
    let function = create(store, "timed").await.id;
    let schedule = schedule(function, "a");
    store.put_schedule(&schedule).await.expect("kept");
    let mut invocation = queued(function);
    invocation.id = schedule.id.invocation_at(5_000);
    let tick = Tick { schedule: schedule.id, at: at(5), next: Some(at(9)), invocation: invocation.clone() };
    assert!(store.fire(&tick).await.expect("the store answers"));
    assert!(!store.fire(&tick).await.expect("the store answers"));
    assert_eq!(
        store.find_async_invocation(invocation.id).await.expect("the store answers"),
        Some(invocation)
    );
    let moved = Schedule { last_tick: Some(at(5)), next_tick: Some(at(9)), ..schedule.clone() };
    assert_eq!(list(store, function).await, [moved]);
    let gone = Tick { schedule: ScheduleId::new(), ..tick.clone() };
    assert!(!store.fire(&gone).await.expect("the store answers"));
    // A tick that was fired before the schedule was made anew under the same id is not run again.
    store.put_schedule(&schedule).await.expect("kept");
    assert!(store.fire(&Tick { next: None, ..tick }).await.expect("the store answers"));
    let waiting = store.find_async_invocation(InvocationId::new()).await.expect("the store answers");
    assert_eq!((waiting, list(store, function).await[0].next_tick), (None, None));
}

/// A schedule goes with its function.
pub async fn deleting_a_function_takes_its_schedules_along(store: &impl Schedules) {
    let function = create(store, "timed").await.id;
    store.put_schedule(&schedule(function, "a")).await.expect("kept");
    store.delete_function(function).await.expect("deleted");
    assert_eq!(list(store, function).await, []);
    assert_eq!(store.due_schedules(at(99), 9).await.expect("the store answers"), []);
}
