//! The OpenAPI document, generated from the handlers and wire types. The committed copy is `openapi/impuls.json`;
//! `cargo xtask gen` writes it, and a test here compares.

use serde::Deserialize;
use utoipa::{IntoParams, OpenApi};

use crate::problem::{ProblemBody, ProblemReply};
use crate::routes::{aliases, automation, functions, invocations, logs, sandboxes, server, versions};
use crate::wire::invocation::InvokeReply;

/// How to invoke.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what the hot path reads by hand")]
struct InvokeQuery {
    /// A version, an alias or `$LATEST`; the newest version if absent.
    qualifier: Option<String>,
    /// With `true` the reply is the function's: `statusCode`, `headers` and `body` of its result are honoured; a
    /// result without `statusCode` is the whole body.
    raw: Option<bool>,
    /// Accepted for older clients; never goes below the configured isolation.
    local: Option<bool>,
}

/// Runs the function and waits for its outcome.
///
/// The body is the event: JSON of at most 6 MiB; an empty body means `null`. A failed invocation has the same reply
/// with `error` and `error_type`, status 500, or 504 after a timeout.
#[utoipa::path(
    post, path = "/api/v1/functions/{name}/invoke", tag = "invocations",
    params(("name" = String, Path, description = "The function's name or id"), InvokeQuery),
    request_body(content = Option<serde_json::Value>, content_type = "application/json", description = "The event"),
    responses(
        (status = 200, description = "The handler answered", body = InvokeReply),
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 413, response = ProblemReply),
        (status = 429, response = ProblemReply),
        (status = 500, description = "The function failed", body = InvokeReply),
        (status = 503, response = ProblemReply),
        (status = 504, description = "The function did not end in time", body = InvokeReply),
    )
)]
#[expect(dead_code, reason = "describes what `front` answers before the router")]
fn invoke_function() {}

/// Sends a request to a function without a body. Every other method works, too.
///
/// The request becomes an event in the shape of AWS Lambda's payload format 2.0, and the result the response, as with
/// `raw=true`. A program that listens gets the request itself. What a function streams is sent while it is made; a
/// failure in the middle breaks the transfer off. The qualifier follows the name after a colon: `/fn/hello:live/`.
#[utoipa::path(
    get, path = "/fn/{name}/{path}", tag = "function URLs",
    params(
        ("name" = String, Path, description = "The function's name or id; `name:qualifier` for a version or an alias"),
        ("path" = String, Path, description = "The path that the function sees, slashes included; may be left out"),
    ),
    responses(
        (status = 404, response = ProblemReply),
        (status = 429, response = ProblemReply),
        (status = 500, description = "The function failed before it answered", body = InvokeReply),
        (status = 503, response = ProblemReply),
        (status = 504, description = "The function did not answer in time", body = InvokeReply),
        (status = "default", description = "What the function answers", content_type = "*/*"),
    )
)]
#[expect(dead_code, reason = "describes one handler of any method")]
fn get_function_url() {}

/// Sends a request to a function with a body. Every other method works, too.
///
/// As without a body. A program that listens gets the body while it arrives, without a limit, and may answer meanwhile; for
/// others it becomes part of the event and has at most 6 MiB.
#[utoipa::path(
    post, path = "/fn/{name}/{path}", tag = "function URLs",
    params(
        ("name" = String, Path, description = "The function's name or id; `name:qualifier` for a version or an alias"),
        ("path" = String, Path, description = "The path that the function sees, slashes included; may be left out"),
    ),
    request_body(content_type = "*/*", description = "Whatever the function takes"),
    responses(
        (status = 400, response = ProblemReply),
        (status = 404, response = ProblemReply),
        (status = 413, response = ProblemReply),
        (status = 429, response = ProblemReply),
        (status = 500, description = "The function failed before it answered", body = InvokeReply),
        (status = 503, response = ProblemReply),
        (status = 504, description = "The function did not answer in time", body = InvokeReply),
        (status = "default", description = "What the function answers", content_type = "*/*"),
    )
)]
#[expect(dead_code, reason = "describes one handler of any method")]
fn post_function_url() {}

#[derive(OpenApi)]
#[openapi(
    info(title = "Impuls", description = "Functions in sandboxes: deploy, invoke, observe."),
    paths(
        server::health,
        server::live,
        server::ready,
        server::openapi_document,
        server::list_runtimes,
        functions::create_function,
        functions::list_functions,
        functions::get_function,
        functions::update_function,
        functions::delete_function,
        invoke_function,
        get_function_url,
        post_function_url,
        versions::read_code,
        versions::replace_code,
        versions::list_versions,
        versions::get_version,
        versions::rollback,
        aliases::list_aliases,
        aliases::post_alias,
        aliases::get_alias,
        aliases::put_alias,
        aliases::delete_alias,
        logs::list_invocations,
        invocations::submit,
        invocations::list_invocations,
        invocations::list_of_function,
        invocations::get_invocation,
        invocations::cancel,
        invocations::redrive,
        invocations::redrive_all,
        automation::get_settings,
        automation::put_settings,
        automation::reset_settings,
        automation::list_schedules,
        automation::create_schedule,
        automation::get_schedule,
        automation::put_schedule,
        automation::delete_schedule,
        sandboxes::list_sandboxes,
    ),
    components(schemas(ProblemBody), responses(ProblemReply))
)]
struct Document;

/// The OpenAPI document of the native API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The document as it is served and committed: indented JSON with a newline at its end.
#[must_use]
pub fn openapi_json() -> String {
    let mut text = openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/impuls.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == openapi_json(), "{path} is out of date; `cargo xtask gen` writes it");
    }
}
