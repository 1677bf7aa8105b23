//! `/api/v1/functions/{name}/invocations` and `/api/v1/invocations`: calls that nobody waits for, or only for a while.

use axum::Json;
use axum::extract::{Request, State};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use impuls_control::AsyncInvocationPage;
use impuls_dispatch::{DeliveryOptions, FunctionRef, InvokeOptions, Retry, SubmitRequest};
use impuls_domain::async_invocation::KEY_LIMIT;
use impuls_domain::limits::{PAYLOAD_LIMIT, TIMEOUT_MS};
use impuls_domain::{AsyncInvocation, AsyncStatus, Caller, InvocationId, Qualifier, RetryChange};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use crate::app::App;
use crate::extract::{Authenticated, Path, Query, function};
use crate::problem::{Problem, ProblemReply};
use crate::span;
use crate::upload;
use crate::wire::queued::{QueuedList, QueuedObject, Redriven};

/// What makes a repeated submission return the first invocation.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Invocations on a page if nobody says how many.
const DEFAULT_LIMIT: u32 = 50;

fn id(text: &str) -> Result<InvocationId, Problem> {
    text.parse().map_err(|error| Problem::invalid("id", error))
}

fn whole(app: &App, invocation: &AsyncInvocation) -> QueuedObject {
    QueuedObject::whole(invocation, name(app, invocation))
}

fn name(app: &App, invocation: &AsyncInvocation) -> Option<String> {
    app.dispatch.function_name(invocation.function).map(|name| name.to_string())
}

/// What is special about one invocation. Time spans are like `500ms`, `30s`, `1m30s`, `2h` or `7d`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmitQuery {
    /// A version, an alias or `$LATEST`; the newest version if absent.
    qualifier: Option<String>,
    /// How long it waits before it may run: at most `7d`.
    delay: Option<String>,
    /// A timeout of its own instead of the function's.
    timeout: Option<String>,
    /// How often the function's failure is tried again: 0 to 10.
    max_retries: Option<u32>,
    /// The wait before the first retry: `100ms` to `24h`; it doubles from retry to retry.
    retry_delay: Option<String>,
    /// The longest wait before any retry.
    max_retry_delay: Option<String>,
    /// How long after it could first have run an attempt may still begin: `1m` to `7d`.
    max_age: Option<String>,
    /// Whether it becomes a dead letter when it is given up.
    dead_letter: Option<bool>,
}

impl SubmitQuery {
    fn qualifier(&self) -> Result<Qualifier, Problem> {
        let qualifier = self.qualifier.as_deref().filter(|text| !text.is_empty());
        Ok(qualifier.map(str::parse).transpose()?.unwrap_or(Qualifier::Latest))
    }

    fn timeout(&self) -> Result<Option<std::time::Duration>, Problem> {
        let Some(text) = self.timeout.as_deref() else { return Ok(None) };
        let timeout = span::parse("timeout", text)?;
        let (min, max) = (TIMEOUT_MS.start(), TIMEOUT_MS.end());
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        if TIMEOUT_MS.contains(&ms) {
            return Ok(Some(timeout));
        }
        Err(Problem::invalid("timeout", format_args!("{ms} ms is not possible; {min} to {max} are allowed")))
    }

