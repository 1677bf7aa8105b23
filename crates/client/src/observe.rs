//! What happened and what is there: logs, runtimes, health.

use http::Method;

use crate::client::{Client, Content, Reply};
use crate::error::ClientError;
use crate::functions::below;
use crate::wire::{Health, LogList, RuntimeList};

/// Which invocations to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// The most invocations; `None` leaves it to the server.
    pub limit: Option<u32>,
    /// How many of the newest to leave out.
    pub offset: Option<u32>,
    /// Only invocations with this status.
    pub status: Option<String>,
}

impl Client {
    /// Past invocations of a function with their logs, newest first.
    pub async fn logs(&self, function: &str, query: &LogsQuery) -> Result<Reply<LogList>, ClientError> {
        let pairs = [
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("offset", query.offset.map(|offset| offset.to_string())),
            ("status", query.status.clone()),
        ];
        let query = pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        self.call(Method::GET, &below(function, &["logs"]), Content { query, ..Content::default() }).await
    }

    /// The language runtimes that the server found.
    pub async fn runtimes(&self) -> Result<Reply<RuntimeList>, ClientError> {
        self.call(Method::GET, &["api", "v1", "runtimes"], Content::default()).await
    }

    /// Whether the server accepts calls.
    pub async fn health(&self) -> Result<Reply<Health>, ClientError> {
        self.call(Method::GET, &["health"], Content::default()).await
    }
}
