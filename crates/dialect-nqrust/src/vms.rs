//! `/v1/vms`: live sandboxes, which are what that system's machines are here.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Extract;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use impuls_dispatch::{LiveSandbox, SandboxUsage, Traffic};
use impuls_domain::{Caller, FunctionId};
use impuls_ingress::{Denial, Situation};
use serde::Serialize;
use serde_json::Number;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use crate::errors::Refusal;
use crate::router::{Authenticated, PathText, State};
use crate::wire::{cores, instant};

/// How often figures are sent.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a client may take to take one.
const SLOW: Duration = Duration::from_secs(10);
/// Clients that may watch at once.
const WATCHERS: usize = 100;
/// The most bytes of what a client may say, to which nobody listens.
const MESSAGE_LIMIT: usize = 1024;

/// Seats of those who watch; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS)))
    }
}

#[derive(Serialize)]
pub(crate) struct VmItem {
    id: Uuid,
    name: String,
    state: &'static str,
    function_id: Uuid,
    vcpu: Number,
    memory_mb: u32,
    /// A sandbox has no address of its own.
    guest_ip: Option<String>,
    tags: [&'static str; 1],
    created_at: Option<String>,
}

impl From<&LiveSandbox> for VmItem {
    fn from(sandbox: &LiveSandbox) -> Self {
        let id = sandbox.id.as_uuid();
        let seconds =
            id.get_timestamp().map(|at| at.to_unix().0).and_then(|seconds| i64::try_from(seconds).ok());
        let made = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Self {
            id,
            name: name(sandbox),
            state: "running",
            function_id: sandbox.function.as_uuid(),
            vcpu: cores(sandbox.milli_vcpu),
            memory_mb: sandbox.memory_mib,
            guest_ip: None,
            tags: ["type:function"],
            created_at: made.map(instant),
        }
    }
}

/// The documents' names of a function's machines: its own, and the beginning of its id.
fn name(sandbox: &LiveSandbox) -> String {
    let id = sandbox.function.as_uuid().simple().to_string();
    let short: String = id.chars().take(8).collect();
    format!("fn-{}-{short}", sandbox.function_name)
}

#[derive(Serialize)]
pub(crate) struct Items {
    items: Vec<VmItem>,
}

#[derive(Serialize)]
pub(crate) struct Item {
    item: VmItem,
}

/// The newest of these sandboxes, oldest first, that a function has.
pub(crate) fn newest_of(sandboxes: &[LiveSandbox], function: FunctionId) -> Option<Uuid> {
    sandboxes.iter().rfind(|sandbox| sandbox.function == function).map(|sandbox| sandbox.id.as_uuid())
}

async fn find(state: &State, caller: &Caller, id: &str) -> Result<LiveSandbox, Refusal> {
    let wanted = id.parse::<Uuid>().ok();
    let mut sandboxes = state.dispatch.list_sandboxes(caller).await?.into_iter();
    let found = sandboxes.find(|sandbox| Some(sandbox.id.as_uuid()) == wanted);
    found.ok_or_else(|| {
        let id: String = id.chars().take(255).collect();
        Denial::new(Situation::NotFound { what: "vm", id: id.clone() }, format!("vm {id} not found")).into()
    })
}

/// `GET /v1/vms`
pub(crate) async fn list_vms(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
) -> Result<Json<Items>, Refusal> {
    let sandboxes = state.dispatch.list_sandboxes(&caller).await?;
    Ok(Json(Items { items: sandboxes.iter().map(VmItem::from).collect() }))
}

/// `GET /v1/vms/{id}`
pub(crate) async fn get_vm(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
) -> Result<Json<Item>, Refusal> {
    Ok(Json(Item { item: (&find(&state, &caller, &id).await?).into() }))
}

/// What is there of a machine's shell: nothing, because nobody may enter a sandbox.
pub(crate) async fn shell(Authenticated(_): Authenticated) -> Refusal {
    Refusal::missing("functions run in sandboxes that nobody can log in to; read their logs instead")
}

/// `GET /v1/vms/{id}/metrics/ws`, as a WebSocket: figures each second until the sandbox ends.
pub(crate) async fn watch_metrics(
    Authenticated(caller): Authenticated,
    Extract(state): Extract<State>,
    PathText(id): PathText,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let sandbox = find(&state, &caller, &id).await?;
    let upgrade = upgrade.map_err(|refusal| Refusal::invalid("websocket", refusal.body_text()))?;
    let seat = state.seats.0.clone().try_acquire_owned();
    let seat = seat.map_err(|_| Denial::new(Situation::Throttled, "too many clients watch sandboxes"))?;
    Ok(upgrade
        .max_message_size(MESSAGE_LIMIT)
        .on_upgrade(move |socket| serve(socket, (state, caller), sandbox, seat)))
}

/// One second of a sandbox. What it reads and writes on disk is not measured.
#[derive(Serialize)]
struct Figures {
    cpu_usage_percent: f64,
    memory_usage_percent: f64,
    memory_used_kb: u64,
    network_in_bytes: Option<u64>,
    network_out_bytes: Option<u64>,
    disk_read_bytes: Option<u64>,
    disk_write_bytes: Option<u64>,
}

async fn serve(
    mut socket: WebSocket,
    (state, caller): (State, Caller),
    mut before: LiveSandbox,
    _seat: OwnedSemaphorePermit,
) {
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    let mut since = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        }
        let id = before.id.as_uuid().to_string();
        let Ok(now) = find(&state, &caller, &id).await else {
            let _gone = tokio::time::timeout(SLOW, socket.send(Message::Close(None))).await;
            return;
        };
        let elapsed = since.elapsed();
        since = Instant::now();
        if let (Some(earlier), Some(later)) = (before.usage, now.usage) {
            let figures = figures(&now, (earlier, later), elapsed);
            // A structure of numbers.
            let text = serde_json::to_string(&figures).unwrap_or_default();
            let sent = tokio::time::timeout(SLOW, socket.send(Message::Text(text.into()))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
        before = now;
    }
}

#[expect(clippy::cast_precision_loss, reason = "percentages need no 53 bits")]
fn figures(
    sandbox: &LiveSandbox,
    (earlier, later): (SandboxUsage, SandboxUsage),
    elapsed: Duration,
) -> Figures {
    let cores = f64::from(sandbox.milli_vcpu) / 1_000.0;
    let busy = later.cpu.saturating_sub(earlier.cpu).as_secs_f64();
    let limit = f64::from(sandbox.memory_mib) * 1_048_576.0;
    let passed =
        |bytes: fn(Traffic) -> u64| Some(bytes(later.traffic?).saturating_sub(bytes(earlier.traffic?)));
    Figures {
        cpu_usage_percent: 100.0 * busy / elapsed.as_secs_f64().max(f64::EPSILON) / cores,
        memory_usage_percent: 100.0 * later.memory_bytes as f64 / limit,
        memory_used_kb: later.memory_bytes / 1_024,
        network_in_bytes: passed(|traffic| traffic.received_bytes),
        network_out_bytes: passed(|traffic| traffic.sent_bytes),
        disk_read_bytes: None,
        disk_write_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use impuls_domain::{SandboxId, VersionNumber};

    use super::*;

    fn sandbox() -> LiveSandbox {
        LiveSandbox {
            id: SandboxId::new(),
            function: FunctionId::new(),
            function_name: "hello-world".parse().unwrap(),
            version: VersionNumber::FIRST,
            memory_mib: 128,
            milli_vcpu: 500,
            usage: None,
            refused: impuls_dispatch::Refusals::default(),
        }
    }

    #[test]
    fn names_are_those_of_the_documents() {
        let sandbox = sandbox();
        let short = &sandbox.function.to_string()[..8];
        assert_eq!(name(&sandbox), format!("fn-hello-world-{short}"));
    }

    #[test]
    fn percentages_are_of_what_the_sandbox_may_use() {
        let used = |cpu_ms, memory_bytes| SandboxUsage {
            cpu: Duration::from_millis(cpu_ms),
            memory_bytes,
            memory_peak_bytes: 0,
            traffic: Some(Traffic { received_bytes: memory_bytes, sent_bytes: cpu_ms }),
        };
        let figures = figures(&sandbox(), (used(100, 0), used(350, 64 << 20)), Duration::from_secs(1));
        assert!((figures.cpu_usage_percent - 50.0).abs() < 1e-9);
        assert!((figures.memory_usage_percent - 50.0).abs() < 1e-9);
        assert_eq!((figures.network_in_bytes, figures.network_out_bytes), (Some(64 << 20), Some(250)));
    }
}
