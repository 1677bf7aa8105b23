//! The internal listener of a worker: what controllers and other workers ask of it.

mod answers;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use impuls_dispatch::{OnOutput, RunError, Target, Worker};
use impuls_domain::{Built, FunctionId, FunctionName, LoadFailure, Revision, RevisionId, VersionNumber};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use crate::client::{STREAMS, WINDOWS};
use crate::protocol::{LOAD_HEADER, OLDEST, REFUSED_HEADER, Sending, VERSION, VERSION_HEADER, path, refused};
use crate::serving::{Load, Serving};
use crate::trust::Trust;

/// Calls, commands and builds that a worker takes at once; of more it says that it is full.
const CALLS: usize = 10_000;
/// How often a connection is asked whether the other end is there, and how long that may take.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be open before its first request that shows what is wanted.
const SILENCE: Duration = Duration::from_secs(10);
/// The most bytes of a request's headers.
const HEADERS: u32 = 8 * 1024;

/// What a worker can do for the cluster.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Its sandboxes.
    fn worker(&self) -> &dyn Worker;

    /// What a call runs; looked up in the store if it is not known yet.
    async fn target(
        &self,
        function: FunctionId,
        version: VersionNumber,
        revision: RevisionId,
    ) -> Result<Arc<Target>, RunError>;

    /// Builds a revision's source if it has to be, unless the same was built before. What the build writes goes to `log`.
    async fn build(&self, revision: &Revision, log: &OnOutput) -> Result<Built, RunError>;

    /// Loads a revision's code in a sandbox that is thrown away. Says after how long there was one, and why the code cannot
    /// be called.
    async fn check(
        &self,
        function: &FunctionName,
        revision: &Revision,
    ) -> (Option<Duration>, Option<LoadFailure>);

    /// Makes a function's change effective, as the store has it.
    async fn activate(&self, function: FunctionId) -> Result<(), RunError>;

    /// Looks for asynchronous invocations that are due.
    fn wake(&self);
}

/// The internal listener.
pub struct Server {
    serving: Arc<Serving>,
    trust: Trust,
}

impl Server {
    /// Answers whoever shows what is wanted here; everybody if that is nothing.
    #[must_use]
    pub fn new(host: Arc<dyn Host>, load: Arc<Load>, trust: Trust) -> Arc<Self> {
        Arc::new(Self { serving: Serving::new(host, load), trust })
    }

    pub(crate) const fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// Serves one connection until it is closed. When `closing` turns true, what is asked is finished, nothing more is
    /// taken, and the connection is closed.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, closing: watch::Receiver<bool>) {
        let Some(tls) = self.trust.tls.clone() else { return self.speak(stream, closing).await };
        let why = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => return self.speak(stream, closing).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not finish its handshake".to_owned(),
        };
        tracing::warn!(%why, "somebody who connects to this worker is no node of this cluster");
    }

    async fn speak<S>(self: Arc<Self>, stream: S, mut closing: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (server, known) = (self.clone(), Arc::new(Notify::new()));
        let knows = known.clone();
        let service = hyper::service::service_fn(move |request| {
            let (server, known) = (server.clone(), knows.clone());
            async move { Ok::<_, Infallible>(server.handle(request, &known).await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
        builder.initial_stream_window_size(WINDOWS.0).initial_connection_window_size(WINDOWS.1);
        builder.keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
        // Clients that hang up all at once are no attack of the node that passes it on.
        builder.max_pending_accept_reset_streams(STREAMS as usize).max_local_error_reset_streams(None);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let close = async { drop(closing.wait_for(|closing| *closing).await) };
        let stays_unknown = async {
            if tokio::time::timeout(SILENCE, known.notified()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = close => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = stays_unknown => {
                tracing::info!("a connection to this worker is closed over which nothing was asked as a node asks");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection of the cluster ended early"
            );
        }
    }

    async fn handle(&self, request: Request<Incoming>, known: &Notify) -> Response<Sending> {
        let refusal = self.refusal(&request);
        if !matches!(refusal, Some((_, refused::TOKEN))) {
            known.notify_one();
        }
        let mut response = match refusal {
            Some((status, why)) => refuse(status, why),
            None => self.answer(request).await,
        };
        let calls = HeaderValue::from(self.serving.load.calls());
        response.headers_mut().insert(LOAD_HEADER, calls);
        response
    }

    /// Why a request is not even looked at.
    fn refusal(&self, request: &Request<Incoming>) -> Option<(StatusCode, &'static str)> {
        if let Some(token) = &self.trust.token {
            let shown = request.headers().get(header::AUTHORIZATION);
            if !shown.is_some_and(|shown| token.is_shown_by(shown.as_bytes())) {
                tracing::warn!("somebody asks this worker without the cluster token");
                return Some((StatusCode::UNAUTHORIZED, refused::TOKEN));
            }
        }
        let version =
            request.headers().get(VERSION_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        // A newer one that cannot do without what this one lacks raises its own `OLDEST`.
        if !version.is_some_and(|version: u32| (OLDEST..=VERSION + 1).contains(&version)) {
            return Some((StatusCode::UPGRADE_REQUIRED, refused::VERSION));
        }
        if !takes_work(request.uri().path()) {
            return None;
        }
        if self.serving.load.is_draining() {
            return Some((StatusCode::SERVICE_UNAVAILABLE, refused::DRAINING));
        }
        let is_full = self.serving.load.calls() >= CALLS;
        is_full.then_some((StatusCode::SERVICE_UNAVAILABLE, refused::FULL))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Sending> {
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
        }
        let (parts, body) = request.into_parts();
        let asked = answers::Asked::new(self.serving.clone(), body);
        let answered = match parts.uri.path() {
            path::RUN => asked.run().await,
            path::EXECUTE => asked.execute().await,
            path::WARM => asked.warm().await,
            path::BUILD => asked.build().await,
            path::CHECK => asked.check().await,
            path::ACTIVATE => asked.activate().await,
            path::PREWARM => asked.prewarm().await,
            path::POOL => asked.pool().await,
            path::SANDBOXES => asked.sandboxes().await,
            path::REFUSALS => asked.refusals().await,
            path::WAKE => Ok(asked.wake()),
            _ => return refuse(StatusCode::NOT_FOUND, "path"),
        };
        match answered {
            Ok(body) => Response::new(body),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a request of the cluster is not valid"
                );
                refuse(StatusCode::BAD_REQUEST, "request")
            }
        }
    }
}

/// Whether a worker that stops says no to this.
fn takes_work(path: &str) -> bool {
    matches!(path, path::RUN | path::EXECUTE | path::WARM | path::BUILD | path::CHECK)
}

fn refuse(status: StatusCode, why: &'static str) -> Response<Sending> {
    let mut response = Response::new(Sending::default());
    *response.status_mut() = status;
    response.headers_mut().insert(REFUSED_HEADER, HeaderValue::from_static(why));
    response
}
