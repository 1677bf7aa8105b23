//! `/api/v1/functions/{name}/aliases`.

use axum::Json;
use axum::extract::State;
use impuls_domain::AliasName;

use crate::app::App;
use crate::extract::{self, Authenticated, Path, function};
use crate::problem::{Problem, ProblemReply};
use crate::wire::alias::{AliasList, AliasObject, AliasRequest};
use crate::wire::function::Deleted;

fn alias_name(text: &str) -> Result<AliasName, Problem> {
    text.parse().map_err(|error| Problem::invalid("alias", error))
}

/// Lists the aliases of a function.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/aliases", tag = "aliases",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 200, description = "The aliases", body = AliasList),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_aliases(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<AliasList>, Problem> {
    let aliases = app.control.list_aliases(&caller, &function(&name)?).await?;
    let aliases: Vec<AliasObject> = aliases.iter().map(Into::into).collect();
    Ok(Json(AliasList { count: aliases.len(), aliases }))
}

/// Makes the alias that the body names point at versions, whether it existed or not.
#[utoipa::path(
    post, path = "/api/v1/functions/{name}/aliases", tag = "aliases",
    params(("name" = String, Path, description = "The function's name or id")),
    request_body = AliasRequest,
    responses(
        (status = 200, description = "The alias as it now is", body = AliasObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn post_alias(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    extract::Json(request): extract::Json<AliasRequest>,
) -> Result<Json<AliasObject>, Problem> {
    let alias = app.control.put_alias(&caller, &function(&name)?, request.into_alias(None)?).await?;
    Ok(Json((&alias).into()))
}

/// One alias.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/aliases/{alias}", tag = "aliases",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("alias" = String, Path, description = "The alias"),
    ),
    responses(
        (status = 200, description = "The alias as it now is", body = AliasObject),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn get_alias(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, alias)): Path<(String, String)>,
) -> Result<Json<AliasObject>, Problem> {
    let alias = app.control.get_alias(&caller, &function(&name)?, &alias_name(&alias)?).await?;
    Ok(Json((&alias).into()))
}

/// Makes the alias point at versions, whether it existed or not. `POST` does the same.
#[utoipa::path(
    put, path = "/api/v1/functions/{name}/aliases/{alias}", tag = "aliases",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("alias" = String, Path, description = "The alias: 1 to 255 letters, digits, `-` and `_`; not a number"),
    ),
    request_body = AliasRequest,
    responses(
        (status = 200, description = "The alias as it now is", body = AliasObject),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn put_alias(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, alias)): Path<(String, String)>,
    extract::Json(request): extract::Json<AliasRequest>,
) -> Result<Json<AliasObject>, Problem> {
    let alias = app.control.put_alias(&caller, &function(&name)?, request.into_alias(Some(alias))?).await?;
    Ok(Json((&alias).into()))
}

/// Removes an alias; the versions behind it stay.
#[utoipa::path(
    delete, path = "/api/v1/functions/{name}/aliases/{alias}", tag = "aliases",
    params(
        ("name" = String, Path, description = "The function's name or id"),
        ("alias" = String, Path, description = "The alias"),
    ),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn delete_alias(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((name, alias)): Path<(String, String)>,
) -> Result<Json<Deleted>, Problem> {
    app.control.delete_alias(&caller, &function(&name)?, alias_name(&alias)?).await?;
    Ok(Json(Deleted { message: "Alias deleted successfully", name: alias }))
}
