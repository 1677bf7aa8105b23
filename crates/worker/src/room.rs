//! Sandboxes that run one thing and are thrown away.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use impuls_domain::{Deadline, InvocationId};
use impuls_sandbox::{Assignment, Call, Connection, Exit, Hold, InitFailure, Sandbox, SandboxError, Waiting};
use tokio::time::Instant;

use crate::start::{self, StartContext};

/// How long the end of a killed sandbox is waited for.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Such a sandbox; destroyed by drop, whatever runs in it.
pub(crate) struct Room {
    pub(crate) context: Arc<StartContext>,
    pub(crate) sandbox: Arc<dyn Sandbox>,
    pub(crate) prewarmed: bool,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.context.destroy(self.sandbox.clone());
    }
}

impl Room {
    /// Assigns the sandbox and makes its one call. The connection closes with its last holder.
    pub(crate) async fn call(
        &self,
        assignment: Assignment,
        event: &[u8],
        by: Deadline,
    ) -> Result<(Connection, Waiting), SandboxError> {
        match self.sandbox.assign(assignment, by).await? {
            Ok(()) => {}
            Err(InitFailure::DeadlineExceeded) => return Err(SandboxError::DeadlineExceeded),
            Err(failure) => return Err(SandboxError::DiedInSetup(start::init_failure(&failure).message)),
        }
        let connection = self.sandbox.connect().await?;
        let call = Call {
            request: InvocationId::new(),
            deadline: by,
            deadline_unix_ms: unix_ms(by),
            event,
            context: &[],
            hold: Hold::new(()),
        };
        let waiting = connection.call(call).map_err(SandboxError::Gone)?;
        Ok((connection, waiting))
    }

    /// Kills what is left, waits until it is gone, and says how the agent ended.
    pub(crate) async fn killed(&self) -> Exit {
        let killed = tokio::time::timeout(KILL_TIMEOUT, async {
            let destroyed = self.sandbox.destroy().await;
            (destroyed, self.sandbox.exited().await)
        });
        match killed.await {
            Ok((Ok(()), exit)) => exit,
            failed => {
                tracing::error!(sandbox = %self.sandbox.id(), ?failed, "a one-off sandbox is not known to be gone");
                Exit { code: None, signal: None, out_of_memory: false }
            }
        }
    }
}

fn unix_ms(deadline: Deadline) -> u64 {
    let left = deadline.remaining(Instant::now().into_std());
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + left;
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
