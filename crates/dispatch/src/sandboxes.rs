//! Which sandboxes are alive, for whoever watches over them.

use impuls_domain::{Caller, FunctionId, FunctionName, SandboxId, VersionNumber};
pub use impuls_sandbox::{Refusals, SandboxUsage, Traffic};

use crate::error::DispatchError;
use crate::invoke::Dispatch;

/// One live sandbox that has a function's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSandbox {
    /// Its id; a UUID of version 7, so it says when the sandbox was made.
    pub id: SandboxId,
    /// Whose code it has.
    pub function: FunctionId,
    /// The function's name when the code was deployed.
    pub function_name: FunctionName,
    /// Which version of it.
    pub version: VersionNumber,
    /// Its memory limit, in MiB.
    pub memory_mib: u32,
    /// Its processor share, in thousandths of a core.
    pub milli_vcpu: u32,
    /// What it has used so far; `None` where the driver cannot tell.
    pub usage: Option<SandboxUsage>,
    /// What its network policy refused so far.
    pub refused: Refusals,
}

/// The sandboxes of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSandboxes {
    /// Those that are alive and have its code, oldest first.
    pub live: Vec<LiveSandbox>,
    /// What its network policy refused since the server was started, in sandboxes that are gone too.
    pub refused: Refusals,
}

impl Dispatch {
    /// Every live sandbox that has a function's code, oldest first. Measures each, so it takes some microseconds for
    /// each.
    pub async fn list_sandboxes(&self, caller: &Caller) -> Result<Vec<LiveSandbox>, DispatchError> {
        if !caller.may_administer() {
            return Err(DispatchError::Denied);
        }
        let mut sandboxes = self.worker.sandboxes().await;
        sandboxes.sort_by_key(|sandbox| sandbox.id);
        Ok(sandboxes)
    }

    /// The sandboxes of one function. Whoever may read the function may see them, which is for the caller of this to
    /// make sure of.
    pub async fn sandboxes_of(&self, function: FunctionId) -> FunctionSandboxes {
        let mut live = self.worker.sandboxes().await;
        live.retain(|sandbox| sandbox.function == function);
        live.sort_by_key(|sandbox| sandbox.id);
        FunctionSandboxes { live, refused: self.worker.refusals(function).await }
    }
}
