//! The front door: one HTTP/1 connection after the other, on the thread that also reads the sandboxes' sockets.
//!
//! Every request of every route passes [`Front::serve`], where the one [`Authenticate`] says who the caller is. The
//! invoke route is answered straight from here, all others by the axum router.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use impuls_dispatch::{Dispatch, FunctionRef, InvokeRequest};
use impuls_domain::Caller;
use impuls_domain::limits::PAYLOAD_LIMIT;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::Service as _;

use crate::invoke::{self, InvokeQuery};
use crate::problem::{PROBLEM_JSON, Problem, ProblemKind};

/// How long a connection may stay without progress while the client is to act: between requests, or in the middle
/// of a head or an event. Looked at this often, so it takes up to twice as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a refused body is read, so that ordinary clients see the refusal and not a broken connection.
const DRAIN_LIMIT: usize = 16 * 1024 * 1024;
/// Events up to this size are not counted against [`FrontConfig::event_memory`].
const SMALL_EVENT: usize = 64 * 1024;

/// Decides on whose behalf a request is made: the one choke-point of all routes of all dialects.
pub trait Authenticate: Send + Sync + 'static {
    /// The caller, or why the request is refused.
    fn authenticate(&self, parts: &Parts) -> Result<Caller, Problem>;
}

/// Bounds of the front door.
#[derive(Clone, Copy, Debug)]
pub struct FrontConfig {
    /// Memory for large events that are in flight, in bytes; beyond it large calls are told to come back. Default
    /// 512 MiB.
    pub event_memory: usize,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self { event_memory: 512 * 1024 * 1024 }
    }
}

/// What all front threads share.
pub struct Front {
    config: FrontConfig,
    dispatch: Arc<Dispatch>,
    router: Router,
    authenticate: Arc<dyn Authenticate>,
    event_memory: AtomicUsize,
}

impl Front {
    /// A front door before this dispatch and this router.
    #[must_use]
    pub fn new(
        config: FrontConfig,
        dispatch: Arc<Dispatch>,
        router: Router,
        authenticate: Arc<dyn Authenticate>,
    ) -> Self {
        Self { config, dispatch, router, authenticate, event_memory: AtomicUsize::new(0) }
    }

    /// Serves one connection until it is closed. When `closing` turns true, the request in progress is finished
    /// and the connection closed.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, mut closing: watch::Receiver<bool>) {
        let front = self.clone();
        let progress = Arc::new(Progress::default());
        let noted = progress.clone();
        let service = hyper::service::service_fn(move |request| {
            let (front, progress) = (front.clone(), noted.clone());
            async move { Ok::<_, Infallible>(front.handle(request, &progress).await) }
        });
        let mut builder = http1::Builder::new();
        // No timer for each head: one for the whole connection, below.
        builder.header_read_timeout(None).pipeline_flush(true);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closed(&mut closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = progress.stalled() => return,
        };
        if let Err(error) = ended {
            // A client that hangs up or talks nonsense is its own affair.
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
        }
    }

    async fn handle(&self, request: Request<Incoming>, progress: &Progress) -> Response<FrontBody> {
        let _ended = progress.begin();
        let (mut parts, body) = request.into_parts();
        let caller = match self.authenticate.authenticate(&parts) {
            Ok(caller) => caller,
            Err(problem) => return refuse(&problem),
        };
        if let Some(function) = invoke_path(parts.uri.path()) {
            if parts.method != Method::POST {
                return refuse(&Problem::method_not_allowed(&parts.method, Some("POST")));
            }
            return match self.invoke(&caller, function, &parts, progress.reading(body)).await {
                Ok(reply) => respond(reply),
                Err(problem) => refuse(&problem),
            };
        }
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, axum::body::Body::new(body));
        match self.router.clone().call(request).await {
            Ok(response) => response.map(FrontBody::Router),
            Err(never) => match never {},
        }
    }

    async fn invoke(
        &self,
        caller: &Caller,
        function: &str,
        parts: &Parts,
        body: Reading<'_>,
    ) -> Result<invoke::Reply, Problem> {
        let query = InvokeQuery::parse(parts.uri.query().unwrap_or_default())?;
        let event = self.read_event(parts, body).await?;
        let request = InvokeRequest {
            function: FunctionRef::Text(function),
            qualifier: query.qualifier,
            event: event.bytes.clone(),
        };
        let invoked = self.dispatch.invoke(caller, request).await?;
        Ok(if query.raw { invoke::raw(invoked) } else { invoke::envelope(&invoked) })
    }

    /// The whole event. One that arrives in one piece, as small ones do, is not copied.
    async fn read_event(&self, parts: &Parts, reading: Reading<'_>) -> Result<Event<'_>, Problem> {
        let Reading { mut body, _until: until } = reading;
        let announced = body.size_hint().lower();
        if announced > PAYLOAD_LIMIT as u64 {
            if !parts.headers.contains_key(header::EXPECT) {
                drain(body);
            }
            return Err(too_large());
        }
        let mut event = Event { front: self, bytes: Bytes::new(), counted: 0 };
        let mut whole: Option<BytesMut> = None;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            until.note();
            let length = event.bytes.len() + whole.as_ref().map_or(0, BytesMut::len) + piece.len();
            if length > PAYLOAD_LIMIT {
                drain(body);
                return Err(too_large());
            }
            event.count(length)?;
            match &mut whole {
                Some(whole) => whole.extend_from_slice(&piece),
                None if event.bytes.is_empty() => event.bytes = piece,
                None => {
                    let expected = usize::try_from(announced).unwrap_or(0).max(length);
                    let mut joined = BytesMut::with_capacity(expected);
                    joined.extend_from_slice(&std::mem::take(&mut event.bytes));
                    joined.extend_from_slice(&piece);
                    whole = Some(joined);
                }
            }
        }
        if let Some(whole) = whole {
            event.bytes = whole.freeze();
        }
        Ok(event)
    }
}

