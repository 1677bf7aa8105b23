//! One request on one connection.

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use impuls_dispatch::{HookClient, HookError, HookReply, HookRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::gate::Gate;
use crate::tls::Tls;

/// The most bytes of an answer's body that are read.
const ANSWER_LIMIT: usize = 64 * 1024;
/// The most bytes of an answer's head.
const HEAD_LIMIT: usize = 64 * 1024;

/// The way out; see the crate's documentation.
#[derive(Default)]
pub struct OutgoingClient {
    gate: Gate,
    tls: Tls,
}

impl OutgoingClient {
    /// A client that reaches what this gate lets through.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self { gate, tls: Tls::default() }
    }

    async fn exchange(&self, request: HookRequest) -> Result<HookReply, HookError> {
        let place = Place::of(request.url.as_str())?;
        let address = self.address(&place).await?;
        let stream = TcpStream::connect(address).await;
        let stream =
            stream.map_err(|error| failed(format_args!("cannot connect to {}: {error}", place.host)))?;
        let outgoing = outgoing(&request, &place)?;
        if place.is_tls {
            let stream = self.tls.wrap(&place.host, stream).await.map_err(HookError::Failed)?;
            return send(stream, outgoing).await;
        }
        send(stream, outgoing).await
    }

    /// Where to connect to; the name is asked for once, and what is judged is what is used.
    async fn address(&self, place: &Place) -> Result<SocketAddr, HookError> {
        let host = place.host.trim_matches(['[', ']']);
        let found = tokio::net::lookup_host((host, place.port)).await;
        let found = found.map_err(|error| failed(format_args!("cannot find {host}: {error}")))?;
        let addresses: Vec<IpAddr> = found.map(|found| found.ip()).collect();
        let chosen = self.gate.choose(host, &addresses);
        let chosen = chosen.map_err(|refusal| HookError::Refused(refusal.to_string()))?;
        let none = || failed(format_args!("{host} has no address"));
        Ok(SocketAddr::new(chosen.ok_or_else(none)?, place.port))
    }
}

#[async_trait]
impl HookClient for OutgoingClient {
    async fn post(&self, request: HookRequest) -> Result<HookReply, HookError> {
        let timeout = request.timeout;
        let answered = tokio::time::timeout(timeout, self.exchange(request)).await;
        answered.unwrap_or_else(|_| Err(failed(format_args!("no answer within {timeout:?}"))))
    }
}

fn failed(why: impl std::fmt::Display) -> HookError {
    HookError::Failed(why.to_string())
}

/// Where an address leads.
struct Place {
    is_tls: bool,
    host: String,
    port: u16,
    /// As the header `Host` has it.
    authority: String,
    path: String,
}

impl Place {
    fn of(url: &str) -> Result<Self, HookError> {
        let refused = || HookError::Refused(format!("{url:?} is no address of a hook"));
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(refused)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            is_tls,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.to_string(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        })
    }
}

fn outgoing(request: &HookRequest, place: &Place) -> Result<Request<Full<Bytes>>, HookError> {
    Request::post(place.path.as_str())
        .header(header::HOST, place.authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("impuls/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .header("x-impuls-delivery", request.id.to_string())
        .header("x-impuls-attempt", request.attempt.to_string())
        .body(Full::new(request.body.clone()))
        .map_err(|error| HookError::Refused(format!("the request cannot be made: {error}")))
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<HookReply, HookError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| failed(format_args!("the exchange broke off: {error}"));
    let builder = http1::Builder::new().max_buf_size(HEAD_LIMIT).to_owned();
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answering = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        Ok(HookReply { status: answer.status().as_u16(), body: beginning(answer.into_body()).await })
    };
    let mut answering = std::pin::pin!(answering);
    // The connection is driven here and not by a task, so that it ends with whoever waits.
    tokio::select! {
        biased;
        answered = answering.as_mut() => answered,
        ended = connection => match ended {
            // What came before the end may still be read.
            Ok(()) => answering.await,
            Err(error) => Err(broken(error)),
        },
    }
}

/// The beginning of a body, as text. How it ends does not matter: the status says what is to be known.
async fn beginning(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend(data.iter().take(ANSWER_LIMIT - bytes.len()));
        if bytes.len() >= ANSWER_LIMIT {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
