//! Bodies with code: reading them within bounds, telling JSON from archives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::extract::parse_json;
use crate::problem::{Problem, ProblemKind};
use crate::wire::request::{FunctionRequest, NUMBERS};

/// The most bytes of a body with code: 50 MiB in base64, and room for the rest.
pub const UPLOAD_LIMIT: usize = 70 * 1024 * 1024;
/// How much of a body that is too large is read and dropped, so that ordinary clients get to read the reply.
const DRAIN_LIMIT: usize = 16 * 1024 * 1024;
/// For how long.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How much memory a body gets before its bytes come, however many it announces.
const FIRST_READ: usize = 1024 * 1024;

/// How many bodies beyond [`FIRST_READ`] are in memory at once; a further one waits.
const LARGE_BODIES: usize = 4;
/// How long a client may pause within a body.
const PAUSE: Duration = Duration::from_secs(30);

/// Room for large bodies; cheap to clone.
#[derive(Clone, Debug)]
pub struct UploadRoom(Arc<Semaphore>);

impl Default for UploadRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES)))
    }
}

impl FromRef<App> for UploadRoom {
    fn from_ref(app: &App) -> Self {
        app.uploads.clone()
    }
}

/// A body that was read; a large one keeps its room until this is dropped.
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

/// A function's fields, with the archive if the body was one.
pub(crate) struct Upload {
    pub(crate) fields: FunctionRequest,
    pub(crate) archive: Option<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl<S: Sync> FromRequest<S> for Upload
where
    UploadRoom: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let claims_zip = claims_zip(request.headers());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = read(request, UPLOAD_LIMIT, &UploadRoom::from_ref(state)).await?;
        if claims_zip || is_zip(&body.bytes) {
            let (fields, archive) = (from_query(&query)?, Some(body.bytes));
            return Ok(Self { fields, archive, _room: body.room });
        }
        Ok(Self { fields: parse_json(&body.bytes)?, archive: None, _room: body.room })
    }
}

/// Code alone: an archive, or the source text of one file.
pub(crate) struct CodeUpload(pub(crate) Upload);

impl<S: Sync> FromRequest<S> for CodeUpload
where
    UploadRoom: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let claims_zip = claims_zip(request.headers());
        let body = read(request, UPLOAD_LIMIT, &UploadRoom::from_ref(state)).await?;
        if claims_zip || is_zip(&body.bytes) {
            let fields = FunctionRequest::default();
            return Ok(Self(Upload { fields, archive: Some(body.bytes), _room: body.room }));
        }
        let text = String::from_utf8(body.bytes.into());
        let text =
            text.map_err(|_| Problem::invalid("code", "this is neither UTF-8 text nor a ZIP archive"))?;
        let fields = FunctionRequest { code: Some(text), ..FunctionRequest::default() };
        Ok(Self(Upload { fields, archive: None, _room: body.room }))
    }
}

fn claims_zip(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    ["application/zip", "application/x-zip-compressed"].iter().any(|zip| media_type.eq_ignore_ascii_case(zip))
}

/// Whether the bytes begin as archives do (APPNOTE.TXT §4.3.7), which neither JSON nor source text does.
fn is_zip(body: &[u8]) -> bool {
    body.starts_with(b"PK\x03\x04")
}

/// A function's fields from query parameters; `environment` is a JSON object.
fn from_query(query: &str) -> Result<FunctionRequest, Problem> {
    let invalid = |error: &dyn std::fmt::Display| Problem::invalid("query", error);
    let uri = format!("/?{query}").parse::<http::Uri>().map_err(|error| invalid(&error))?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    let pairs = pairs.map_err(|refusal| invalid(&refusal))?.0;
    let value = |name: &str, text: String| -> Result<Value, Problem> {
        let is_json = name == "environment" || NUMBERS.contains(&name);
        let refused = |error| Problem::invalid(name, format_args!("{text:?} is not possible: {error}"));
        if is_json { serde_json::from_str(&text).map_err(refused) } else { Ok(Value::String(text)) }
    };
    let fields = pairs.into_iter().map(|(name, text)| value(&name, text).map(|value| (name, value)));
    let fields: Map<String, Value> = fields.collect::<Result<_, _>>()?;
    serde_json::from_value(Value::Object(fields)).map_err(|error| invalid(&error))
}

/// Reads a whole body of at most `limit` bytes, chunked or not. A larger one is refused at once, and some of the
/// rest read and dropped in the background.
pub(crate) async fn read(request: Request, limit: usize, room: &UploadRoom) -> Result<Read, Problem> {
    let (parts, mut body) = request.into_parts();
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        // Who expects `100 Continue` sends nothing after a refusal.
        if !parts.headers.contains_key(header::EXPECT) {
            drain(body);
        }
        return Err(Problem::too_large(limit));
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(FIRST_READ));
    let mut taken = None;
    while let Some(data) = next_piece(&mut body).await? {
        let length = bytes.len() + data.len();
        if length > limit {
            drain(body);
            return Err(Problem::too_large(limit));
        }
        if length > FIRST_READ && taken.is_none() {
            taken = room.0.clone().acquire_owned().await.ok();
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Read { bytes: bytes.into(), room: taken })
}

/// The next bytes of a body; `None` at its end.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    let broken = |what: &dyn std::fmt::Display| {
        Problem::new(ProblemKind::InvalidRequest, format!("Invalid request body: {what}"))
    };
    let frame = tokio::time::timeout(PAUSE, body.frame()).await;
    let frame = frame.map_err(|_| broken(&"it did not arrive in time"))?;
    let frame = frame.transpose().map_err(|error| broken(&format_args!("it broke off: {error}")))?;
    // Trailers are of no interest and come last.
    Ok(frame.and_then(|frame| frame.into_data().ok()))
}

/// Reads on for a while: a connection that is closed with unread bytes is reset, and the client may lose the reply.
pub(crate) fn drain(mut body: Body) {
    tokio::spawn(tokio::time::timeout(DRAIN_TIME, async move {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    }));
}

#[cfg(test)]
mod tests;
