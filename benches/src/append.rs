//! A bare HTTP server that keeps what it is sent: each body is appended to a file, and answered with 202 when the disk has
//! it. Bodies that arrive while the disk works share the next sync, which is what any server does that is quick at this.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};

use crate::echo::announce;

/// Bodies that may wait; whoever brings one more waits.
const WAITING: usize = 1_024;

type Entry = (Bytes, oneshot::Sender<()>);

/// Serves until it is ended.
pub(crate) fn serve(path: &Path) -> anyhow::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (entries, queue) = mpsc::channel(WAITING);
    std::thread::spawn(move || append(file, queue));
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let entries = entries.clone();
            let service = service_fn(move |request| keep(entries.clone(), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the client's way to leave.
            tokio::spawn(async move { connection.await.unwrap_or_default() });
        }
    })
}

/// Ends, and with it every answer but errors, when the disk refuses.
fn append(mut file: File, mut queue: mpsc::Receiver<Entry>) {
    let mut group = Vec::new();
    while queue.blocking_recv_many(&mut group, WAITING) > 0 {
        let bytes: Vec<u8> = group.iter().flat_map(|(body, _)| body.iter().copied()).collect();
        if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for (_, answer) in group.drain(..) {
            // Whoever has left does not want to know.
            let _ = answer.send(());
        }
    }
}

async fn keep(
    entries: mpsc::Sender<Entry>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off has nobody left to answer.
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (answer, answered) = oneshot::channel();
    let kept = entries.send((body, answer)).await.is_ok() && answered.await.is_ok();
    let mut response = Response::new(Full::default());
    *response.status_mut() = if kept { StatusCode::ACCEPTED } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok(response)
}
