//! A sandbox that holds a revision's code.

use std::sync::Arc;
use std::time::Duration;

use impuls_domain::Logs;
use impuls_sandbox::{Connection, Sandbox, SandboxError};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::front;
use crate::pool::Pool;
use crate::pool_core::MemberKey;

/// A live sandbox of a pool, with one connection for each front thread that has used it.
///
/// It keeps its pool alive, and the pool keeps it until it is lost or destroyed, which every sandbox once is.
pub(crate) struct Live {
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: MemberKey,
    pub(crate) sandbox: Arc<dyn Sandbox>,
    connections: Box<[OnceCell<Connection>]>,
    first: Mutex<Option<FirstCall>>,
}

/// What the first call of a sandbox reports besides its own.
#[derive(Default)]
pub(crate) struct FirstCall {
    /// What the top level wrote.
    pub(crate) logs: Logs,
    /// How long the cold start took.
    pub(crate) init_duration: Duration,
}

impl Live {
    pub(crate) fn new(
        pool: Arc<Pool>,
        key: MemberKey,
        sandbox: Arc<dyn Sandbox>,
        first: FirstCall,
    ) -> Arc<Self> {
        let connections = (0..=pool.context.config.fronts).map(|_| OnceCell::new()).collect();
        Arc::new(Self { pool, key, sandbox, connections, first: Mutex::new(Some(first)) })
    }

    /// This thread's connection, made on first use.
    pub(crate) async fn connection(&self) -> Result<&Connection, SandboxError> {
        let place = front::place(self.connections.len().saturating_sub(1));
        let Some(cell) = self.connections.get(place) else {
            return Err(SandboxError::Gone(impuls_sandbox::Gone));
        };
        match cell.get() {
            Some(connection) => Ok(connection),
            None => cell.get_or_try_init(|| self.sandbox.connect()).await,
        }
    }

    /// What the first call reports; `None` for every later one.
    pub(crate) fn take_first(&self) -> Option<FirstCall> {
        // Looked at without waiting: two first calls at once share nothing that must be exact.
        self.first.try_lock().and_then(|mut first| first.take())
    }
}
