//! Asynchronous invocations in the store do what a model of them in a few lines does, whatever order workers, callers, clocks and
//! crashes come in: nothing is lost, nothing is claimed twice while its lease holds, and no old attempt has the last word.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use impuls_domain::{
    AsyncInvocation, AsyncStatus, Completion, FunctionId, InvocationId, Logs, Outcome, RetryPolicy, Tally,
    Usage,
};
use impuls_store::conformance::async_invocation::queued;
use impuls_store::conformance::fixture::{at, create};
use impuls_store::{AsyncInvocationStore as _, Claim, DeadLetters, DeliveryStore as _, PutBack};
use impuls_store_sqlite::SqliteStore;
use proptest::prelude::*;
use time::OffsetDateTime;

/// How long a claim holds.
const LEASE: i64 = 10;
const FUNCTIONS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        function: usize,
        delay: i64,
    },
    /// The clock goes on.
    Pass(i64),
    Claim {
        limit: u32,
        share: u32,
        full: Option<usize>,
        only_half: bool,
    },
    Renew,
    /// Ends or puts back one of all attempts that there ever were.
    Complete {
        attempt: prop::sample::Index,
        dies: bool,
    },
    PutBack {
        attempt: prop::sample::Index,
        delay: i64,
    },
    Cancel(prop::sample::Index),
    Redrive(prop::sample::Index),
    /// The process ends and another opens the file.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    use any as a;
    use prop::sample::Index;
    prop_oneof![
        6 => (0..FUNCTIONS, 0..4i64).prop_map(|(function, delay)| Step::Enqueue { function, delay }),
        3 => (1..15i64).prop_map(Step::Pass),
        5 => (1..6u32, 1..4u32, prop::option::of(0..FUNCTIONS), a::<bool>())
            .prop_map(|(limit, share, full, only_half)| Step::Claim { limit, share, full, only_half }),
        1 => Just(Step::Renew),
        4 => (a::<Index>(), a::<bool>()).prop_map(|(attempt, dies)| Step::Complete { attempt, dies }),
        2 => (a::<Index>(), 0..5i64).prop_map(|(attempt, delay)| Step::PutBack { attempt, delay }),
        1 => a::<Index>().prop_map(Step::Cancel),
        1 => a::<Index>().prop_map(Step::Redrive),
        1 => Just(Step::Crash),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    function: usize,
    status: AsyncStatus,
    attempt: u32,
    due: i64,
    deaths: u32,
}

/// What there is, by id: the ids of one test rise.
#[derive(Debug, Default)]
struct Model {
    now: i64,
    rows: BTreeMap<InvocationId, Row>,
    /// Every attempt that there ever was.
    attempts: Vec<(InvocationId, u32)>,
}

impl Model {
    fn claim(
        &mut self,
        limit: u32,
        share: u32,
        full: Option<usize>,
        only: Option<&[InvocationId]>,
    ) -> Vec<InvocationId> {
        let live = |row: &Row| matches!(row.status, AsyncStatus::Queued | AsyncStatus::Running);
        let may = |(id, row): &(&InvocationId, &Row)| {
            live(row)
                && row.due <= self.now
                && Some(row.function) != full
                && only.is_none_or(|only| only.contains(id))
        };
        let mut oldest: Vec<_> =
            self.rows.iter().filter(may).map(|(id, row)| (row.due, *id, row.function)).collect();
        oldest.sort_unstable();
        oldest.truncate(limit as usize);
        let mut taken: HashMap<usize, u32> = HashMap::new();
        oldest.retain(|(.., function)| {
            let taken = taken.entry(*function).or_default();
            *taken += 1;
            *taken <= share
        });
        let mut ids: Vec<_> = oldest.into_iter().map(|(_, id, _)| id).collect();
        ids.sort_unstable();
        for id in &ids {
            let row = self.rows.get_mut(id).unwrap();
            row.deaths += u32::from(row.status == AsyncStatus::Running);
            (row.status, row.attempt, row.due) = (AsyncStatus::Running, row.attempt + 1, self.now + LEASE);
            self.attempts.push((*id, row.attempt));
        }
        ids
    }

    /// The row, if this attempt is the one that runs.
    fn running(&mut self, (id, attempt): (InvocationId, u32)) -> Option<&mut Row> {
        let row = self.rows.get_mut(&id)?;
        (row.status == AsyncStatus::Running && row.attempt == attempt).then_some(row)
    }
}

fn time(seconds: i64) -> OffsetDateTime {
    at(seconds)
}

fn end(now: i64, dies: bool) -> Completion {
    if dies {
        let failure = impuls_domain::Failure {
            error_type: impuls_domain::ErrorType::FunctionError,
            class: String::new(),
            message: "no".to_owned(),
            stack: None,
        };
        return Completion::without_outcome(failure, &RetryPolicy::DEFAULT, time(now));
    }
    let outcome = Outcome { result: Ok(b"1".to_vec()), logs: Logs::default(), usage: Usage::default() };
    Completion::of(outcome, &RetryPolicy::DEFAULT, time(now))
}

struct Run {
    store: SqliteStore,
    functions: Vec<FunctionId>,
    model: Model,
}

