//! A deploy that tells what its build writes: one JSON object a line, `{"log": …}` as it comes, and at the end
//! `{"function": …}` or `{"problem": …}`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Frame;
use impuls_control::BuildLog;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::problem::Problem;

/// What is asked for, and how the reply is marked.
const NDJSON: &str = "application/x-ndjson";
/// Pieces of text on the way to a client; a slower one misses some.
const AHEAD: usize = 1024;

/// Whether the client wants to be told what a build writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantsLog(bool);

impl<S: Sync> FromRequestParts<S> for WantsLog {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let mut accepted =
            parts.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        Ok(Self(accepted.any(|value| value.split(',').any(|kind| kind.trim().starts_with(NDJSON)))))
    }
}

/// Carries out a deploy that is given who to tell about its build. Answers when it is over, with this status; or at once
/// and line by line to a client that wants the log. A client that leaves gives the deploy up.
pub(crate) async fn answer<F>(
    wants: WantsLog,
    status: StatusCode,
    deploy: impl FnOnce(BuildLog) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Value, Problem>> + Send + 'static,
{
    if !wants.0 {
        let function = deploy(BuildLog::nobody()).await?;
        return Ok((status, axum::Json(function)).into_response());
    }
    let (sender, log) = mpsc::channel(AHEAD);
    let build_log = BuildLog::new(move |text| {
        // A build does not wait for whoever watches it.
        let _too_slow = sender.try_send(text.to_owned());
    });
    let lines = Lines { deploy: Some(Box::pin(deploy(build_log))), log, last: None };
    let mut response = Body::new(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(response)
}

type Deploy = Pin<Box<dyn Future<Output = Result<Value, Problem>> + Send>>;

/// The body of such a reply; carries out the deploy while it is read.
struct Lines {
    deploy: Option<Deploy>,
    log: mpsc::Receiver<String>,
    last: Option<Value>,
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(deploy) = &mut self.deploy
            && let Poll::Ready(done) = deploy.as_mut().poll(cx)
        {
            self.deploy = None;
            self.last = Some(match done {
                Ok(function) => json!({ "function": function }),
                Err(problem) => {
                    let (_, _, body) = problem.render();
                    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
                    json!({ "problem": problem })
                }
            });
        }
        // The deploy drops its end of the channel after its build, and the build's last words come first.
        match self.log.poll_recv(cx) {
            Poll::Ready(Some(text)) => Poll::Ready(Some(Ok(line(&json!({ "log": text }))))),
            Poll::Ready(None) if self.deploy.is_none() => {
                Poll::Ready(self.last.take().map(|last| Ok(line(&last))))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

fn line(value: &Value) -> Frame<Bytes> {
    Frame::data(format!("{value}\n").into())
}
