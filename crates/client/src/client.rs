//! The connection to one server: addresses, requests, replies.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde::de::DeserializeOwned;

use crate::error::{ClientError, Problem};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take that neither runs a function nor deploys one.
const PLAIN_CALL: Duration = Duration::from_secs(180);

/// A reply that was understood, together with the bytes that the server sent.
#[derive(Clone, Debug)]
pub struct Reply<T> {
    /// The reply's content.
    pub value: T,
    /// The body exactly as it came, also with members that this client does not know.
    pub body: Bytes,
}

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

/// One answered request, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What a request carries besides its path.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<(&'static str, Bytes)>,
    /// What kinds of reply are understood, if it matters.
    pub(crate) accept: Option<&'static str>,
    /// A header of its own.
    pub(crate) header: Option<(&'static str, String)>,
    /// No bound on the time until the reply: the server's own deadline decides.
    pub(crate) patient: bool,
}

impl Content {
    /// A JSON body.
    pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<Self, ClientError> {
        let bytes = serde_json::to_vec(value).map_err(|error| ClientError::Request(error.into()))?;
        Ok(Self { body: Some(("application/json", bytes.into())), ..Self::default() })
    }
}

impl Client {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:8080`; without a scheme it is taken as `http`.
    /// Connects only when it is first used.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        let base = parse_address(base_url)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("impuls/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Request(error.into()))?;
        Ok(Self { http, base })
    }

    /// The server's address, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The URL of a path whose parts are given unescaped.
    pub(crate) fn url(&self, parts: &[&str]) -> Result<Url, ClientError> {
        // `Url` drops `.` and `..`, so that such a name would silently mean another route.
        if let Some(bad) = parts.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(ClientError::Name((*bad).to_owned()));
        }
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().extend(parts);
            }
            Err(()) => return Err(address(self.base.as_str(), "it has no path")),
        }
        Ok(url)
    }

    /// Sends a request and reads the whole reply.
    pub(crate) async fn send(
        &self,
        method: Method,
        parts: &[&str],
        content: Content,
    ) -> Result<Answer, ClientError> {
        let response = self.begin(method, parts, content).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| self.network(error))?;
        Ok(Answer { status, headers, body })
    }

    /// Sends a request and waits for the head of the reply.
    pub(crate) async fn begin(
        &self,
        method: Method,
        parts: &[&str],
        content: Content,
    ) -> Result<reqwest::Response, ClientError> {
        let mut request = self.http.request(method, self.url(parts)?);
        if !content.query.is_empty() {
            request = request.query(&content.query);
        }
        if let Some((kind, bytes)) = content.body {
            request = request.header(http::header::CONTENT_TYPE, kind).body(bytes);
        }
        if let Some(kinds) = content.accept {
            request = request.header(http::header::ACCEPT, kinds);
        }
        if let Some((name, value)) = content.header {
            request = request.header(name, value);
        }
        if !content.patient {
            request = request.timeout(PLAIN_CALL);
        }
        request.send().await.map_err(|error| self.network(error))
    }

    /// Sends a request whose success is JSON.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        parts: &[&str],
        content: Content,
    ) -> Result<Reply<T>, ClientError> {
        self.send(method, parts, content).await?.success()?.parse()
    }

    pub(crate) fn network(&self, source: reqwest::Error) -> ClientError {
        let url = self.base_url().to_owned();
        if source.is_connect() {
            ClientError::Unreachable { url, source }
        } else if source.is_timeout() {
            ClientError::TimedOut { url, source }
        } else {
            ClientError::Broken { url, source }
        }
    }
}

impl Answer {
    /// The answer if its status is a success, else the problem in it.
    pub(crate) fn success(self) -> Result<Self, ClientError> {
        if self.status.is_success() { Ok(self) } else { Err(self.problem()) }
    }

    pub(crate) fn problem(&self) -> ClientError {
        ClientError::Problem(Problem::parse(self.status, &self.headers, &self.body))
    }

    pub(crate) fn parse<T: DeserializeOwned>(self) -> Result<Reply<T>, ClientError> {
        let value = serde_json::from_slice(&self.body).map_err(ClientError::Reply)?;
        Ok(Reply { value, body: self.body })
    }
}

fn address(url: &str, reason: impl ToString) -> ClientError {
    ClientError::Address { url: url.to_owned(), reason: reason.to_string() }
}

fn parse_address(given: &str) -> Result<Url, ClientError> {
    let trimmed = given.trim();
    let full = if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
    let url = Url::parse(&full).map_err(|error| address(given, error))?;
    match url.scheme() {
        "http" => {}
        "https" => return Err(ClientError::Tls(given.to_owned())),
        other => return Err(address(given, format_args!("unknown scheme {other:?}"))),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(address(given, "a query or fragment has no meaning here"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: &str) {
        let shown = match Client::new(given).and_then(|client| client.url(&["api", "a b"])) {
            Ok(url) => url.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{given}");
    }

    #[test]
    fn an_address_may_have_a_port_a_path_or_no_scheme() {
        check("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/a%20b");
        check("http://127.0.0.1:8080/", "http://127.0.0.1:8080/api/a%20b");
        check("localhost:8080", "http://localhost:8080/api/a%20b");
        check("http://host/prefix/", "http://host/prefix/api/a%20b");
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_with_its_reason() {
        check("https://host", "https is not built in; use an http:// address instead of \"https://host\"");
        let error = Client::new("ftp://host").unwrap_err().to_string();
        assert!(error.contains("unknown scheme \"ftp\""), "{error}");
        assert!(matches!(Client::new(""), Err(ClientError::Address { .. })));
    }

    #[test]
    fn a_name_never_changes_the_route() {
        let client = Client::new("http://h").unwrap();
        assert!(matches!(client.url(&["api", ".."]), Err(ClientError::Name(_))));
        assert!(matches!(client.url(&["api", ""]), Err(ClientError::Name(_))));
        assert_eq!(client.url(&["a/../b"]).unwrap().path(), "/a%2F..%2Fb");
    }
}
