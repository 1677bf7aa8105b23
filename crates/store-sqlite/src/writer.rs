//! The one task that changes the database. Requests that arrive while a commit runs share the next transaction, so
//! that the price of making something durable, one sync of the disk, is paid once for all of them:
//!
//! ```text
//!   request ─┐                    ┌─ savepoint: request ─┐
//!   request ─┼─> queue ──> BEGIN ─┼─ savepoint: request ─┼─> COMMIT ──> answer all
//!   request ─┘  (bounded)         └─ savepoint: request ─┘
//! ```
//!
//! Accepting invocations and their ends, which come by the thousand, are made by one statement for many (`together`). A request
//! that is refused is undone alone. If SQLite itself gives up the transaction (a full disk does that),
//! every request of the group fails, and nothing of any of them is kept.

mod append;
mod apply;
mod async_invocations;
mod retention;
mod schedules;
mod together;

use impuls_store::rows::{AliasRow, FunctionRow, InvocationRow, Key, RevisionRow};
use impuls_store::{Filling, Row, StoreError, Table};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::async_invocations::{AsyncWork, ClaimRow, DeadRow, PruneRow, PutBackRow};
pub(crate) use self::retention::RetentionWork;
pub(crate) use self::schedules::{ScheduleWork, TickRow};

use crate::error::{SqliteError, query_failed};

/// Requests that may wait; a caller more waits for room.
const QUEUE: usize = 256;
/// Requests that share a transaction at most, so that the first does not wait for ever.
const GROUP: usize = 128;

/// One change.
#[derive(Debug)]
pub(crate) enum Work {
    Create(Box<(FunctionRow, RevisionRow)>),
    /// What is expected to be there, what replaces it, and its revision.
    Deploy(Box<(FunctionRow, FunctionRow, RevisionRow)>),
    Delete(Key),
    PutAlias(Key, AliasRow),
    DeleteAlias(Key, String),
    /// Records, and how many each function keeps.
    Append(Vec<InvocationRow>, u32),
    Async(Box<AsyncWork>),
    Retention(Box<RetentionWork>),
    Schedule(Box<ScheduleWork>),
    /// Key, archive, and when it was made.
    PutBuild([u8; 32], [u8; 32], i64),
    /// Whole rows from another store, as part of what fills this one.
    Put(Box<Filling>, Table, Vec<Row>),
    /// What those rows come from.
    PutFilling(Box<Filling>),
}

#[derive(Debug)]
enum Request {
    Work(Job),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// A change that somebody waits for. The answer says how much there was to change.
#[derive(Debug)]
struct Job {
    work: Work,
    action: &'static str,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

/// The way to the task. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Writer(mpsc::Sender<Request>);

impl Writer {
    /// Starts the task, which ends when the last handle is dropped or the store is closed.
    pub(crate) fn start(connection: SqliteConnection) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(serve(connection, queue));
        Self(requests)
    }

