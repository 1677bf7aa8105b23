//! Why a call of the API gave no result.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

/// The most characters of a reply that is not JSON which an error repeats.
const EXCERPT: usize = 200;

/// Why a call of the API gave no result. A function's own failure is no error but an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address is no URL that this client can use.
    #[error("{url:?} is not a server address: {reason}; it looks like http://127.0.0.1:8080")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address asks for TLS.
    #[error("https is not built in; use an http:// address instead of {0:?}")]
    Tls(String),
    /// A name that cannot be part of a path.
    #[error("{0:?} cannot be a name")]
    Name(String),
    /// A request could not be put together.
    #[error("cannot prepare the request")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody answers at the address.
    #[error("no server at {url}; start one with `impuls serve`")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The server accepted the call and did not answer in time.
    #[error("the server at {url} did not answer in time")]
    TimedOut {
        /// The server's address.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The connection broke after it was made; whether the server did the work is unknown.
    #[error("the connection to {url} broke")]
    Broken {
        /// The server's address.
        url: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The server refused or failed, and said why.
    #[error("{0}")]
    Problem(Problem),
    /// The reply was a success and is not what the API promises. Another program may own the port.
    #[error("the server's reply is not what the API promises")]
    Reply(#[source] serde_json::Error),
}

impl ClientError {
    /// The HTTP status, if the server answered at all.
    #[must_use]
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Address { .. }
            | Self::Tls(_)
            | Self::Name(_)
            | Self::Request(_)
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Reply(_) => None,
        }
    }
}

/// An error reply (RFC 9457, with the member `message` besides).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable name of the kind of problem; empty when the reply had none.
    pub kind: String,
    /// One sentence for a person.
    pub message: String,
    /// How many seconds to wait before trying again, if the server said so.
    pub retry_after_sec: Option<u64>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(seconds) = self.retry_after_sec {
            write!(f, " (try again in {seconds} s)")?;
        }
        Ok(())
    }
}

/// The members of an error body that the client reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct ProblemStatus {
    status: Option<u16>,
}

impl Problem {
    /// The problem that an object describes which came in the body of a success, and says its status itself.
    pub(crate) fn from_body(body: &[u8]) -> Self {
        let status = serde_json::from_slice::<ProblemStatus>(body).ok().and_then(|body| body.status);
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        Self::parse(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &HeaderMap::new(), body)
    }

    /// The problem in a reply whose status is no success. Any body gives one.
    #[must_use]
    pub fn parse(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let retry_after_sec = headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok());
        let parsed = serde_json::from_slice::<ProblemBody>(body);
        let (kind, message) = match parsed {
            Ok(parsed) => (parsed.kind, parsed.message.or(parsed.detail).or(parsed.title)),
            Err(_) => (None, None),
        };
        Self {
            status,
            kind: kind.unwrap_or_default(),
            message: message.unwrap_or_else(|| unexplained(status, body)),
            retry_after_sec,
        }
    }
}

/// A sentence for a reply that does not explain itself.
fn unexplained(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let excerpt: String = text.trim().chars().take(EXCERPT).collect();
    if excerpt.is_empty() {
        format!("the server answered {status}")
    } else {
        format!("the server answered {status}: {excerpt}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, kind: &str, message: &str) {
        let problem = Problem::parse(StatusCode::CONFLICT, &HeaderMap::new(), body.as_bytes());
        assert_eq!((problem.kind.as_str(), problem.message.as_str()), (kind, message));
    }

    #[test]
    fn every_error_body_gives_a_sentence() {
        check(r#"{"type":"exists","message":"m","detail":"d","error":true}"#, "exists", "m");
        check(r#"{"type":"exists","title":"t","detail":"d"}"#, "exists", "d");
        check(r#"{"error":true,"message":"the seed's shape"}"#, "", "the seed's shape");
        check("", "", "the server answered 409 Conflict");
        check("<html>", "", "the server answered 409 Conflict: <html>");
    }

    #[test]
    fn the_wait_is_part_of_the_sentence() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "2".parse().unwrap());
        let problem = Problem::parse(StatusCode::TOO_MANY_REQUESTS, &headers, br#"{"message":"busy"}"#);
        assert_eq!(problem.to_string(), "busy (try again in 2 s)");
    }
}
