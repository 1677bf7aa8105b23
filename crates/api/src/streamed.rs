//! Replies that are sent while the function makes them, and bodies that it reads while they arrive.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use impuls_dispatch::{DispatchError, Input, InputBroken, Invoked};
use impuls_domain::InvocationId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::invoke::{self, Head};
use crate::problem::Problem;
use crate::upload;

type Ended = Result<Invoked, DispatchError>;

/// The body of a request, for a function that reads it as it comes.
pub(crate) struct Incoming(Option<Body>);

impl Incoming {
    pub(crate) const fn new(body: Body) -> Self {
        Self(Some(body))
    }
}

#[async_trait]
impl Input for Incoming {
    async fn next(&mut self) -> Option<Result<Bytes, InputBroken>> {
        let frame = match self.0.as_mut()?.frame().await {
            Some(Ok(frame)) => frame,
            ended => {
                self.0 = None;
                return ended.map(|_| Err(InputBroken));
            }
        };
        // Trailers are of no interest and come last.
        frame.into_data().ok().map(Ok)
    }
}

impl Drop for Incoming {
    /// The function has answered without reading all of it.
    fn drop(&mut self) {
        if let (Some(body), Ok(_)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            upload::drain(body);
        }
    }
}

/// Answers with what a call sends, as it comes, or with its result if it does not stream.
pub(crate) async fn respond(
    method: &Method,
    id: InvocationId,
    call: impl Future<Output = Ended> + Send + 'static,
    mut output: mpsc::Receiver<Bytes>,
) -> Result<Response, Problem> {
    let mut call = Box::pin(call);
    let head = tokio::select! {
        biased;
        Some(head) = output.recv() => head,
        ended = &mut call => return Ok(finished(method, ended?, output.try_recv().ok())),
    };
    let parsed = Head::parse(&head, id);
    let head = match parsed {
        Ok(head) if *method != Method::HEAD && has_body(head.status) => head,
        // Nothing of the output can be sent, whatever it is.
        bodiless => {
            let mut ended = discard(call, output).await?;
            return Ok(whole(match bodiless {
                Ok(head) if ended.outcome.result.is_ok() => head_alone(method, head, &ended),
                Ok(_) => invoke::raw(ended),
                Err(message) => {
                    ended.outcome.result = ended.outcome.result.and(Err(invoke::bad_response(message)));
                    invoke::envelope(&ended)
                }
            }));
        }
    };
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    // A task of its own, because nobody polls the body for a client that does not read, and deadlines hold all the same.
    let body = StreamBody { output, call: Some(tokio::spawn(call)), left: head.length };
    Ok(response.map(|()| Body::new(body)))
}

/// A call that ended before anything of it was sent.
fn finished(method: &Method, mut invoked: Invoked, head: Option<Bytes>) -> Response {
    let (Some(head), Ok(rest)) = (head, &invoked.outcome.result) else {
        return whole(invoke::raw(invoked));
    };
    whole(match Head::parse(&head, invoked.id) {
        Ok(head) if *method == Method::HEAD || !has_body(head.status) => head_alone(method, head, &invoked),
        Ok(head) => head.with(rest.clone(), &invoked),
        Err(message) => {
            invoked.outcome.result = Err(invoke::bad_response(message));
            invoke::envelope(&invoked)
        }
    })
}

/// Waits for the end of a call whose output nobody wants.
async fn discard(
    mut call: Pin<Box<impl Future<Output = Ended>>>,
    mut output: mpsc::Receiver<Bytes>,
) -> Ended {
    loop {
        tokio::select! {
            biased;
            Some(_) = output.recv() => {}
            ended = &mut call => return ended,
        }
    }
}

