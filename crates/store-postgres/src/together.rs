//! Changes that come by the thousand, made by one statement for many: accepting invocations, and storing their ends.
//!
//! ```text
//!   request ─┐                    ┌─> one statement, which is a commit ─> each is answered
//!   request ─┼─> queue ──> group ─┤
//!   request ─┘  (bounded)         └─> refused: each by itself ──────────> each is answered
//! ```
//!
//! A group is what was asked for while the one before it was made, so nobody waits for company. One that is alone is a group as
//! well.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use impuls_store::StoreError;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::error::{PostgresError, query_failed};
use crate::transaction::{Change, REQUEST_TIMEOUT, Refusal, alone, timed_out};
use crate::write::unless_foreign;

/// Requests that may wait; a caller more waits for room.
const QUEUE: usize = 512;
/// Requests that one statement takes at most, so that the first does not wait for ever.
const GROUP: usize = 128;
/// Bytes of users' that one statement takes at most, unless a single request has more.
const BYTES: usize = 4 << 20;

/// A change that can be made together with others of its kind.
#[async_trait]
pub(crate) trait Together: Send + Sync + Sized + 'static {
    /// What it is, for errors.
    const ACTION: &'static str;

    /// What it changes; two of the same are not made together.
    fn id(&self) -> Uuid;

    /// How many bytes of users' it has.
    fn bytes(&self) -> usize;

    /// Makes all in one statement, and gives the ids of those that there was something to change for. On `Err` nothing has
    /// changed.
    async fn make_all(all: &[&Self], connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error>;
}

/// One of them by itself; true if there was something to change.
struct One<'c, C>(&'c C);

#[async_trait]
impl<C: Together> Change for One<'_, C> {
    type Made = bool;

    async fn make(&self, connection: &mut PgConnection) -> Result<bool, Refusal> {
        let made = C::make_all(&[self.0], connection).await;
        Ok(!made.map_err(unless_foreign(StoreError::NotFound))?.is_empty())
    }
}

/// A change that somebody waits for.
#[derive(Debug)]
struct Job<C> {
    change: C,
    since: Instant,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl<C> Job<C> {
    /// Whoever does not wait any more does not want the answer.
    fn tell(self, answer: Result<bool, StoreError>) {
        drop(self.answer.send(answer));
    }
}

/// The way to the task that makes groups of one kind.
#[derive(Debug)]
pub(crate) struct Groups<C>(mpsc::Sender<Job<C>>);

impl<C: Together> Groups<C> {
    /// Starts the task, which ends with this. Nobody waits much longer than this patience for a database that cannot be
    /// reached: the pool's own, after which it gives up.
    pub(crate) fn start(pool: PgPool, patience: Duration) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(serve(pool, queue, patience));
        Self(jobs)
    }

    /// Has the change made, and waits until it is durable; true if there was something to change. If the caller goes away, it is
    /// made all the same, or was never queued.
    pub(crate) async fn make(&self, change: C) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let made = async {
            self.0.send(Job { change, since: Instant::now(), answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(REQUEST_TIMEOUT, made).await {
            Ok(Some(made)) => made,
            // The runtime of the task is gone.
            Ok(None) => Err(query_failed(C::ACTION)(sqlx::Error::PoolClosed)),
            Err(_) => Err(timed_out(C::ACTION)),
        }
    }
}

async fn serve<C: Together>(pool: PgPool, mut queue: mpsc::Receiver<Job<C>>, patience: Duration) {
    let mut waiting = Vec::with_capacity(GROUP);
    while !waiting.is_empty() || queue.recv_many(&mut waiting, GROUP).await > 0 {
        let connection = pool.acquire().await;
        // What came while the connection was made comes along.
        let room = if connection.is_ok() { GROUP.saturating_sub(waiting.len()) } else { QUEUE };
        waiting.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(room));
        match connection {
            Ok(mut connection) => {
                let rest = waiting.split_off(fitting(&waiting));
                let refused = together(&mut connection, std::mem::replace(&mut waiting, rest)).await;
                drop(connection);
                each(&pool, refused).await;
            }
            Err(error) => {
                let may_come_back = matches!(error, sqlx::Error::PoolTimedOut);
                let has_waited = |job: &mut Job<C>| !may_come_back || job.since.elapsed() >= patience;
                let failed: Vec<Job<C>> = waiting.extract_if(.., has_waited).collect();
                fail(failed, error);
            }
        }
    }
}

/// How many of these, from the first on, one statement takes; at least one.
fn fitting<C: Together>(jobs: &[Job<C>]) -> usize {
    let mut bytes = 0_usize;
    let fits = |job: &&Job<C>| {
        bytes = bytes.saturating_add(job.change.bytes());
        bytes <= BYTES
    };
    jobs.iter().take(GROUP).take_while(fits).count().max(1)
}

/// Makes all that it can by one statement, and gives back those that have to be made by themselves.
async fn together<C: Together>(connection: &mut PgConnection, group: Vec<Job<C>>) -> Vec<Job<C>> {
    // Who asks for the same twice gets two answers.
    let mut seen = HashSet::new();
    let (group, mut again): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|job| seen.insert(job.change.id()));
    let changes: Vec<&C> = group.iter().map(|job| &job.change).collect();
    match timeout(REQUEST_TIMEOUT, C::make_all(&changes, connection)).await {
        Ok(Ok(made)) => {
            let made: HashSet<Uuid> = made.into_iter().collect();
            for job in group {
                let is_made = made.contains(&job.change.id());
                job.tell(Ok(is_made));
            }
        }
        // The server's refusal of one of them, or another transaction in the way.
        Ok(Err(sqlx::Error::Database(_))) => again.extend(group),
        Ok(Err(error)) => fail(group, error),
        Err(_) => group.into_iter().for_each(|job| job.tell(Err(timed_out(C::ACTION)))),
    }
    again
}

/// Makes each by itself.
async fn each<C: Together>(pool: &PgPool, jobs: Vec<Job<C>>) {
    let mut tasks = JoinSet::new();
    for job in jobs {
        let pool = pool.clone();
        tasks.spawn(async move {
            let made = alone(&pool, C::ACTION, &One(&job.change)).await;
            job.tell(made);
        });
    }
    tasks.join_all().await;
}

/// Tells all of them the same.
fn fail<C: Together>(jobs: Vec<Job<C>>, error: sqlx::Error) {
    let error = Arc::new(error);
    for job in jobs {
        job.tell(Err(PostgresError::Query(error.clone()).during(C::ACTION)));
    }
}
