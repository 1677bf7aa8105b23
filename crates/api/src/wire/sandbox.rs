//! Live sandboxes, as replies have them.

use impuls_dispatch::{FunctionSandboxes, LiveSandbox, Refusals};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a network policy refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Refusals)]
pub struct RefusalsObject {
    /// Packets; a connection that is tried again and again is several. Up to some seconds old.
    pub packets: u64,
    /// Names that could not be looked up, and addresses that were kept back.
    pub lookups: u64,
}

impl From<Refusals> for RefusalsObject {
    fn from(refused: Refusals) -> Self {
        Self { packets: refused.packets, lookups: refused.lookups }
    }
}

/// One live sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Sandbox)]
pub struct SandboxObject {
    /// Its id; a UUID of version 7, so it says when the sandbox was made.
    pub id: Uuid,
    /// The version whose code it has.
    pub version: u64,
    /// Its memory limit, in MiB.
    pub memory_mb: u32,
    /// Its processor share, in cores.
    pub vcpu: f64,
    /// Processor time that it has used, in milliseconds; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Memory that it has now, in bytes; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most memory that it had, in bytes; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Bytes that it was sent over its network; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_received_bytes: Option<u64>,
    /// Bytes that it has sent, what was refused included; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_sent_bytes: Option<u64>,
    /// What its network policy refused.
    pub refused: RefusalsObject,
}

impl From<&LiveSandbox> for SandboxObject {
    fn from(sandbox: &LiveSandbox) -> Self {
        let traffic = sandbox.usage.and_then(|usage| usage.traffic);
        Self {
            id: sandbox.id.as_uuid(),
            version: sandbox.version.get(),
            memory_mb: sandbox.memory_mib,
            vcpu: f64::from(sandbox.milli_vcpu) / 1_000.0,
            cpu_ms: sandbox.usage.map(|usage| u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX)),
            memory_bytes: sandbox.usage.map(|usage| usage.memory_bytes),
            memory_peak_bytes: sandbox.usage.map(|usage| usage.memory_peak_bytes),
            network_received_bytes: traffic.map(|traffic| traffic.received_bytes),
            network_sent_bytes: traffic.map(|traffic| traffic.sent_bytes),
            refused: sandbox.refused.into(),
        }
    }
}

/// The live sandboxes of a function.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SandboxList)]
pub struct SandboxList {
    /// How many there are.
    pub count: usize,
    /// The sandboxes, oldest first.
    pub items: Vec<SandboxObject>,
    /// What the function's network policy refused since the server was started, in sandboxes that are gone too.
    pub refused: RefusalsObject,
}

impl From<&FunctionSandboxes> for SandboxList {
    fn from(sandboxes: &FunctionSandboxes) -> Self {
        let items: Vec<_> = sandboxes.live.iter().map(Into::into).collect();
        Self { count: items.len(), items, refused: sandboxes.refused.into() }
    }
}