impl Run {
    async fn new(path: &Path) -> Self {
        let store = SqliteStore::open(path).await.unwrap();
        let mut functions = Vec::new();
        for n in 0..FUNCTIONS {
            functions.push(create(&store, &format!("f{n}")).await.id);
        }
        Self { store, functions, model: Model::default() }
    }

    async fn take(&mut self, step: Step, path: &Path) {
        match step {
            Step::Enqueue { function, delay } => self.enqueue(function, delay).await,
            Step::Pass(seconds) => self.model.now += seconds,
            Step::Claim { limit, share, full, only_half } => {
                self.claim((limit, share), full, only_half).await
            }
            Step::Renew => self.renew().await,
            Step::Complete { attempt, dies } => self.complete(attempt, dies).await,
            Step::PutBack { attempt, delay } => self.put_back(attempt, delay).await,
            Step::Cancel(which) => self.cancel(which).await,
            Step::Redrive(which) => self.redrive(which).await,
            Step::Crash => self.store = SqliteStore::open(path).await.unwrap(),
        }
    }

    async fn enqueue(&mut self, function: usize, delay: i64) {
        let (id, due) = (InvocationId::new(), self.model.now + delay);
        let row = AsyncInvocation { id, not_before: time(due), ..queued(self.functions[function]) };
        assert_eq!(self.store.enqueue(&row).await.unwrap(), None);
        self.model.rows.insert(id, Row { function, status: AsyncStatus::Queued, attempt: 0, due, deaths: 0 });
    }

    async fn claim(&mut self, (limit, share): (u32, u32), full: Option<usize>, only_half: bool) {
        let half: Vec<_> = self.model.rows.keys().copied().step_by(2).collect();
        let only = only_half.then_some(half);
        let claim = Claim {
            now: time(self.model.now),
            lease_until: time(self.model.now + LEASE),
            limit,
            share,
            rooms: full.map(|function| (self.functions[function], 0)).into_iter().collect(),
            only: only.clone(),
        };
        let claimed = self.store.claim(claim).await.unwrap();
        let ids: Vec<_> = claimed.iter().map(|row| row.id).collect();
        assert_eq!(ids, self.model.claim(limit, share, full, only.as_deref()));
    }

    async fn renew(&mut self) {
        let until = self.model.now + LEASE;
        let all = self.model.attempts.clone();
        let mut lost = self.store.renew(&all, time(until)).await.unwrap();
        let mut expected = Vec::new();
        for held in all {
            match self.model.running(held) {
                Some(row) => row.due = until,
                None => expected.push(held.0),
            }
        }
        lost.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lost, expected);
    }

    async fn complete(&mut self, attempt: prop::sample::Index, dies: bool) {
        if self.model.attempts.is_empty() {
            return;
        }
        let held = *attempt.get(&self.model.attempts);
        let end = end(self.model.now, dies);
        let done = self.store.complete(held.0, held.1, &end, None).await.unwrap();
        let row = self.model.running(held);
        assert_eq!(done, row.is_some());
        if let Some(row) = row {
            row.status = end.status;
        }
    }

    async fn put_back(&mut self, attempt: prop::sample::Index, delay: i64) {
        if self.model.attempts.is_empty() {
            return;
        }
        let (held, due) = (*attempt.get(&self.model.attempts), self.model.now + delay);
        let deaths = self.model.rows[&held.0].deaths;
        let back =
            PutBack { not_before: time(due), tally: Tally { deaths, ..Tally::default() }, failure: None };
        let done = self.store.put_back(held.0, held.1, &back).await.unwrap();
        let row = self.model.running(held);
        assert_eq!(done, row.is_some());
        if let Some(row) = row {
            (row.status, row.due) = (AsyncStatus::Queued, due);
        }
    }

    async fn cancel(&mut self, which: prop::sample::Index) {
        if self.model.rows.is_empty() {
            return;
        }
        let id = *which.get(&self.model.rows.keys().copied().collect::<Vec<_>>());
        let done = self.store.cancel(id, &Completion::cancelled(time(self.model.now))).await.unwrap();
        let row = self.model.rows.get_mut(&id).unwrap();
        assert_eq!(done, matches!(row.status, AsyncStatus::Queued | AsyncStatus::Running));
        if done {
            row.status = AsyncStatus::Cancelled;
        }
    }

    async fn redrive(&mut self, which: prop::sample::Index) {
        if self.model.rows.is_empty() {
            return;
        }
        let id = *which.get(&self.model.rows.keys().copied().collect::<Vec<_>>());
        let done = self.store.redrive(DeadLetters::One(id), time(self.model.now)).await.unwrap();
        let row = self.model.rows.get_mut(&id).unwrap();
        assert_eq!(done == 1, row.status == AsyncStatus::Dead);
        if done == 1 {
            (row.status, row.due, row.deaths) = (AsyncStatus::Queued, self.model.now, 0);
        }
    }

    async fn is_as_expected(&self) {
        for (id, row) in &self.model.rows {
            let found = self.store.find_async_invocation(*id).await.unwrap().unwrap();
            assert_eq!(
                (found.status, found.attempt, found.tally.deaths),
                (row.status, row.attempt, row.deaths),
                "{id}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("impuls.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(&path).await;
            for step in steps {
                run.take(step, &path).await;
            }
            run.is_as_expected().await;
            tokio::time::timeout(Duration::from_secs(20), run.store.close()).await.unwrap().unwrap();
        });
    }
}
