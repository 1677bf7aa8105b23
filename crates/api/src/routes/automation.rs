//! `/api/v1/functions/{name}/async` and `/api/v1/functions/{name}/schedules`.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use impuls_domain::{AsyncSettings, ScheduleName};

use crate::app::App;
use crate::extract::{self, Authenticated, Path, function};
use crate::problem::{Problem, ProblemReply};
use crate::wire::automation::{
    AsyncSettingsObject, AsyncSettingsRequest, ScheduleList, ScheduleObject, ScheduleRequest,
};
use crate::wire::function::Deleted;

fn shown(app: &App, settings: &AsyncSettings) -> Json<AsyncSettingsObject> {
    let name = |id| app.dispatch.function_name(id).map(|name| name.to_string());
    Json(AsyncSettingsObject::new(settings, name))
}

fn schedule_name(text: &str) -> Result<ScheduleName, Problem> {
    text.parse().map_err(|error| Problem::invalid("schedule", error))
}

/// How a function's asynchronous invocations are handled.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/async", tag = "asynchronous invocations",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 200, description = "The settings", body = AsyncSettingsObject),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn get_settings(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<AsyncSettingsObject>, Problem> {
    let settings = app.control.get_async_settings(&caller, &function(&name)?).await?;
    Ok(shown(&app, &settings))
}

/// Says how a function's asynchronous invocations are handled: retries and destinations. What was accepted before keeps
/// what held then.
#[utoipa::path(
    put, path = "/api/v1/functions/{name}/async", tag = "asynchronous invocations",
    params(("name" = String, Path, description = "The function's name or id")),
    request_body = AsyncSettingsRequest,
    responses(
        (status = 200, description = "The settings as they now are", body = AsyncSettingsObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn put_settings(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    extract::Json(request): extract::Json<AsyncSettingsRequest>,
) -> Result<Json<AsyncSettingsObject>, Problem> {
    let settings = app.control.put_async_settings(&caller, &function(&name)?, request.into_new()?).await?;
    Ok(shown(&app, &settings))
}

/// Makes the defaults hold again.
#[utoipa::path(
    delete, path = "/api/v1/functions/{name}/async", tag = "asynchronous invocations",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 200, description = "The defaults hold", body = Deleted),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn reset_settings(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<Deleted>, Problem> {
    app.control.reset_async_settings(&caller, &function(&name)?).await?;
    Ok(Json(Deleted { message: "The defaults hold again", name }))
}

/// A function's schedules.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/schedules", tag = "schedules",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 200, description = "The schedules, by name", body = ScheduleList),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_schedules(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<ScheduleList>, Problem> {
    let all = app.control.list_schedules(&caller, &function(&name)?).await?;
    let schedules: Vec<ScheduleObject> = all.iter().map(Into::into).collect();
    Ok(Json(ScheduleList { count: schedules.len(), schedules }))
}

/// Has a function called at certain times: each tick is one asynchronous invocation.
#[utoipa::path(
    post, path = "/api/v1/functions/{name}/schedules", tag = "schedules",
    params(("name" = String, Path, description = "The function's name or id")),
    request_body = ScheduleRequest,
    responses(
        (status = 201, description = "The schedule", body = ScheduleObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 409, response = ProblemReply),
    )
)]
pub(crate) async fn create_schedule(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    extract::Json(request): extract::Json<ScheduleRequest>,
) -> Result<(StatusCode, Json<ScheduleObject>), Problem> {
    let made = app.control.create_schedule(&caller, &function(&name)?, request.into_new(None)?).await?;
    Ok((StatusCode::CREATED, Json((&made).into())))
}

/// One schedule.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/schedules/{schedule}", tag = "schedules",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("schedule" = String, Path, description = "The schedule's name"),
    ),
    responses(
        (status = 200, description = "The schedule", body = ScheduleObject),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn get_schedule(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, schedule)): Path<(String, String)>,
) -> Result<Json<ScheduleObject>, Problem> {
    let found = app.control.get_schedule(&caller, &function(&name)?, &schedule_name(&schedule)?).await?;
    Ok(Json((&found).into()))
}

/// Makes a schedule, or replaces the one of that name.
#[utoipa::path(
    put, path = "/api/v1/functions/{name}/schedules/{schedule}", tag = "schedules",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("schedule" = String, Path, description = "The schedule's name: 1 to 255 letters, digits, `-` and `_`"),
    ),
    request_body = ScheduleRequest,
    responses(
        (status = 200, description = "The schedule as it now is", body = ScheduleObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 409, response = ProblemReply),
    )
)]
pub(crate) async fn put_schedule(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, schedule)): Path<(String, String)>,
    extract::Json(request): extract::Json<ScheduleRequest>,
) -> Result<Json<ScheduleObject>, Problem> {
    let new = request.into_new(Some(schedule))?;
    let kept = app.control.put_schedule(&caller, &function(&name)?, new).await?;
    Ok(Json((&kept).into()))
}

/// Removes a schedule; what it has enqueued stays.
#[utoipa::path(
    delete, path = "/api/v1/functions/{name}/schedules/{schedule}", tag = "schedules",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("schedule" = String, Path, description = "The schedule's name"),
    ),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn delete_schedule(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, schedule)): Path<(String, String)>,
) -> Result<Json<Deleted>, Problem> {
    app.control.delete_schedule(&caller, &function(&name)?, &schedule_name(&schedule)?).await?;
    Ok(Json(Deleted { message: "Schedule deleted successfully", name: schedule }))
}
