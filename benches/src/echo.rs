//! The bare servers: what is left when nothing is done for a call. They run in processes of their own, like
//! everything else that is measured.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// The most that one read of the bare socket takes.
const CHUNK: usize = 64 << 10;

/// Prints where a server listens.
pub(crate) fn announce(address: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    out.flush().context("cannot print the address")
}

/// Sends every byte back: one thread, one connection after another, blocking calls.
pub(crate) fn serve_socket() -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // A connection that breaks is the client's way to leave.
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            if stream.write_all(chunk.get(..count).unwrap_or_default()).is_err() {
                break;
            }
        }
    }
}

/// hyper with nothing behind it: as many threads as cores, each body is sent back.
pub(crate) fn serve_http() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo));
            // A connection that breaks is the client's way to leave.
            tokio::spawn(async move { connection.await.unwrap_or_default() });
        }
    })
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off has nobody left to answer.
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Full::new(body));
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
