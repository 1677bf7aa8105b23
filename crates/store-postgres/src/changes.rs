//! What other servers change, heard from the database: every change of a function says so (`NOTIFY`) in its own commit.

use std::time::Duration;

use impuls_domain::FunctionId;
use impuls_store::StoreError;
use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use uuid::Uuid;

use crate::error::PostgresError;

/// Where functions' changes are told; the message is the function's id.
const CHANNEL: &str = "impuls_functions";
/// The advisory lock that every server of a database shares, and that whoever wants the database for itself holds alone.
pub(crate) const USED: i64 = 0x0069_6d70_756c_7301;
/// How long nothing is heard before somebody looks whether the connection still lives.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the database may take to answer then, and to let the listener in.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is waited before the next attempt to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This function, with its versions and aliases; it may be new or gone.
    Function(FunctionId),
    /// Anything: changes may have been missed while nobody listened.
    Anything,
}

/// The changes of functions by whichever server of the database, this one included.
#[derive(Debug)]
pub struct Changes {
    options: PgConnectOptions,
    listener: Option<PgListener>,
    /// Whether it could not listen the last time.
    is_deaf: bool,
    /// Whether nothing was told yet since it listens.
    is_new: bool,
}

impl Changes {
    pub(crate) const fn new(options: PgConnectOptions) -> Self {
        Self { options, listener: None, is_deaf: false, is_new: false }
    }

    /// Begins to listen, and with that says to others that the database is used, as long as this lives and is connected.
    /// [`PostgresError::Taken`] if somebody has it for themselves.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        let listener = listen(&self.options).await;
        self.listener = Some(listener.map_err(|error| error.during("saying that the database is used"))?);
        self.is_new = true;
        Ok(())
    }

    /// Waits for the next change. The first is [`Change::Anything`], as is every first one after the connection was lost:
    /// who reads everything then has missed nothing. While the database is away, it waits. May be dropped half-way; then
    /// nothing is lost that a later [`Change::Anything`] does not make good.
    pub async fn next(&mut self) -> Change {
        let mut taken = false;
        loop {
            let Some(listener) = &mut self.listener else {
                match listen(&self.options).await {
                    Ok(listener) => {
                        self.heard();
                        self.listener = Some(listener);
                        self.is_new = true;
                        taken = false;
                    }
                    Err(error) => {
                        if matches!(error, PostgresError::Taken) && !std::mem::replace(&mut taken, true) {
                            tracing::error!("while this server could not reach it: {error}");
                        }
                        self.heard_nothing(&error);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            };
            if std::mem::take(&mut self.is_new) {
                return Change::Anything;
            }
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(told))) => {
                    let id = told.payload().parse::<Uuid>().map(FunctionId::from_uuid);
                    return id.map_or(Change::Anything, Change::Function);
                }
                Err(_silence) if is_alive(listener).await => {}
                Ok(Ok(None) | Err(_)) | Err(_) => self.listener = None,
            }
        }
    }
}

impl Changes {
    fn heard(&mut self) {
        if std::mem::take(&mut self.is_deaf) {
            tracing::info!("what other servers change is heard again");
        }
    }

    fn heard_nothing(&mut self, error: &PostgresError) {
        let error = error as &dyn std::error::Error;
        if std::mem::replace(&mut self.is_deaf, true) {
            tracing::debug!(error, "still cannot listen for changes");
        } else {
            tracing::warn!(error, "cannot hear what other servers change until the database answers again");
        }
    }
}

async fn listen(options: &PgConnectOptions) -> Result<PgListener, PostgresError> {
    // A pool for each: the last listener's connection, if its other end has vanished, is held by its pool until TCP gives it up.
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE).idle_timeout(None);
    let pool = pool.max_lifetime(None).connect_lazy_with(options.clone());
    let listening = tokio::time::timeout(PATIENCE, async {
        let mut listener = PgListener::connect_with(&pool).await?;
        // What is missed meanwhile has to be known, so whoever listens again says so.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        // As long as this connection lives, whoever wants the database for itself sees that it is used.
        let used = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock_shared($1)").bind(USED);
        if used.fetch_one(&mut listener).await? { Ok(listener) } else { Err(PostgresError::Taken) }
    });
    listening.await.unwrap_or(Err(sqlx::Error::PoolTimedOut.into()))
}

/// A machine that has vanished says nothing, and neither does its connection.
async fn is_alive(listener: &mut PgListener) -> bool {
    let answer = tokio::time::timeout(PATIENCE, sqlx::query("SELECT 1").execute(listener));
    matches!(answer.await, Ok(Ok(_)))
}

/// Says, as part of the transaction, that a function has changed.
pub(crate) async fn tell(connection: &mut PgConnection, function: Uuid) -> Result<(), sqlx::Error> {
    let query = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(function.to_string());
    query.execute(connection).await.map(drop)
}