    /// Has the change made, and waits until it is durable. If the caller goes away, it is made all the same, or
    /// was never queued.
    pub(crate) async fn run(&self, work: Work, action: &'static str) -> Result<u64, StoreError> {
        let (answer, answered) = oneshot::channel();
        let closed = || SqliteError::Closed.during(action);
        self.0.send(Request::Work(Job { work, action, answer })).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Has everything that was asked for before finished, and the database closed. Repeatable.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        if self.0.send(Request::Close(answer)).await.is_err() {
            return Ok(());
        }
        answered.await.unwrap_or(Ok(()))
    }
}

async fn serve(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Request>) {
    let mut requests = Vec::with_capacity(GROUP);
    let mut closers = Vec::new();
    while closers.is_empty() && queue.recv_many(&mut requests, GROUP).await > 0 {
        let mut jobs = Vec::with_capacity(requests.len());
        for request in requests.drain(..) {
            match request {
                Request::Work(job) if closers.is_empty() => jobs.push(job),
                Request::Work(job) => refuse(job),
                Request::Close(answer) => closers.push(answer),
            }
        }
        commit(&mut connection, jobs).await;
    }
    let closed = close(connection).await;
    queue.close();
    while let Some(request) = queue.recv().await {
        match request {
            Request::Work(job) => refuse(job),
            Request::Close(answer) => closers.push(answer),
        }
    }
    // Only the first is told of a failure; the others asked for what was done already.
    let answers = std::iter::once(closed).chain(std::iter::repeat_with(|| Ok(())));
    closers.into_iter().zip(answers).for_each(|(closer, answer)| drop(closer.send(answer)));
}

fn refuse(job: Job) {
    let refusal = SqliteError::Closed.during(job.action);
    drop(job.answer.send(Err(refusal)));
}

async fn close(mut connection: SqliteConnection) -> Result<(), StoreError> {
    let failed = query_failed("closing the database");
    run(&mut connection, "PRAGMA optimize").await.map_err(&failed)?;
    run(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await.map_err(&failed)?;
    connection.close().await.map_err(failed)
}

/// Makes all changes in one transaction and answers each once that is decided.
async fn commit(connection: &mut SqliteConnection, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let (works, waiting): (Vec<Work>, Vec<_>) =
        jobs.into_iter().map(|job| (job.work, (job.action, job.answer))).unzip();
    let results = transact(connection, &works).await;
    match results {
        Ok(results) => {
            for ((action, answer), result) in waiting.into_iter().zip(results) {
                // Whoever does not wait any more does not want the answer.
                drop(answer.send(result.map_err(|refusal| refusal.during(action))));
            }
        }
        Err(error) => {
            let error = SqliteError::from(error);
            for (action, answer) in waiting {
                drop(answer.send(Err(error.clone().during(action))));
            }
        }
    }
}

/// Why one change was not made.
#[derive(Debug)]
enum Refusal {
    /// The seam has a word for it.
    Store(StoreError),
    /// SQLite failed.
    Sqlite(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Refusal {
    fn during(self, action: &'static str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Sqlite(error) => query_failed(action)(error),
        }
    }
}

/// One transaction. `Err` means that nothing of it was kept.
async fn transact(
    connection: &mut SqliteConnection,
    works: &[Work],
) -> Result<Vec<Result<u64, Refusal>>, sqlx::Error> {
    run(connection, "BEGIN IMMEDIATE").await?;
    let made = match together::make(connection, works).await {
        Ok(made) => made,
        Err(error) => return abandon(connection, error).await,
    };
    let mut results = Vec::with_capacity(works.len());
    for (work, made) in works.iter().zip(made) {
        if let Some(changed) = made {
            results.push(Ok(changed));
            continue;
        }
        match apply_alone(connection, work).await {
            Ok(result) => results.push(result),
            Err(error) => return abandon(connection, error).await,
        }
    }
    match run(connection, "COMMIT").await {
        Ok(()) => Ok(results),
        Err(error) => abandon(connection, error).await,
    }
}

/// Makes one change such that its refusal undoes nothing else. `Err` means that the transaction is lost.
async fn apply_alone(
    connection: &mut SqliteConnection,
    work: &Work,
) -> Result<Result<u64, Refusal>, sqlx::Error> {
    run(connection, "SAVEPOINT request").await?;
    let result = apply::apply(connection, work).await;
    if result.is_err()
        && let Err(lost) = run(connection, "ROLLBACK TO request").await
    {
        // SQLite has rolled everything back by itself; its first error is the one worth telling.
        return Err(match result {
            Err(Refusal::Sqlite(first)) => first,
            _ => lost,
        });
    }
    run(connection, "RELEASE request").await?;
    Ok(result)
}

async fn abandon<T>(connection: &mut SqliteConnection, error: sqlx::Error) -> Result<T, sqlx::Error> {
    // Fails only if SQLite has rolled back already.
    drop(run(connection, "ROLLBACK").await);
    Err(error)
}

async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests;
