//! Changes in transactions, and bounds of every wait.
//!
//! A change that collides with another one is made again from its beginning. What returned `Ok` is committed: the
//! server has said so.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use impuls_store::StoreError;
use sqlx::{PgConnection, PgPool};

use crate::error::{PostgresError, is_collision, query_failed};

/// How long the server may work on one statement.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request may take in all, so that a server that has vanished holds nobody for ever.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
/// How often a change is made that collides.
const TRIES: u32 = 6;
/// What is waited before the second time; later times wait longer.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// What one transaction does. It may be done several times; all but the last are undone.
#[async_trait]
pub(crate) trait Change: Sync {
    /// What comes of it.
    type Made: Send;

    /// Does it within a transaction.
    async fn make(&self, connection: &mut PgConnection) -> Result<Self::Made, Refusal>;
}

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The seam has a word for it.
    Store(StoreError),
    /// PostgreSQL failed.
    Postgres(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Makes a change in a transaction, and returns when it is durable.
pub(crate) async fn transact<C: Change>(
    pool: &PgPool,
    action: &'static str,
    change: &C,
) -> Result<C::Made, StoreError> {
    again_after_collisions(action, || within_transaction(pool, change)).await
}

/// Makes a change of one statement, which is a transaction by itself: fewer messages to the server. Returns when it is
/// durable.
pub(crate) async fn alone<C: Change>(
    pool: &PgPool,
    action: &'static str,
    change: &C,
) -> Result<C::Made, StoreError> {
    again_after_collisions(action, || async {
        let mut connection = pool.acquire().await?;
        change.make(&mut connection).await
    })
    .await
}

async fn again_after_collisions<M, F: Future<Output = Result<M, Refusal>>>(
    action: &'static str,
    once: impl Fn() -> F,
) -> Result<M, StoreError> {
    let mut tried = 1;
    loop {
        let made = tokio::time::timeout(REQUEST_TIMEOUT, once());
        match made.await.map_err(|_| timed_out(action))? {
            Ok(made) => return Ok(made),
            Err(Refusal::Postgres(error)) if tried < TRIES && is_collision(&error) => {
                // Apart from each other, or they would meet again.
                let apart = uuid::Uuid::now_v7().as_bytes().last().map_or(0, |byte| u32::from(byte % 8));
                tokio::time::sleep(FIRST_WAIT * (1 << tried) + Duration::from_millis(apart.into())).await;
                tried += 1;
            }
            Err(Refusal::Postgres(error)) => return Err(query_failed(action)(error)),
            Err(Refusal::Store(error)) => return Err(error),
        }
    }
}

async fn within_transaction<C: Change>(pool: &PgPool, change: &C) -> Result<C::Made, Refusal> {
    let mut transaction = pool.begin().await?;
    match change.make(&mut transaction).await {
        Ok(made) => {
            transaction.commit().await?;
            Ok(made)
        }
        Err(refusal) => {
            // Fails only if the connection is lost, and the transaction with it.
            drop(transaction.rollback().await);
            Err(refusal)
        }
    }
}

/// Waits for the answer to one query, but not for ever.
pub(crate) async fn bounded<T>(
    action: &'static str,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer).await;
    answer.map_err(|_| timed_out(action))?.map_err(query_failed(action))
}

pub(crate) fn timed_out(action: &'static str) -> StoreError {
    PostgresError::from(sqlx::Error::PoolTimedOut).during(action)
}
