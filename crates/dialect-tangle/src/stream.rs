//! Watching an execution while it runs: one JSON object for each event, as server-sent events (HTML standard §9.2) or
//! over a WebSocket ([`socket`]).

pub mod socket;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Frame;
use impuls_dispatch::DispatchError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::body::{Authenticated, PathText};
use crate::errors::{Kind, Refusal};
use crate::running::{Event, Watcher};
use crate::state::State;

/// Clients that watch executions at the same time, as in the original.
pub(crate) const WATCHERS: usize = 100;
/// How long nothing may happen before a watcher is told so.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client may read nothing before its seat is another's.
pub(crate) const SLOW: Duration = Duration::from_secs(30);
/// Events on the way to a client; a slower one misses some instead.
const AHEAD: usize = 16;

/// `GET /api/v1/logs/{id}/stream`: what the execution writes, from its beginning to its exit.
pub(crate) async fn stream_logs(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
) -> Result<Response, Refusal> {
    if !caller.may_execute() {
        return Err(DispatchError::Denied.into());
    }
    let (watcher, seat) = watch(&state, &id)?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(feed(watcher, sender, seat));
    let mut response = Body::new(Events(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// `POST /api/v1/executions/{id}/stop`: kills a running execution, which is then answered as killed.
pub(crate) async fn stop(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
    PathText(id): PathText,
) -> Result<StatusCode, Refusal> {
    if !caller.may_execute() {
        return Err(DispatchError::Denied.into());
    }
    state.executions.find(&id)?.stop();
    Ok(StatusCode::NO_CONTENT)
}

/// A watcher of an execution, and its seat among all watchers.
pub(crate) fn watch(state: &State, id: &str) -> Result<(Watcher, OwnedSemaphorePermit), Refusal> {
    let execution = state.executions.find(id)?;
    let seat = state.watchers.clone().try_acquire_owned();
    let full =
        |_| Refusal::new(Kind::RateLimit, format!("{WATCHERS} clients are watching executions already"));
    Ok((Watcher::new(execution), seat.map_err(full)?))
}

/// The next event, or that nothing has happened for a while; `None` after the end.
pub(crate) async fn next_event(watcher: &mut Watcher) -> Option<Event> {
    tokio::time::timeout(HEARTBEAT, watcher.next()).await.unwrap_or(Some(Event::Heartbeat))
}

/// Passes events on until the end, or until the client has gone.
async fn feed(mut watcher: Watcher, sender: mpsc::Sender<Bytes>, _seat: OwnedSemaphorePermit) {
    while let Some(event) = next_event(&mut watcher).await {
        let Ok(json) = serde_json::to_string(&event) else { return };
        let sent = tokio::time::timeout(SLOW, sender.send(format!("data: {json}\n\n").into())).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// A body of what comes through a channel.
struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
