//! Asynchronous invocations and schedules.

use bytes::Bytes;
use http::Method;

use crate::client::{Client, Content, Reply};
use crate::error::ClientError;
use crate::functions::below;
use crate::wire::{QueuedInvocation, QueuedList, Redriven, Schedule, ScheduleFields, ScheduleList};

const INVOCATIONS: [&str; 3] = ["api", "v1", "invocations"];

/// What is special about one asynchronous invocation. Time spans are texts such as `30s` or `7d`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitOptions {
    /// A version, an alias or `$LATEST`.
    pub qualifier: Option<String>,
    /// How long it waits before it may run.
    pub delay: Option<String>,
    /// A timeout of its own instead of the function's.
    pub timeout: Option<String>,
    /// How often the function's failure is tried again.
    pub max_retries: Option<u32>,
    /// The wait before the first retry.
    pub retry_delay: Option<String>,
    /// What makes submitting it again return the first invocation.
    pub idempotency_key: Option<String>,
}

/// Which asynchronous invocations to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuedQuery {
    /// Only this function's.
    pub function: Option<String>,
    /// Only those that stand so.
    pub status: Option<String>,
    /// Only those accepted at this time or later (RFC 3339).
    pub since: Option<String>,
    /// Only those accepted before this time (RFC 3339).
    pub until: Option<String>,
    /// The most of one page; `None` leaves it to the server.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

fn query<const N: usize>(pairs: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn invocation<'a>(id: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    INVOCATIONS.into_iter().chain([id]).chain(rest.iter().copied()).collect()
}

impl Client {
    /// Has an invocation accepted that runs later. What returned `Ok` is not lost.
    pub async fn submit(
        &self,
        function: &str,
        event: Bytes,
        options: SubmitOptions,
    ) -> Result<Reply<QueuedInvocation>, ClientError> {
        let query = query([
            ("qualifier", options.qualifier),
            ("delay", options.delay),
            ("timeout", options.timeout),
            ("max_retries", options.max_retries.map(|retries| retries.to_string())),
            ("retry_delay", options.retry_delay),
        ]);
        let header = options.idempotency_key.map(|key| ("idempotency-key", key));
        let body = Some(("application/json", event));
        let content = Content { query, body, header, ..Content::default() };
        self.call(Method::POST, &below(function, &["invocations"]), content).await
    }

    /// One asynchronous invocation; with a time span such as `30s` the reply may wait so long for its end.
    pub async fn invocation(
        &self,
        id: &str,
        wait: Option<&str>,
    ) -> Result<Reply<QueuedInvocation>, ClientError> {
        let query = query([("wait", wait.map(str::to_owned))]);
        self.call(Method::GET, &invocation(id, &[]), Content { query, ..Content::default() }).await
    }

    /// One page of asynchronous invocations, newest first.
    pub async fn list_invocations(&self, asked: &QueuedQuery) -> Result<Reply<QueuedList>, ClientError> {
        let asked = asked.clone();
        let query = query([
            ("function", asked.function),
            ("status", asked.status),
            ("since", asked.since),
            ("until", asked.until),
            ("limit", asked.limit.map(|limit| limit.to_string())),
            ("cursor", asked.cursor),
        ]);
        self.call(Method::GET, &INVOCATIONS, Content { query, ..Content::default() }).await
    }

    /// Ends an asynchronous invocation that waits or runs.
    pub async fn cancel(&self, id: &str) -> Result<Reply<QueuedInvocation>, ClientError> {
        self.call(Method::DELETE, &invocation(id, &[]), Content::default()).await
    }

    /// Drives a dead letter again.
    pub async fn redrive(&self, id: &str) -> Result<Reply<QueuedInvocation>, ClientError> {
        self.call(Method::POST, &invocation(id, &["redrive"]), Content::default()).await
    }

    /// Drives all dead letters of a function again.
    pub async fn redrive_all(&self, function: &str) -> Result<Reply<Redriven>, ClientError> {
        self.call(Method::POST, &below(function, &["invocations", "redrive"]), Content::default()).await
    }

    /// A function's schedules.
    pub async fn schedules(&self, function: &str) -> Result<Reply<ScheduleList>, ClientError> {
        self.call(Method::GET, &below(function, &["schedules"]), Content::default()).await
    }

    /// One schedule.
    pub async fn schedule(&self, function: &str, name: &str) -> Result<Reply<Schedule>, ClientError> {
        self.call(Method::GET, &below(function, &["schedules", name]), Content::default()).await
    }

    /// Makes a schedule, or replaces the one of that name.
    pub async fn set_schedule(
        &self,
        function: &str,
        name: &str,
        fields: &ScheduleFields,
    ) -> Result<Reply<Schedule>, ClientError> {
        self.call(Method::PUT, &below(function, &["schedules", name]), Content::json(fields)?).await
    }

    /// Removes a schedule. The reply's body is whatever the server sent, maybe nothing.
    pub async fn delete_schedule(&self, function: &str, name: &str) -> Result<Bytes, ClientError> {
        let answer =
            self.send(Method::DELETE, &below(function, &["schedules", name]), Content::default()).await?;
        Ok(answer.success()?.body)
    }
}
