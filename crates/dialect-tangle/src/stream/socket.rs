//! `/api/v1/containers/{id}/stream`: the events of an execution over a WebSocket, and commands to it.

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use impuls_dispatch::DispatchError;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{SLOW, next_event, watch};
use crate::body::{Authenticated, PathText};
use crate::errors::Refusal;
use crate::running::{Event, Watcher};
use crate::state::State;

/// The most bytes of one command.
const COMMAND_LIMIT: usize = 64 * 1024;

/// What a watcher may ask for.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Command {
    /// Kills the execution.
    Stop,
    /// Whether it runs.
    GetState,
    /// Everything that needs a sandbox which outlives its command.
    Stdin,
    Exec,
    Checkpoint,
}

/// `GET /api/v1/containers/{id}/stream`, as a WebSocket; the id is an execution's.
pub(crate) async fn stream_container(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    if !caller.may_execute() {
        return Err(DispatchError::Denied.into());
    }
    let (watcher, seat) = watch(&state, &id)?;
    let upgrade = upgrade.map_err(|refusal| Refusal::invalid("websocket", refusal.body_text()))?;
    Ok(upgrade.max_message_size(COMMAND_LIMIT).on_upgrade(move |socket| serve(socket, watcher, seat)))
}

/// Passes events on and does what is asked, until the end, or until the client has gone.
async fn serve(mut socket: WebSocket, mut watcher: Watcher, _seat: OwnedSemaphorePermit) {
    loop {
        let event = tokio::select! {
            event = next_event(&mut watcher) => event,
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => answer(&text, &watcher),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        };
        let message = match event.map(|event| serde_json::to_string(&event)) {
            Some(Ok(json)) => Message::Text(json.into()),
            Some(Err(_)) | None => Message::Close(None),
        };
        let is_end = matches!(message, Message::Close(_));
        let sent = tokio::time::timeout(SLOW, socket.send(message)).await;
        if is_end || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

fn answer(text: &str, watcher: &Watcher) -> Option<Event> {
    let error = |text: String| Some(Event::Custom { name: "error", data: text.into() });
    let execution = watcher.execution();
    match serde_json::from_str(text) {
        Ok(Command::Stop) => {
            execution.stop();
            Some(Event::Custom { name: "state", data: "stopping".into() })
        }
        Ok(Command::GetState) => {
            let state = if execution.has_ended() { "stopped" } else { "running" };
            Some(Event::Custom { name: "state", data: state.into() })
        }
        Ok(Command::Stdin | Command::Exec | Command::Checkpoint) => error(
            "a sandbox of this server takes its input at the start and ends with its command; stop and get_state are possible"
                .to_owned(),
        ),
        Err(cause) => error(format!("this is no command: {cause}")),
    }
}
