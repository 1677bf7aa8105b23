//! `/api/v1/functions/{name}/sandboxes`.

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::extract::{Authenticated, Path, function};
use crate::problem::{Problem, ProblemReply};
use crate::wire::sandbox::SandboxList;

/// The live sandboxes of a function, with what each has used and was refused.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/sandboxes", tag = "functions",
    params(("name" = String, Path, description = "The function's name or id")),
    responses(
        (status = 200, description = "The sandboxes", body = SandboxList),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_sandboxes(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<SandboxList>, Problem> {
    let snapshot = app.control.get_function(&caller, &function(&name)?).await?;
    Ok(Json(SandboxList::from(&app.dispatch.sandboxes_of(snapshot.function.id).await)))
}
