//! Bodies within bounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this size need no room.
const SMALL: usize = 1024 * 1024;
/// How many larger bodies are in memory at once; a further one waits.
const LARGE_BODIES: usize = 4;
/// How long a client may pause within a body.
const PAUSE: Duration = Duration::from_secs(30);

/// Why a body was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than it may be.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// What it may be.
        limit: usize,
    },
    /// The client stopped sending.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection ended in the middle.
    #[error("the body broke off: {0}")]
    Broken(String),
    /// It is no JSON, or not the JSON that is expected here.
    #[error("{0}")]
    Json(String),
}

/// Room for large bodies; cheap to clone.
#[derive(Clone, Debug)]
pub struct BodyRoom(Arc<Semaphore>);

impl Default for BodyRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES)))
    }
}

/// A body that was read; a large one keeps its room until this is dropped.
#[derive(Debug)]
pub struct Body {
    /// All of it.
    pub bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    /// Reads a whole body of at most `limit` bytes.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        mut body: axum::body::Body,
        limit: usize,
    ) -> Result<Body, BodyError> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > limit) {
            return Err(BodyError::TooLarge { limit });
        }
        let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(SMALL));
        let mut room = None;
        while let Some(data) = next_piece(&mut body).await? {
            let length = bytes.len() + data.len();
            if length > limit {
                return Err(BodyError::TooLarge { limit });
            }
            if length > SMALL && room.is_none() {
                room = self.0.clone().acquire_owned().await.ok();
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Body { bytes: bytes.into(), _room: room })
    }

    /// Reads a JSON body of at most `limit` bytes.
    pub async fn json<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: axum::body::Body,
        limit: usize,
    ) -> Result<T, BodyError> {
        parse_json(&self.read(headers, body, limit).await?.bytes)
    }
}

/// Parses JSON; the error names the member at fault, as in `memory_mb: invalid type: string "a", expected u32 …`.
pub fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, BodyError> {
    let parsed = axum::Json::from_bytes(text);
    parsed.map(|json| json.0).map_err(|refusal| BodyError::Json(innermost(&refusal).to_string()))
}

/// The first cause, which says what is wrong and where, without the framework's introduction.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

async fn next_piece(body: &mut axum::body::Body) -> Result<Option<Bytes>, BodyError> {
    let frame = tokio::time::timeout(PAUSE, body.frame()).await.map_err(|_| BodyError::TimedOut)?;
    let frame = frame.transpose().map_err(|error| BodyError::Broken(error.to_string()))?;
    // Trailers are of no interest and come last.
    Ok(frame.and_then(|frame| frame.into_data().ok()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    async fn read(bytes: usize, limit: usize) -> Result<usize, BodyError> {
        let body = axum::body::Body::from(vec![b'x'; bytes]);
        Ok(BodyRoom::default().read(&HeaderMap::new(), body, limit).await?.bytes.len())
    }

    #[tokio::test]
    async fn a_body_may_have_as_many_bytes_as_the_limit_and_no_more() {
        assert_eq!(read(10, 10).await, Ok(10));
        assert_eq!(read(11, 10).await, Err(BodyError::TooLarge { limit: 10 }));
    }

    #[test]
    fn an_error_names_the_member_at_fault() {
        let check = |text: &str, beginning: &str| {
            let error = parse_json::<BTreeMap<String, Vec<u8>>>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(beginning), "{error}");
        };
        check(r#"{"a": [1], "b": [1, "x"]}"#, "b[1]: invalid type: string");
        check(r#"{"a": [1]} x"#, "trailing characters");
        check(r#"{"a": 1"#, "a: invalid type: integer");
    }

    #[tokio::test]
    async fn what_is_announced_is_refused_before_it_is_read() {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, http::HeaderValue::from(11))]);
        let read = BodyRoom::default().read(&headers, axum::body::Body::empty(), 10).await;
        assert_eq!(read.err(), Some(BodyError::TooLarge { limit: 10 }));
    }
}
