//! `/api/v1/functions` and `/api/v1/functions/{name}`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use impuls_control::{FunctionChange, FunctionListQuery, FunctionSnapshot, NewFunction};
use impuls_domain::Caller;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::extract::{Authenticated, Path, Query, function};
use crate::fields::Fields;
use crate::problem::{Problem, ProblemReply};
use crate::routes::deploying::{self, WantsLog};
use crate::upload::Upload;
use crate::wire::function::{Deleted, FunctionList, FunctionObject};
use crate::wire::request::{Archive, FunctionRequest};

/// Which members of a function to return.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FieldsQuery {
    /// Only these members, separated by commas, such as `name,runtime`; all if absent.
    fields: Option<String>,
}

/// Which functions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// At most so many functions; all if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only these members of each, separated by commas, such as `name,runtime`; all if absent.
    fields: Option<String>,
}

async fn render(
    app: &App,
    caller: &Caller,
    snapshot: &FunctionSnapshot,
    fields: &Fields,
) -> Result<serde_json::Value, Problem> {
    let code = match fields.wants("code") {
        true => app.control.read_source(caller, snapshot).await?,
        false => None,
    };
    Ok(fields.select(&FunctionObject::new(snapshot, code)))
}

/// Creates a function; its code becomes version 1.
///
/// The body is JSON, or a ZIP archive (`application/zip`) with all other fields as query parameters. Code that
/// cannot be built or loaded makes a function with the status `error`. With `Accept: application/x-ndjson` the reply is
/// one JSON object a line: `{"log": …}` while the code is built, at the end `{"function": …}` or `{"problem": …}`.
#[utoipa::path(
    post, path = "/api/v1/functions", tag = "functions",
    request_body(content((FunctionRequest = "application/json"), (Archive = "application/zip"))),
    responses(
        (status = 201, description = "The function as it now is", body = FunctionObject),
        (status = 400, response = ProblemReply),
        (status = 409, response = ProblemReply),
        (status = 413, response = ProblemReply),
    )
)]
pub(crate) async fn create_function(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    wants: WantsLog,
    upload: Upload,
) -> Result<Response, Problem> {
    let check_runtime = |name: &_| app.control.resolve_runtime(&caller, name).map(drop);
    let new = upload.fields.into_new(upload.archive, check_runtime)?;
    deploying::answer(wants, StatusCode::CREATED, |build_log| async move {
        let created = app.control.create_function(&caller, NewFunction { build_log, ..new }).await?;
        render(&app, &caller, &created, &Fields::ALL).await
    })
    .await
}

/// Lists functions, newest first: all of them, or a page.
#[utoipa::path(
    get, path = "/api/v1/functions", tag = "functions", params(ListQuery),
    responses(
        (status = 200, description = "The functions", body = FunctionList),
        (status = 400, response = ProblemReply),
    )
)]
pub(crate) async fn list_functions(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(query): Query<ListQuery>,
) -> Result<Json<FunctionList>, Problem> {
    let fields = Fields::parse(query.fields.as_deref())?;
    let cursor = query.cursor.map(|text| text.parse()).transpose();
    let before = cursor.map_err(|_| Problem::invalid("cursor", "give `next_cursor` of an earlier page"))?;
    let list = FunctionListQuery { before, limit: query.limit };
    let list = app.control.list_functions(&caller, list).await?;
    let mut functions = Vec::with_capacity(list.functions.len());
    for snapshot in &list.functions {
        functions.push(render(&app, &caller, snapshot, &fields).await?);
    }
    let next_cursor = list.next.map(|id| id.to_string());
    Ok(Json(FunctionList { functions, count: list.total, next_cursor }))
}

/// One function, by name or id.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}", tag = "functions",
    params(("name" = String, Path, description = "The function's name or id"), FieldsQuery),
    responses(
        (status = 200, description = "The function as it now is", body = FunctionObject),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn get_function(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    Query(query): Query<FieldsQuery>,
) -> Result<Json<serde_json::Value>, Problem> {
    let fields = Fields::parse(query.fields.as_deref())?;
    let snapshot = app.control.get_function(&caller, &function(&name)?).await?;
    Ok(Json(render(&app, &caller, &snapshot, &fields).await?))
}

/// Changes the fields that are given and publishes the result as the next version.
///
/// `PATCH` does the same. The body and the reply are as for creation. A change that changes nothing publishes nothing;
/// code that cannot be built or loaded sets the status `error`, and the version before goes on answering.
#[utoipa::path(
    put, path = "/api/v1/functions/{name}", tag = "functions",
    params(("name" = String, Path, description = "The function's name or id")),
    request_body(content((FunctionRequest = "application/json"), (Archive = "application/zip"))),
    responses(
        (status = 200, description = "The function as it now is", body = FunctionObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 413, response = ProblemReply),
    )
)]
pub(crate) async fn update_function(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    wants: WantsLog,
    upload: Upload,
) -> Result<Response, Problem> {
    let change = upload.fields.into_change(upload.archive)?;
    let reference = function(&name)?;
    deploying::answer(wants, StatusCode::OK, |build_log| async move {
        let change = FunctionChange { build_log, ..change };
        let snapshot = app.control.update_function(&caller, &reference, change).await?;
        render(&app, &caller, &snapshot, &Fields::ALL).await
    })
    .await
}

/// Deletes a function with its versions, aliases and logs.
#[utoipa::path(
    delete, path = "/api/v1/functions/{name}", tag = "functions",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn delete_function(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<Deleted>, Problem> {
    let deleted = app.control.delete_function(&caller, &function(&name)?).await?;
    Ok(Json(Deleted { message: "Function deleted successfully", name: deleted.name.to_string() }))
}