    fn delivery(&self, headers: &HeaderMap) -> Result<DeliveryOptions, Problem> {
        let span =
            |name, text: &Option<String>| text.as_deref().map(|text| span::parse(name, text)).transpose();
        let change = RetryChange {
            max_retries: self.max_retries,
            first_wait: span("retry_delay", &self.retry_delay)?,
            max_wait: span("max_retry_delay", &self.max_retry_delay)?,
            max_age: span("max_age", &self.max_age)?,
            dead_letter: self.dead_letter,
        };
        let delay = span("delay", &self.delay)?.unwrap_or_default();
        Ok(DeliveryOptions { delay, key: key(headers)?, retry: Retry::Settings(change) })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(KEY) else { return Ok(None) };
    let wrong = || {
        Problem::invalid(
            "Idempotency-Key",
            format_args!("1 to {KEY_LIMIT} visible ASCII characters are wanted"),
        )
    };
    let text = value.to_str().map_err(|_| wrong())?;
    if text.is_empty() || text.len() > KEY_LIMIT { Err(wrong()) } else { Ok(Some(text.to_owned())) }
}

/// Accepts an invocation that is run later; what is accepted is not lost, whatever happens to the server.
///
/// The body is the event: JSON of at most 6 MiB; an empty body means `null`. It is run at least once; the function sees
/// the same request id at every attempt.
#[utoipa::path(
    post, path = "/api/v1/functions/{name}/invocations", tag = "asynchronous invocations",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        SubmitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Submitting again with the same key and event returns \
            the first invocation, as long as that is kept"),
    ),
    request_body(content = Option<serde_json::Value>, content_type = "application/json", description = "The event"),
    responses(
        (status = 202, description = "It is accepted", body = QueuedObject,
            headers(("Location" = String, description = "Where to look"))),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 409, response = ProblemReply),
        (status = 413, response = ProblemReply),
        (status = 503, response = ProblemReply),
    )
)]
pub(crate) async fn submit(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    Query(query): Query<SubmitQuery>,
    request: Request,
) -> Result<(StatusCode, HeaderMap, Json<QueuedObject>), Problem> {
    let delivery = query.delivery(request.headers())?;
    let options = InvokeOptions { timeout: query.timeout()?, ..InvokeOptions::default() };
    let qualifier = query.qualifier()?;
    let body = upload::read(request, PAYLOAD_LIMIT, &app.uploads).await?;
    let event = body.bytes.clone();
    let function = FunctionRef::Text(&name);
    let submitted = SubmitRequest { function, qualifier, event, options, delivery };
    let accepted = app.dispatch.submit(&caller, submitted).await?;
    let mut headers = HeaderMap::new();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/invocations/{}", accepted.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok((StatusCode::ACCEPTED, headers, Json(QueuedObject::brief(&accepted, self::name(&app, &accepted)))))
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Waits for the end, but at most so long: a time span such as `30s`, at most `60s`.
    wait: Option<String>,
}

/// One asynchronous invocation with event, result and logs.
///
/// With `wait` the reply comes when it has ended, or when the time is over; then `status` says where it stands.
#[utoipa::path(
    get, path = "/api/v1/invocations/{id}", tag = "asynchronous invocations",
    params(("id" = Uuid, Path, description = "The invocation"), WaitQuery),
    responses(
        (status = 200, description = "The invocation", body = QueuedObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 429, response = ProblemReply),
    )
)]
pub(crate) async fn get_invocation(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(text): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<QueuedObject>, Problem> {
    let up_to = query.wait.as_deref().map(|text| span::parse("wait", text)).transpose()?;
    let found = app.dispatch.wait(&caller, id(&text)?, up_to.unwrap_or_default()).await?;
    Ok(Json(whole(&app, &found)))
}

/// Ends an asynchronous invocation: one that waits is not run, and one that runs is stopped.
#[utoipa::path(
    delete, path = "/api/v1/invocations/{id}", tag = "asynchronous invocations",
    params(("id" = Uuid, Path, description = "The invocation")),
    responses(
        (status = 200, description = "It is cancelled", body = QueuedObject),
        (status = 404, response = ProblemReply),
        (status = 409, response = ProblemReply),
    )
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(text): Path<String>,
) -> Result<Json<QueuedObject>, Problem> {
    let cancelled = app.dispatch.cancel(&caller, id(&text)?).await?;
    Ok(Json(whole(&app, &cancelled)))
}

