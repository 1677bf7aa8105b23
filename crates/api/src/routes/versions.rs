//! Code, versions and rollback of one function.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use impuls_control::input::VERSION_PAGE_LIMIT;
use impuls_domain::{CodeLayout, Qualifier, VersionNumber};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::extract::{self, Authenticated, Path, Query, function};
use crate::problem::{Problem, ProblemReply};
use crate::upload::CodeUpload;
use crate::wire::alias::RollbackRequest;
use crate::wire::function::{FunctionObject, VersionList, VersionObject};
use crate::wire::request::Archive;

/// Whose code to return.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CodeQuery {
    /// A version, an alias or `$LATEST`; the newest version if absent.
    qualifier: Option<String>,
}

/// Which versions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct VersionsQuery {
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn number(field: &str, text: &str) -> Result<VersionNumber, Problem> {
    let number = text.parse().ok().and_then(VersionNumber::new);
    number
        .ok_or_else(|| Problem::invalid(field, format_args!("{text:?} is no version; versions count from 1")))
}

/// The code as it was handed in: the source text of one file, or the archive.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/code", tag = "versions",
    params(("name" = String, Path, description = "The function's name or id"), CodeQuery),
    responses(
        (status = 200, description = "The code", content((String = "text/plain; charset=utf-8"), (Archive = "application/zip"))),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn read_code(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    Query(query): Query<CodeQuery>,
) -> Result<impl IntoResponse, Problem> {
    let qualifier: Qualifier = query.qualifier.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    let code = app.control.read_code(&caller, &function(&name)?, &qualifier).await?;
    let content_type = match code.layout {
        CodeLayout::SingleFile => "text/plain; charset=utf-8",
        CodeLayout::Zip => "application/zip",
    };
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", code.file_name)),
        (header::ETAG, format!("\"{}\"", code.digest)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, code.bytes))
}

/// Replaces the code by the body, an archive or the source text of one file, and keeps all settings.
#[utoipa::path(
    put, path = "/api/v1/functions/{name}/code", tag = "versions",
    params(("name" = String, Path, description = "The function's name or id")),
    request_body(content((String = "text/plain"), (Archive = "application/zip"))),
    responses(
        (status = 200, description = "The function as it now is", body = FunctionObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 413, response = ProblemReply),
    )
)]
pub(crate) async fn replace_code(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    CodeUpload(upload): CodeUpload,
) -> Result<Json<FunctionObject>, Problem> {
    let change = upload.fields.into_change(upload.archive)?;
    let snapshot = app.control.update_function(&caller, &function(&name)?, change).await?;
    let source = app.control.read_source(&caller, &snapshot).await?;
    Ok(Json(FunctionObject::new(&snapshot, source)))
}

/// Lists the published versions, newest first.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/versions", tag = "versions",
    params(("name" = String, Path, description = "The function's name or id"), VersionsQuery),
    responses(
        (status = 200, description = "The versions", body = VersionList),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_versions(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    Query(query): Query<VersionsQuery>,
) -> Result<Json<VersionList>, Problem> {
    let before = query.cursor.as_deref().map(|text| number("cursor", text)).transpose()?;
    let limit = query.limit.unwrap_or(VERSION_PAGE_LIMIT);
    let entries = app.control.list_versions(&caller, &function(&name)?, before, limit).await?;
    // Numbers have no gaps, so every page that does not end with the first version has a successor.
    let oldest = entries.last().map(|entry| entry.number);
    let next_cursor = oldest.filter(|number| *number > VersionNumber::FIRST).map(|number| number.to_string());
    let versions: Vec<VersionObject> = entries.iter().map(Into::into).collect();
    Ok(Json(VersionList { count: versions.len(), versions, next_cursor }))
}

/// One published version.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/versions/{version}", tag = "versions",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("version" = u64, Path, description = "The version's number"),
    ),
    responses(
        (status = 200, description = "The version", body = VersionObject),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn get_version(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<VersionObject>, Problem> {
    let version = number("version", &version)?;
    let entry = app.control.get_version(&caller, &function(&name)?, version).await?;
    Ok(Json((&entry).into()))
}

/// Publishes the code and settings of an earlier version as a new version.
#[utoipa::path(
    post, path = "/api/v1/functions/{name}/rollback", tag = "versions",
    params(("name" = String, Path, description = "The function's name or id")),
    request_body = Option<RollbackRequest>,
    responses(
        (status = 200, description = "The function as it now is", body = FunctionObject),
        (status = 404, response = ProblemReply),
        (status = 409, response = ProblemReply),
    )
)]
pub(crate) async fn rollback(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    extract::Json(request): extract::Json<RollbackRequest>,
) -> Result<Json<FunctionObject>, Problem> {
    let snapshot = app.control.rollback(&caller, &function(&name)?, request.target()?).await?;
    let source = app.control.read_source(&caller, &snapshot).await?;
    Ok(Json(FunctionObject::new(&snapshot, source)))
}
