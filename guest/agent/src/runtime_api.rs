//! The AWS Lambda Runtime API, version 2018-06-01, on a loopback address inside the sandbox.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::bootstrap::Bootstrap;
use crate::call::{Invocation, RESULT_LIMIT};

const ROOT: &str = "/2018-06-01/runtime/";
/// The most bytes of a result that are read; what is larger than a result may be is refused later, by its size.
const BODY_LIMIT: usize = RESULT_LIMIT + 64 * 1024;

type Reply = Response<Full<Bytes>>;

/// Takes a free port of the sandbox's own loopback address.
pub(crate) async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

/// Serves until the sandbox ends.
pub(crate) async fn serve(listener: TcpListener, bootstrap: Rc<Bootstrap>) {
    while let Ok((stream, _)) = listener.accept().await {
        let bootstrap = bootstrap.clone();
        spawn_local(async move {
            let service = service_fn(move |request| {
                let bootstrap = bootstrap.clone();
                async move { Ok::<_, Infallible>(answer(&bootstrap, request).await) }
            });
            let _nodelay = stream.set_nodelay(true);
            let connection = hyper::server::conn::http1::Builder::new();
            // A runtime that hangs up is its own affair.
            let _hung_up = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(bootstrap: &Bootstrap, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let Some(rest) = path.strip_prefix(ROOT) else { return error(StatusCode::NOT_FOUND, "NotFound", &path) };
    let class = request.headers().get("lambda-runtime-function-error-type");
    let class = class.and_then(|class| class.to_str().ok()).map(str::to_owned);
    let parts: Vec<&str> = rest.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => event(bootstrap, bootstrap.next().await),
        (&Method::POST, ["invocation", id, what @ ("response" | "error")]) => {
            let Ok(body) = read(request).await else { return too_large() };
            let known = match *what {
                "response" => bootstrap.respond(id, body),
                _ => bootstrap.fail(id, &body, class.as_deref()),
            };
            if known { accepted() } else { error(StatusCode::BAD_REQUEST, "InvalidRequestID", id) }
        }
        (&Method::POST, ["init", "error"]) => {
            let Ok(body) = read(request).await else { return too_large() };
            bootstrap.fail_init(&body, class.as_deref());
            accepted()
        }
        _ => error(StatusCode::NOT_FOUND, "NotFound", &path),
    }
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(request.into_body(), BODY_LIMIT).collect().await?.to_bytes())
}

fn event(bootstrap: &Bootstrap, invocation: Invocation) -> Reply {
    let event = if invocation.event.is_empty() { Bytes::from_static(b"null") } else { invocation.event };
    let mut response = Response::new(Full::new(event));
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let request = invocation.request;
    set("content-type", "application/json");
    set("lambda-runtime-aws-request-id", &request.to_string());
    set("lambda-runtime-deadline-ms", &invocation.deadline_unix_ms.to_string());
    set("lambda-runtime-invoked-function-arn", &bootstrap.arn);
    let simple = request.simple().to_string();
    let (root, rest) = simple.split_at_checked(8).unwrap_or((&simple, ""));
    set("lambda-runtime-trace-id", &format!("Root=1-{root}-{rest};Sampled=0"));
    response
}

fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, r#"{"status":"OK"}"#.to_owned())
}

fn too_large() -> Reply {
    let message = format!("the body has more than {RESULT_LIMIT} bytes or was cut off");
    error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(status, serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string())
}

fn json(status: StatusCode, body: String) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