/// Drives a dead letter again, as if it had just been accepted.
#[utoipa::path(
    post, path = "/api/v1/invocations/{id}/redrive", tag = "asynchronous invocations",
    params(("id" = Uuid, Path, description = "The invocation")),
    responses(
        (status = 202, description = "It waits again", body = QueuedObject),
        (status = 404, response = ProblemReply),
        (status = 409, response = ProblemReply),
    )
)]
pub(crate) async fn redrive(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(text): Path<String>,
) -> Result<(StatusCode, Json<QueuedObject>), Problem> {
    let driven = app.dispatch.redrive(&caller, id(&text)?).await?;
    Ok((StatusCode::ACCEPTED, Json(whole(&app, &driven))))
}

/// Drives all dead letters of a function again.
#[utoipa::path(
    post, path = "/api/v1/functions/{name}/invocations/redrive", tag = "asynchronous invocations",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 202, description = "They wait again", body = Redriven),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn redrive_all(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Redriven>), Problem> {
    let redriven = app.dispatch.redrive_all(&caller, FunctionRef::Text(&name)).await?;
    Ok((StatusCode::ACCEPTED, Json(Redriven { redriven })))
}

/// Which asynchronous invocations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only this function's, by name or id; where the path names one, that.
    function: Option<String>,
    /// Only those that stand so: `queued`, `running`, `succeeded`, `failed`, `timeout`, `cancelled` or `dead`.
    status: Option<String>,
    /// Only those accepted at this time or later (RFC 3339).
    since: Option<String>,
    /// Only those accepted before this time (RFC 3339).
    until: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListQuery {
    fn page(&self) -> Result<AsyncInvocationPage, Problem> {
        let status = self.status.as_deref().map(|text| {
            let known = AsyncStatus::ALL.map(AsyncStatus::as_str).join(", ");
            let unknown =
                || Problem::invalid("status", format_args!("{text:?} is no status; these are: {known}"));
            AsyncStatus::parse(text).ok_or_else(unknown)
        });
        let time = |name, text: &Option<String>| {
            let wrong = |text: &str| {
                Problem::invalid(name, format_args!("{text:?} is no time such as 2026-01-31T12:00:00Z"))
            };
            text.as_deref()
                .map(|text| OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong(text)))
                .transpose()
        };
        let before = self.cursor.as_deref().map(|text| {
            text.parse().map_err(|_| Problem::invalid("cursor", "it is no `next_cursor` of a page"))
        });
        Ok(AsyncInvocationPage {
            function: None,
            status: status.transpose()?,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            before: before.transpose()?,
            offset: 0,
            limit: self.limit.unwrap_or(DEFAULT_LIMIT),
            is_brief: false,
        })
    }
}

/// Asynchronous invocations, newest first.
#[utoipa::path(
    get, path = "/api/v1/invocations", tag = "asynchronous invocations",
    params(ListQuery),
    responses(
        (status = 200, description = "The invocations", body = QueuedList),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_invocations(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(query): Query<ListQuery>,
) -> Result<Json<QueuedList>, Problem> {
    list(&app, &caller, query.page()?, query.function.as_deref()).await
}

/// Asynchronous invocations of a function, newest first.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/invocations", tag = "asynchronous invocations",
    params(("name" = String, Path, description = "The function's name or id"), ListQuery),
    responses(
        (status = 200, description = "The invocations", body = QueuedList),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_of_function(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<QueuedList>, Problem> {
    list(&app, &caller, query.page()?, Some(&name)).await
}

async fn list(
    app: &App,
    caller: &Caller,
    mut page: AsyncInvocationPage,
    of: Option<&str>,
) -> Result<Json<QueuedList>, Problem> {
    if let Some(text) = of {
        page.function = Some(app.control.get_function(caller, &function(text)?).await?.function.id);
    }
    page.is_brief = true;
    let found = app.control.list_async_invocations(caller, page).await?;
    let is_full = found.len() >= page.limit as usize;
    let next_cursor = found.last().filter(|_| is_full).map(|last| last.id.to_string());
    let items: Vec<_> = found.iter().map(|one| QueuedObject::brief(one, name(app, one))).collect();
    Ok(Json(QueuedList { count: items.len(), items, next_cursor }))
}