/// A reply without a body, which says how long it would have been to those who asked for nothing else.
fn head_alone(method: &Method, mut head: Head, invoked: &Invoked) -> invoke::Reply {
    if let Some(length) = head.length.filter(|_| *method == Method::HEAD) {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    head.with(Bytes::new(), invoked)
}

/// Whether replies of this status have a body (RFC 9110, 6.4.1).
fn has_body(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

pub(crate) fn whole(reply: invoke::Reply) -> Response {
    let mut response = Response::new(reply.body.into());
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// The body of a reply that is still being made. It ends well only if the call does. Dropped before that, because the
/// client has hung up, it stops the call.
struct StreamBody {
    output: mpsc::Receiver<Bytes>,
    /// `None` once its end is known.
    call: Option<JoinHandle<Ended>>,
    /// How much is to come, if the function has said so.
    left: Option<u64>,
}

/// Why a body breaks off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("the function failed while it answered: {0}")]
    Failed(String),
    #[error("the platform lost the call")]
    Lost,
}

impl hyper::body::Body for StreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = std::task::ready!(self.output.poll_recv(cx));
        let piece = match piece {
            Some(piece) => piece,
            None => {
                let Some(call) = &mut self.call else { return Poll::Ready(None) };
                let ended = std::task::ready!(Pin::new(call).poll(cx));
                self.call = None;
                match ended {
                    Ok(Ok(Invoked { outcome, .. })) => match outcome.result {
                        Ok(rest) if rest.is_empty() => return Poll::Ready(None),
                        Ok(rest) => rest,
                        Err(failure) => return Poll::Ready(Some(Err(Broken::Failed(failure.message)))),
                    },
                    Ok(Err(_)) | Err(_) => return Poll::Ready(Some(Err(Broken::Lost))),
                }
            }
        };
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // Who has everything that was announced asks for no more, and the call ends by itself.
        if let Some(call) = self.call.take().filter(|_| self.left != Some(0)) {
            call.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use impuls_domain::{Logs, Outcome, Usage, VersionNumber};

    use super::*;

    fn ended(rest: &'static str) -> Ended {
        let outcome = Outcome {
            result: Ok(Bytes::from_static(rest.as_bytes())),
            logs: Logs::default(),
            usage: Usage::default(),
        };
        Ok(Invoked { id: InvocationId::new(), version: VersionNumber::FIRST, outcome })
    }

    fn failed() -> Ended {
        let mut invoked = ended("")?;
        invoked.outcome.result = Err(invoke::bad_response("no".to_owned()));
        Ok(invoked)
    }

    /// Answers a call that sends these pieces, each when the one before was taken, and then ends.
    async fn answer(method: Method, pieces: Vec<&'static str>, ending: Ended) -> Response {
        let (output, taken) = mpsc::channel(1);
        let call = async move {
            for piece in pieces {
                // A client that has hung up takes no more.
                drop(output.send(Bytes::from_static(piece.as_bytes())).await);
            }
            drop(output);
            ending
        };
        respond(&method, InvocationId::new(), call, taken).await.unwrap()
    }

    async fn text(response: Response) -> Result<String, axum::Error> {
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.into()).unwrap())
    }

    #[tokio::test]
    async fn a_stream_ends_as_its_call_does() {
        let head = r#"{"statusCode":201}"#;
        let response = answer(Method::GET, vec![head, "a", "b"], ended("c")).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(text(response).await.unwrap(), "abc");
        let response = answer(Method::GET, vec![head, "a", "b"], failed()).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert!(text(response).await.is_err(), "it breaks off");
    }

    #[tokio::test]
    async fn a_call_that_does_not_stream_is_answered_with_its_result() {
        let response = answer(Method::GET, vec![], ended("{\"statusCode\":202,\"body\":\"x\"}")).await;
        assert_eq!((response.status(), text(response).await.unwrap().as_str()), (StatusCode::ACCEPTED, "x"));
        let response = answer(Method::GET, vec![], failed()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn a_reply_that_is_over_at_once_has_a_length() {
        let response = answer(Method::GET, vec!["{}"], ended("all")).await;
        assert_eq!(hyper::body::Body::size_hint(response.body()).exact(), Some(3));
        assert_eq!(text(response).await.unwrap(), "all");
    }

    #[tokio::test]
    async fn replies_without_a_body_wait_for_the_end() {
        let head = r#"{"headers":{"content-length":"9"}}"#;
        let response = answer(Method::HEAD, vec![head, "a", "b"], ended("c")).await;
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "9");
        assert_eq!(text(response).await.unwrap(), "");
        let response = answer(Method::GET, vec![r#"{"statusCode":204}"#, "a"], ended("")).await;
        assert_eq!((response.status(), text(response).await.unwrap().as_str()), (StatusCode::NO_CONTENT, ""));
        let response = answer(Method::HEAD, vec![head, "a", "b"], failed()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn a_head_that_is_none_is_the_functions_failure() {
        for pieces in [vec!["x"], vec!["x", "a", "b"]] {
            let response = answer(Method::GET, pieces, ended("")).await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert!(text(response).await.unwrap().contains("BadResponse"));
        }
    }

    #[tokio::test]
    async fn a_client_that_has_all_that_was_announced_does_not_stop_the_call() {
        for (length, is_stopped) in [("2", false), ("9", true)] {
            let (output, taken) = mpsc::channel(1);
            let (goes_on, mut lives) = mpsc::channel::<()>(1);
            let head = Bytes::from(format!(r#"{{"headers":{{"content-length":"{length}"}}}}"#));
            let call = async move {
                output.send(head).await.unwrap();
                output.send(Bytes::from_static(b"ab")).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                goes_on.send(()).await.unwrap();
                ended("")
            };
            let response = respond(&Method::GET, InvocationId::new(), call, taken).await.unwrap();
            let mut body = response.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
            drop(body);
            assert_eq!(lives.recv().await.is_none(), is_stopped);
        }
    }
}
