//! One worker as others see it, and the connections to it.
//!
//! Every front thread has a connection of its own, polled on that very thread: a call makes no hop to another thread on
//! its way to the network. All other threads of the process share one more.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;
use uuid::Uuid;

use crate::about::About;
use crate::convert::chain;
use crate::protocol::{LOAD_HEADER, REFUSED_HEADER, Sending, VERSION, VERSION_HEADER, refused};
use crate::ring;
use crate::tls::Tls;
use crate::trust::Trust;

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection with calls is asked whether the other end is there, and how long that may take: a worker behind a
/// cut cable is given up after both.
const PING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));
/// How long a worker that could not be reached is left alone.
const AVOIDED: Duration = Duration::from_secs(2);
/// Things that one connection may be asked at once.
pub(crate) const STREAMS: u32 = 4_096;
/// Bytes of one stream that may be on their way, and of all streams of a connection: as many as all of them may have, so that
/// those whose bytes nobody takes hold up no other.
pub(crate) const WINDOWS: (u32, u32) = (256 * 1024, STREAMS * 256 * 1024);

type Connection = http2::SendRequest<Sending>;
/// The place of a thread's connection. Held while it is made, so that it is made once.
type Place = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Why a worker has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Missed {
    /// Nothing has begun, and it takes nothing now: it cannot be reached, or it stops.
    #[error("it cannot be reached: {0}")]
    Gone(String),
    /// Nothing has begun, and it has no room.
    #[error("it has no room")]
    Full,
    /// It may have begun.
    #[error("it was lost: {0}")]
    Lost(String),
}

/// One life of a worker.
pub struct Peer {
    id: String,
    session: Uuid,
    hash: u64,
    about: ArcSwap<About>,
    token: Option<HeaderValue>,
    tls: Option<Arc<Tls>>,
    /// It said that it stops, since it was last listed.
    stops: AtomicBool,
    /// Calls that this process has there.
    own_calls: AtomicUsize,
    /// Calls that it said it has.
    told_calls: AtomicUsize,
    avoided_until: Mutex<Option<Instant>>,
    places: Mutex<HashMap<Option<ThreadId>, Place>>,
}

/// Counts a call for as long as it lives.
pub(crate) struct Counted<'p>(&'p AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    pub(crate) fn new(id: String, session: Uuid, about: About, trust: &Trust) -> Self {
        let token = trust.token.as_ref().and_then(|token| HeaderValue::from_str(&token.header()).ok());
        let token = token.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self {
            hash: ring::hash(id.as_bytes()),
            id,
            session,
            stops: AtomicBool::new(about.draining),
            own_calls: AtomicUsize::new(0),
            told_calls: AtomicUsize::new(about.load),
            about: ArcSwap::from_pointee(about),
            token,
            tls: trust.tls.clone(),
            avoided_until: Mutex::new(None),
            places: Mutex::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it last said of itself.
    #[must_use]
    pub fn about(&self) -> Arc<About> {
        self.about.load_full()
    }

    pub(crate) const fn session(&self) -> Uuid {
        self.session
    }

    /// What it says of itself now.
    pub(crate) fn tell(&self, about: About) {
        self.told_calls.store(about.load, Ordering::Relaxed);
        // What it said in an answer may be newer than its row, and nobody that stops goes on again.
        self.stops.fetch_or(about.draining, Ordering::Relaxed);
        self.about.store(Arc::new(about));
    }

    pub(crate) fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// Whether it could not be reached a moment ago.
    pub(crate) fn is_avoided(&self) -> bool {
        self.avoided_until.lock().is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn candidate(&self) -> ring::Candidate {
        let own = self.own_calls.load(Ordering::Relaxed);
        let load = own.max(self.told_calls.load(Ordering::Relaxed));
        ring::Candidate { hash: self.hash, load, ease: self.about.load().slots }
    }

    pub(crate) fn count(&self) -> Counted<'_> {
        self.own_calls.fetch_add(1, Ordering::Relaxed);
        Counted(&self.own_calls)
    }

    /// Asks something; what it answers with is still to be read. Safe to drop: the worker stops what it does.
    pub(crate) async fn ask(&self, path: &'static str, body: Sending) -> Result<Response<Incoming>, Missed> {
        let place = self.place();
        let mut request = self.request(path, body);
        // A connection that was closed since its last use takes nothing; the second one is new.
        for _ in 0..2 {
            let mut connection = self.connection(&place).await?;
            match connection.try_send_request(request).await {
                Ok(response) => return self.judge(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.lost(error.error())),
                },
            }
        }
        Err(self.gone("it closes every connection".to_owned()))
    }

