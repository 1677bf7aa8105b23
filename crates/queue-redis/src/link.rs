//! What the tasks of a queue have in common: the names in Redis, the connection that comes and goes, and what is said of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use tokio::time::Instant;

use crate::server::RedisServer;

/// The stream, in whichever database the connection names.
pub(crate) const STREAM: &str = "impuls:invocations";
/// The group of all servers.
pub(crate) const GROUP: &str = "impuls";
/// What is waited after a connection was lost; twice as long every time after.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What is waited at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether the server can be reached, said once when that changes, whoever notices.
#[derive(Debug, Default)]
pub(crate) struct Health {
    away: AtomicBool,
}

impl Health {
    fn lost(&self, server: &RedisServer, error: &RedisError) {
        if !self.away.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "cannot use Redis at {}; asynchronous calls are delivered by looking at the database until it is back",
                server.place()
            );
        }
    }

    fn found(&self, server: &RedisServer) {
        if self.away.swap(false, Ordering::SeqCst) {
            tracing::info!("Redis at {} is back", server.place());
        }
    }
}

/// A connection that is made again after it was lost, with pauses.
pub(crate) struct Link<'q> {
    server: &'q RedisServer,
    health: &'q Health,
    answer: Duration,
    connection: Option<MultiplexedConnection>,
    pause: Duration,
    not_before: Instant,
}

impl<'q> Link<'q> {
    /// Not connected yet; no answer may take longer than this.
    pub(crate) fn new(server: &'q RedisServer, health: &'q Health, answer: Duration) -> Self {
        let not_before = Instant::now();
        Self { server, health, answer, connection: None, pause: FIRST_PAUSE, not_before }
    }

    /// The connection, made if it is time; `None` while the server is given a rest.
    pub(crate) async fn connection(&mut self) -> Option<&mut MultiplexedConnection> {
        if self.connection.is_none() && self.not_before <= Instant::now() {
            match self.prepared().await {
                Ok(connection) => {
                    self.health.found(self.server);
                    self.pause = FIRST_PAUSE;
                    self.connection = Some(connection);
                }
                Err(error) => self.lost(&error),
            }
        }
        self.connection.as_mut()
    }

    async fn prepared(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.server.connect(self.answer).await?;
        make_group(&mut connection).await?;
        Ok(connection)
    }

    /// The connection is of no use any more.
    pub(crate) fn lost(&mut self, error: &RedisError) {
        self.health.lost(self.server, error);
        self.connection = None;
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Waits until there may be a connection again.
    pub(crate) async fn rest(&self) {
        tokio::time::sleep_until(self.not_before).await;
    }
}

/// Makes stream and group unless they are there. A new group is offered everything that is in the stream.
pub(crate) async fn make_group(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let made: RedisResult<()> =
        redis::cmd("XGROUP").arg(&["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).query_async(connection).await;
    match made {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        other => other,
    }
}
