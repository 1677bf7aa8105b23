//! Calls of functions.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

use crate::client::{Answer, Client, Content, Reply};
use crate::error::ClientError;
use crate::functions::below;
use crate::wire::Envelope;

/// Carried by the replies of functions, and by no refusal.
const REQUEST_ID: &str = "x-impuls-request-id";
/// How long the handler took.
const DURATION: &str = "x-impuls-duration";

/// A reply as the function shaped it.
#[derive(Clone, Debug)]
pub struct RawReply {
    /// The function's `statusCode`, or 200; or the status of an invocation that failed.
    pub status: StatusCode,
    /// All headers of the reply.
    pub headers: HeaderMap,
    /// The function's body.
    pub body: Bytes,
}

impl Client {
    /// Runs the function with this event (JSON text; empty means `null`) and waits for its outcome.
    ///
    /// A failed invocation is `Ok`, with [`Envelope::error`]. The time is bounded by the function's timeout alone.
    /// `qualifier` is a version, an alias or `$LATEST`.
    pub async fn invoke(
        &self,
        name: &str,
        qualifier: Option<&str>,
        event: Bytes,
    ) -> Result<Reply<Envelope>, ClientError> {
        let answer = self.post_event(name, qualifier, event, false).await?;
        if is_problem(&answer.headers) {
            return Err(answer.problem());
        }
        // A failed invocation has an envelope and an error status; any other error status is a refusal.
        match serde_json::from_slice::<Envelope>(&answer.body) {
            Ok(mut value) => {
                value.duration_ms = exact_duration(&answer.headers).unwrap_or(value.duration_ms);
                Ok(Reply { value, body: answer.body })
            }
            Err(error) if answer.status.is_success() => Err(ClientError::Reply(error)),
            Err(_) => Err(answer.problem()),
        }
    }

    /// Runs the function and returns its own reply: `statusCode`, `headers` and `body` honoured.
    ///
    /// What the server itself refuses is [`ClientError::Problem`].
    pub async fn invoke_raw(
        &self,
        name: &str,
        qualifier: Option<&str>,
        event: Bytes,
    ) -> Result<RawReply, ClientError> {
        let answer = self.post_event(name, qualifier, event, true).await?;
        if is_problem(&answer.headers) {
            return Err(answer.problem());
        }
        Ok(RawReply { status: answer.status, headers: answer.headers, body: answer.body })
    }

    async fn post_event(
        &self,
        name: &str,
        qualifier: Option<&str>,
        event: Bytes,
        raw: bool,
    ) -> Result<Answer, ClientError> {
        let mut query = Vec::new();
        if let Some(qualifier) = qualifier {
            query.push(("qualifier", qualifier.to_owned()));
        }
        if raw {
            query.push(("raw", "true".to_owned()));
        }
        let body = Some(("application/json", event));
        self.send(
            Method::POST,
            &below(name, &["invoke"]),
            Content { query, body, patient: true, ..Content::default() },
        )
        .await
    }
}

/// Milliseconds with decimals.
fn exact_duration(headers: &HeaderMap) -> Option<f64> {
    headers.get(DURATION)?.to_str().ok()?.parse().ok().filter(|ms: &f64| ms.is_finite())
}

/// Whether the server refuses. A reply with a request id is from a function, whatever it looks like.
fn is_problem(headers: &HeaderMap) -> bool {
    if headers.contains_key(REQUEST_ID) {
        return false;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/problem+json"))
}
