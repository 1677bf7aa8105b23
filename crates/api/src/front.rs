//! The front door: one HTTP/1 connection after the other, on the thread that also reads the sandboxes' sockets.
//!
//! Every request of every route passes [`Front::serve`], where the one [`Authenticate`] says who the caller is. The
//! invoke route is answered straight from here, all others by the axum router.

mod event;
mod progress;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use axum::Router;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use impuls_dispatch::{Dispatch, FunctionRef, InvokeOptions, InvokeRequest};
use impuls_domain::Caller;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tower::Service as _;

use self::progress::{Advice, Progress, mind};
use crate::invoke::{self, InvokeQuery};
use crate::problem::{PROBLEM_JSON, Problem};

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
    pub async fn serve(self: Arc<Self>, stream: TcpStream, closing: watch::Receiver<bool>) {
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
        // A WebSocket leaves this connection for a task of its own, which ends with its thread.
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        // One branch beside the connection, because every wake-up looks at all of them.
        let (advise, advice) = oneshot::channel();
        let minding = tokio::spawn(mind(progress, closing, advise));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            advice = advice => match advice {
                Ok(Advice::Finish) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                Ok(Advice::Drop) | Err(_) => Ok(()),
            },
        };
        minding.abort();
        if let Err(error) = ended {
            // A client that hangs up or talks nonsense is its own affair.
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
        }
    }

    async fn handle(&self, request: Request<Incoming>, progress: &Arc<Progress>) -> Response<FrontBody> {
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
            return match self.invoke(&caller, function, &parts, (body, progress)).await {
                Ok(reply) => respond(reply),
                Err(problem) => refuse(&problem),
            };
        }
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, axum::body::Body::new(body));
        match self.router.clone().call(request).await {
            Ok(response) => response.map(|body| FrontBody::Router(body, progress.clone())),
            Err(never) => match never {},
        }
    }

    async fn invoke(
        &self,
        caller: &Caller,
        function: &str,
        parts: &Parts,
        (body, progress): (Incoming, &Progress),
    ) -> Result<invoke::Reply, Problem> {
        let query = InvokeQuery::parse(parts.uri.query().unwrap_or_default())?;
        let event = self.read_event(parts, body, progress.await_client()).await?;
        let request = InvokeRequest {
            function: FunctionRef::Text(function),
            qualifier: query.qualifier,
            event: event.bytes.clone(),
            options: InvokeOptions::default(),
        };
        let invoked = self.dispatch.invoke(caller, request).await?;
        Ok(if query.raw { invoke::raw(invoked) } else { invoke::envelope(&invoked) })
    }
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
    /// It may take its time, which is not the client's fault.
    Router(axum::body::Body, Arc<Progress>),
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
            Self::Router(body, progress) => {
                let polled = Pin::new(body).poll_frame(cx);
                progress.sending(polled.is_pending());
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Router(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Router(body, _) => body.size_hint(),
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
