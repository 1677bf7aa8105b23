//! Contract `http`: one process that listens on `$PORT` and is sent each event as a request. Where the host streams, so
//! does this: the request's body goes to the program and the response's to the host as they come.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::Stdio;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use impuls_guest_protocol::{CallErrorKind, InitError, InitErrorKind, REPLY_HEAD_LIMIT, Streaming};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};

use crate::call::{Invocation, RESULT_LIMIT, Reply, error};
use crate::code::Code;
use crate::event;
use crate::process;
use crate::program::{how, log_lines};
use crate::serve::{Agent, init_error};

/// Where the program is to listen.
const PORT: u16 = 8080;
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
/// How often it is tried whether the program listens.
const POLL: Duration = Duration::from_millis(5);
/// Bytes of output that are read at once.
const CHUNK: usize = 64 * 1024;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The running program.
pub(crate) struct Web;

impl Web {
    /// Starts the program and waits until it listens; the host's deadline ends the wait.
    pub(crate) async fn start(
        agent: &Rc<Agent>,
        code: &Rc<Code>,
        loose: Rc<Reply>,
    ) -> Result<Rc<Self>, InitError> {
        let mut environment = code.environment.clone();
        environment.insert("PORT".to_owned(), PORT.to_string());
        let (words, directory) = (&code.init.command, &code.init.code_dir);
        let child = process::spawn(words, &environment, directory, Stdio::null());
        let mut child = child.map_err(|cause| {
            init_error(InitErrorKind::Init, "", format!("cannot run the program: {cause}"))
        })?;
        let streams: [(u8, Option<Box<dyn tokio::io::AsyncRead + Unpin>>); 2] = [
            (0, child.stdout.take().map(|pipe| Box::new(pipe) as _)),
            (1, child.stderr.take().map(|pipe| Box::new(pipe) as _)),
        ];
        for (level, pipe) in streams {
            spawn_local(read_output(pipe, level, loose.clone()));
        }
        loop {
            tokio::select! {
                biased;
                ended = child.wait() => {
                    let ending = ended.map_or_else(|cause| cause.to_string(), how);
                    let message = format!("the program {ending} before it listened on port {PORT}");
                    return Err(init_error(InitErrorKind::Init, "Runtime.ExitError", message));
                }
                connected = TcpStream::connect(ADDRESS) => {
                    if connected.is_ok() {
                        break;
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
        let agent = agent.clone();
        spawn_local(async move {
            let code = child.wait().await.ok().and_then(|status| status.code());
            agent.end(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        });
        Ok(Rc::new(Self))
    }

    /// Sends one event to the program and its answer to the host.
    pub(crate) async fn call(&self, invocation: Invocation) {
        let reply = invocation.reply.clone();
        match exchange(&invocation).await {
            Ok(result) => reply.succeed(result),
            Err(cause) => {
                let message = format!("the program did not answer the request: {cause}");
                reply.fail(&error(CallErrorKind::BadResponse, "HttpError", message, None));
            }
        }
    }
}

async fn exchange(invocation: &Invocation) -> Result<Vec<u8>, Failed> {
    let streaming: Streaming = serde_json::from_slice(&invocation.context).unwrap_or_default();
    let event::Described { mut request, body, length } = event::request(&invocation.event)?;
    let id = invocation.request.to_string().parse()?;
    request.headers_mut().insert("x-impuls-request-id", id);
    let body = if streaming.body {
        Either::Left(Upload { reply: invocation.reply.clone(), left: length })
    } else {
        Either::Right(Full::new(body))
    };
    let stream = TcpStream::connect(ADDRESS).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _serving = Serving(spawn_local(connection).abort_handle());
    let (head, body) = sender.send_request(request.map(|()| body)).await?.into_parts();
    if streaming.stream {
        return pass_on(&head, body, &invocation.reply).await;
    }
    let body = Limited::new(body, RESULT_LIMIT).collect().await?.to_bytes();
    Ok(event::result(&head, body))
}

/// Sends the response while it arrives; the result is nothing.
async fn pass_on(head: &Parts, mut body: Incoming, reply: &Reply) -> Result<Vec<u8>, Failed> {
    let head = event::head(head);
    if head.len() > REPLY_HEAD_LIMIT {
        return Err(format!("its head has more than {REPLY_HEAD_LIMIT} bytes").into());
    }
    reply.stream(head.into()).await;
    while let Some(frame) = body.frame().await {
        // Trailers are of no interest and come last.
        if let Ok(data) = frame?.into_data() {
            reply.stream(data).await;
        }
    }
    Ok(b"null".to_vec())
}

/// The task of a connection to the program, which ends with its call.
struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of a request that is still arriving.
struct Upload {
    reply: Rc<Reply>,
    /// How much is to come, if the client has said so.
    left: Option<u64>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.reply.poll_body(cx).map(|piece| {
            let piece = piece?;
            self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
            Some(Ok(Frame::data(piece)))
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Output belongs to no call: the program may answer many at once.
async fn read_output(pipe: Option<Box<dyn tokio::io::AsyncRead + Unpin>>, level: u8, loose: Rc<Reply>) {
    let Some(mut pipe) = pipe else { return };
    let (mut buffer, mut rest) = (vec![0; CHUNK], Vec::new());
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        log_lines(&mut rest, buffer.get(..count).unwrap_or_default(), |lines| loose.log(level, lines));
    }
    if !rest.is_empty() {
        loose.log(level, &rest);
    }
}
