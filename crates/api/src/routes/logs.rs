//! `/api/v1/functions/{name}/logs`.

use axum::Json;
use axum::extract::State;
use impuls_control::InvocationPage;
use impuls_domain::InvocationStatus;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::extract::{Authenticated, Path, Query, function};
use crate::problem::{Problem, ProblemReply};
use crate::wire::invocation::InvocationList;

/// Records on a page if nobody says how many.
const DEFAULT_LIMIT: u32 = 50;

/// Which records to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// How many of the newest to leave out.
    #[param(default = 0)]
    offset: Option<u32>,
    /// Only invocations that ended so: `succeeded`, `failed`, `timeout` or `cancelled`.
    status: Option<String>,
}

impl LogsQuery {
    fn page(&self) -> Result<InvocationPage, Problem> {
        let status = self.status.as_deref().map(|text| {
            let known = InvocationStatus::ALL.map(InvocationStatus::as_str).join(", ");
            let unknown =
                || Problem::invalid("status", format_args!("{text:?} is no status; these are: {known}"));
            InvocationStatus::parse(text).ok_or_else(unknown)
        });
        Ok(InvocationPage {
            status: status.transpose()?,
            offset: self.offset.unwrap_or_default(),
            limit: self.limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

/// Past invocations of a function with their logs, newest first.
///
/// Every invocation that was answered before this request is among them, as long as it is kept.
#[utoipa::path(
    get, path = "/api/v1/functions/{name}/logs", tag = "invocations",
    params(("name" = String, Path, description = "The function's name or id"), LogsQuery),
    responses(
        (status = 200, description = "The records", body = InvocationList),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
    )
)]
pub(crate) async fn list_invocations(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Json<InvocationList>, Problem> {
    let page = query.page()?;
    let records = app.control.list_invocations(&caller, &function(&name)?, page).await?;
    let items: Vec<_> = records.iter().map(Into::into).collect();
    Ok(Json(InvocationList { count: items.len(), items }))
}
