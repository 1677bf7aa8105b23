//! Contract `http`: one process that listens on `$PORT` and is sent each event as a request.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use impuls_guest_protocol::{CallErrorKind, InitError, InitErrorKind};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

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
    let mut request = event::request(&invocation.event)?;
    let id = invocation.request.to_string().parse()?;
    request.headers_mut().insert("x-impuls-request-id", id);
    let stream = TcpStream::connect(ADDRESS).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let serving = spawn_local(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, RESULT_LIMIT).collect().await?.to_bytes();
    serving.abort();
    Ok(event::result(&head, body))
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