/// Waits until the server closes its connections, or is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // Without its sender the server is gone, which closes connections as well.
    drop(closing.wait_for(|closing| *closing).await);
}

/// Whose turn it is on a connection, and how often that has changed.
#[derive(Default)]
struct Progress {
    /// Counts every step forward.
    steps: AtomicUsize,
    /// Whether the server is to act; a client that waits is not stalled.
    ours: AtomicBool,
}

/// The server's turn; the client's again by drop.
struct OurTurn<'a>(&'a Progress);

impl Drop for OurTurn<'_> {
    fn drop(&mut self) {
        self.0.turn(false);
    }
}

/// An event that is being sent: the client's turn until dropped.
struct Reading<'a> {
    body: Incoming,
    _until: TheirTurn<'a>,
}

/// The client's turn; the server's again by drop.
struct TheirTurn<'a>(&'a Progress);

impl TheirTurn<'_> {
    /// The client has sent something.
    fn note(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for TheirTurn<'_> {
    fn drop(&mut self) {
        self.0.turn(true);
    }
}

impl Progress {
    fn turn(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn begin(&self) -> OurTurn<'_> {
        self.turn(true);
        OurTurn(self)
    }

    fn reading(&self, body: Incoming) -> Reading<'_> {
        self.turn(false);
        Reading { body, _until: TheirTurn(self) }
    }

    /// Resolves when the client has not done its part for too long.
    async fn stalled(&self) {
        let mut seen = usize::MAX;
        loop {
            let steps = self.steps.load(Ordering::Relaxed);
            if steps == seen && !self.ours.load(Ordering::Relaxed) {
                return;
            }
            seen = steps;
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

/// An event in memory; counted for as long as it is there.
struct Event<'a> {
    front: &'a Front,
    bytes: Bytes,
    counted: usize,
}

impl Event<'_> {
    fn count(&mut self, length: usize) -> Result<(), Problem> {
        if length <= SMALL_EVENT || length <= self.counted {
            return Ok(());
        }
        let more = length - self.counted;
        let before = self.front.event_memory.fetch_add(more, Ordering::Relaxed);
        self.counted = length;
        if before + more > self.front.config.event_memory {
            let problem = Problem::new(
                ProblemKind::Throttled,
                "too many large events are being processed; try again later",
            );
            return Err(problem.retry_after(Duration::from_secs(1)));
        }
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.front.event_memory.fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("the event has more than {PAYLOAD_LIMIT} bytes (6 MiB)"))
}

fn broken(error: &hyper::Error) -> Problem {
    Problem::new(ProblemKind::InvalidRequest, format!("the event cannot be read: {error}"))
}

/// Reads the rest of a refused body while the refusal is on its way.
fn drain(mut body: Incoming) {
    tokio::spawn(tokio::time::timeout(PATIENCE, async move {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    }));
}

/// The function's name or id if this is the path of a call.
fn invoke_path(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/api/v1/functions/")?.strip_suffix("/invoke")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

fn respond(reply: invoke::Reply) -> Response<FrontBody> {
    let mut response = Response::new(FrontBody::Whole(Some(reply.body)));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

fn refuse(problem: &Problem) -> Response<FrontBody> {
    let (status, retry_after_secs, body) = problem.render();
    let mut response = Response::new(FrontBody::Whole(Some(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(seconds) = retry_after_secs {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// A response body: bytes that are here, or whatever the router makes.
enum FrontBody {
    Whole(Option<Bytes>),
    Router(axum::body::Body),
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Router(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Router(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Router(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_invoke_route_is_answered_here() {
        assert_eq!(invoke_path("/api/v1/functions/hello/invoke"), Some("hello"));
        for other in
            ["/api/v1/functions/invoke", "/api/v1/functions//invoke", "/api/v1/functions/a/b/invoke", "/x"]
        {
            assert_eq!(invoke_path(other), None, "{other}");
        }
    }
}