    fn request(&self, path: &'static str, body: Sending) -> Request<Sending> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = http::Uri::builder().scheme(scheme).authority(self.about.load().address.as_str());
        *request.uri_mut() = uri.path_and_query(path).build().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(VERSION_HEADER, HeaderValue::from(VERSION));
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        request
    }

    fn judge(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Missed> {
        let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
        if let Some(calls) = response.headers().get(LOAD_HEADER).and_then(number) {
            self.told_calls.store(calls, Ordering::Relaxed);
        }
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let why = response.headers().get(REFUSED_HEADER).and_then(|value| value.to_str().ok());
        match why {
            Some(refused::FULL) => Err(Missed::Full),
            Some(refused::DRAINING) => {
                self.stops.store(true, Ordering::Relaxed);
                Err(Missed::Gone("it stops".to_owned()))
            }
            Some(refused::TOKEN) => {
                tracing::error!(worker = %self.id, "a worker refuses our cluster token; give all nodes the same");
                Err(self.gone("it refuses our cluster token".to_owned()))
            }
            Some(refused::VERSION) => {
                tracing::error!(worker = %self.id, version = %self.about.load().version, "a worker does not speak our protocol");
                Err(self.gone("it does not speak our protocol".to_owned()))
            }
            _ => Err(Missed::Lost(format!("it answered with status {}", response.status()))),
        }
    }

    fn place(&self) -> Place {
        let is_front = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let key = is_front.then(|| std::thread::current().id());
        self.places.lock().entry(key).or_default().clone()
    }

    async fn connection(&self, place: &Place) -> Result<Connection, Missed> {
        let asked = Instant::now();
        let mut made = place.lock().await;
        if let Some(connection) = made.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        if self.avoided_until.lock().is_some_and(|until| until >= asked + AVOIDED) {
            // Whoever was before us has just tried.
            return Err(Missed::Gone("it could not be reached a moment ago".to_owned()));
        }
        let about = self.about();
        let address = &about.address;
        match (&self.tls, about.tls) {
            (None, true) => {
                return Err(self.gone(format!("{address} wants TLS; give this node certificates too")));
            }
            (Some(_), false) => {
                return Err(self.gone(format!("{address} has no TLS; give it certificates too")));
            }
            (None, false) | (Some(_), true) => {}
        }
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(address, self.tls.as_deref()));
        match connecting.await {
            Ok(Ok(connection)) => {
                *self.avoided_until.lock() = None;
                Ok(made.insert(connection).clone())
            }
            Ok(Err(why)) => Err(self.gone(why)),
            Err(_) => Err(self.gone(format!("{address} does not answer"))),
        }
    }

    /// Nothing has begun. Calls go elsewhere for a while.
    fn gone(&self, why: String) -> Missed {
        let first = self.avoided_until.lock().replace(Instant::now() + AVOIDED).is_none();
        if first {
            tracing::warn!(worker = %self.id, %why, "a worker cannot be reached");
        }
        Missed::Gone(why)
    }

    fn lost(&self, error: &hyper::Error) -> Missed {
        // The worker has said that it has not looked at the request (RFC 9113 §8.7).
        let reason = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        if reason.and_then(h2::Error::reason) == Some(h2::Reason::REFUSED_STREAM) {
            return Missed::Full;
        }
        *self.avoided_until.lock() = Some(Instant::now() + AVOIDED);
        Missed::Lost(chain(error))
    }
}

async fn connect(address: &str, tls: Option<&Tls>) -> Result<Connection, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let Some(tls) = tls else { return handshake(stream).await };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let stream = tls.connect(host, stream).await;
    handshake(stream.map_err(|error| format!("no TLS with {address}: {error}"))?).await
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Connection, String> {
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        // What a worker had sent before it heard that nobody waits any more, however many hung up at once.
        .max_concurrent_reset_streams(STREAMS as usize)
        .max_local_error_reset_streams(None)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|error| chain(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection to a worker ended");
        }
    });
    Ok(sender)
}
