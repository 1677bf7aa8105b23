//! Functions, their code and their versions.

use bytes::{Bytes, BytesMut};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{Answer, Client, Content, Reply};
use crate::error::{ClientError, Problem};
use crate::wire::{Deleted, Function, FunctionFields, FunctionList, VersionList};

/// Where functions live.
pub(crate) const FUNCTIONS: [&str; 3] = ["api", "v1", "functions"];

/// The reply to a deploy that tells what its build writes.
const LINES: &str = "application/x-ndjson";

/// One line of it.
#[derive(Deserialize)]
struct DeployLine<'a> {
    log: Option<String>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
    #[serde(borrow)]
    problem: Option<&'a RawValue>,
}

/// Which functions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// The most functions of one page; `None` leaves it to the server.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// The members wanted, separated by commas; `None` means all, also the code.
    pub fields: Option<String>,
}

/// The path of one function, or of something below it.
pub(crate) fn below<'a>(name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    FUNCTIONS.into_iter().chain([name]).chain(rest.iter().copied()).collect()
}

impl Client {
    /// Creates a function and its first version. A name in use is a problem with status 409. What a build of the code
    /// writes goes to `log` as it comes, in pieces that may end within a line.
    ///
    /// Code that cannot be built or loaded is no error here: the reply has [`Function::status`] `error` and says why.
    pub async fn create_function(
        &self,
        fields: &FunctionFields,
        log: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Reply<Function>, ClientError> {
        self.deploy(Method::POST, &FUNCTIONS, fields, log).await
    }

    /// Changes the members that are given, which publishes a new version. `name` may be an id, which cannot mean another
    /// API's function of the same name; an unknown one is a problem with status 404. `log` is as for creation.
    pub async fn update_function(
        &self,
        name: &str,
        fields: &FunctionFields,
        log: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Reply<Function>, ClientError> {
        self.deploy(Method::PUT, &below(name, &[]), fields, log).await
    }

    async fn deploy(
        &self,
        method: Method,
        parts: &[&str],
        fields: &FunctionFields,
        log: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Reply<Function>, ClientError> {
        // A build may take longer than any other call.
        let content = Content { accept: Some(LINES), patient: true, ..Content::json(fields)? };
        let mut response = self.begin(method, parts, content).await?;
        let kind = response.headers().get(http::header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != LINES) {
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.map_err(|error| self.network(error))?;
            return Answer { status, headers, body }.success()?.parse();
        }
        let mut lines = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.network(error))? {
            lines.extend_from_slice(&piece);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line = lines.split_to(end + 1);
                let line: DeployLine<'_> = serde_json::from_slice(&line).map_err(ClientError::Reply)?;
                if let Some(text) = line.log {
                    log(&text);
                }
                if let Some(function) = line.function {
                    let body = Bytes::copy_from_slice(function.get().as_bytes());
                    let value = serde_json::from_slice(&body).map_err(ClientError::Reply)?;
                    return Ok(Reply { value, body });
                }
                if let Some(problem) = line.problem {
                    return Err(ClientError::Problem(Problem::from_body(problem.get().as_bytes())));
                }
            }
        }
        Err(ClientError::Reply(serde::de::Error::custom("it ended before the deploy did")))
    }

    /// The function as it is now.
    pub async fn function(&self, name: &str) -> Result<Reply<Function>, ClientError> {
        self.call(Method::GET, &below(name, &[]), Content::default()).await
    }

    /// One page of functions.
    pub async fn list_functions(&self, query: &ListQuery) -> Result<Reply<FunctionList>, ClientError> {
        let pairs = [
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
            ("fields", query.fields.clone()),
        ];
        let query = pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        self.call(Method::GET, &FUNCTIONS, Content { query, ..Content::default() }).await
    }

    /// Deletes the function with all its versions, aliases and logs.
    pub async fn delete_function(&self, name: &str) -> Result<Reply<Deleted>, ClientError> {
        self.call(Method::DELETE, &below(name, &[]), Content::default()).await
    }

    /// The function's code: the source text of a single file, else the archive.
    pub async fn code(&self, name: &str) -> Result<Bytes, ClientError> {
        let answer = self.send(Method::GET, &below(name, &["code"]), Content::default()).await?;
        Ok(answer.success()?.body)
    }

    /// Replaces the function's code by this zip archive and leaves its settings.
    pub async fn upload_zip(&self, name: &str, archive: Bytes) -> Result<Reply<Function>, ClientError> {
        let content = Content { body: Some(("application/zip", archive)), ..Content::default() };
        self.call(Method::PUT, &below(name, &["code"]), content).await
    }

    /// One page of published versions, newest first, without code. `cursor` is `next_cursor` of the page before.
    pub async fn versions(
        &self,
        name: &str,
        cursor: Option<&str>,
    ) -> Result<Reply<VersionList>, ClientError> {
        let query = cursor.map(|cursor| ("cursor", cursor.to_owned())).into_iter().collect();
        self.call(Method::GET, &below(name, &["versions"]), Content { query, ..Content::default() }).await
    }

    /// Makes an earlier version the current one again: the given one, or the one before the current.
    pub async fn rollback(&self, name: &str, version: Option<u64>) -> Result<Reply<Function>, ClientError> {
        let body = match version {
            Some(version) => serde_json::json!({ "version": version }),
            None => serde_json::json!({}),
        };
        self.call(Method::POST, &below(name, &["rollback"]), Content::json(&body)?).await
    }
}
