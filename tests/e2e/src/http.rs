//! Requests and replies.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::server::Server;

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let text = |error| panic!("not JSON ({error}), status {}: {}", self.status, self.text());
        serde_json::from_slice(&self.bytes).unwrap_or_else(text)
    }

    /// A header's value; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The same reply, which must have this status.
    pub fn with_status(self, status: u16) -> Self {
        let text = self.text();
        let shown: String = text.chars().take(2_000).collect();
        assert_eq!(self.status, status, "{shown}");
        self
    }

    /// The message of an error, which must have this status and the shape that every error has.
    pub fn problem(self, status: u16) -> String {
        let reply = self.with_status(status);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        let body = reply.json();
        assert_eq!(body["error"], true, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["message"], body["detail"], "{body}");
        assert!(body["type"].as_str().is_some_and(|kind| kind.starts_with("urn:impuls:problem:")), "{body}");
        body["message"].as_str().expect("the message is text").to_owned()
    }

    /// What a call returned, which must have succeeded.
    pub fn result(self) -> Value {
        let body = self.with_status(200).json();
        assert_eq!(body["status_code"], 200, "{body}");
        body["body"].clone()
    }

    /// The envelope of a failed call, which must have this status and error type.
    pub fn failure(self, status: u16, error_type: &str) -> Value {
        let body = self.with_status(status).json();
        assert_eq!(body["error_type"], error_type, "{body}");
        assert_eq!(body["status_code"], status, "{body}");
        assert_eq!(body["body"], Value::Null, "{body}");
        assert!(body["error"].is_string(), "{body}");
        body
    }

    /// The logs of a call's envelope; empty if it has none.
    #[must_use]
    pub fn logs(&self) -> String {
        self.json()["logs"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    /// A request, to be completed and handed to [`Server::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Sends a request and reads the whole reply.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        match self.try_send(request).await {
            Ok(reply) => reply,
            Err(error) => panic!("no reply: {error:?}; the server's log:\n{}", self.log()),
        }
    }

    /// As [`Server::send`], for a server that may be going away.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Reply> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?.to_vec();
        Ok(Reply { status, headers, bytes })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` with these bytes as the body.
    pub async fn post_bytes(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(self.request(Method::POST, path).body(body)).await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }
}
