//! HTTP as S3 is spoken to: every request has a bound, every answer is read whole and is of a bounded size.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The most bytes of one answer: a part of an artifact, or a page of a list.
const ANSWER_LIMIT: usize = 16 << 20;
/// The most characters of the code of an error.
const CODE_LIMIT: usize = 64;
/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Makes clients whose requests take no longer than this.
#[derive(Debug)]
pub(crate) struct Transport(pub(crate) Duration);

#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    timeout: Duration,
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.0));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
        Ok(HttpClient::new(Service { client, timeout: self.0 }))
    }
}

/// TLS that trusts the machine's own certificates; where it has none, nobody.
fn tls() -> object_store::Result<ClientConfig> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
        store: "S3",
        source,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        answered.unwrap_or_else(|_| {
            let why = format!("no whole answer within {:?}", self.timeout);
            Err(HttpError::new(HttpErrorKind::Timeout, std::io::Error::other(why)))
        })
    }
}

impl Service {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.request(request).await.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, error)
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        let body = body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?.to_bytes();
        let refused = head.status.is_client_error() || head.status.is_server_error();
        let body = if refused { code_of(&body) } else { body };
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

/// What S3 calls an error. All else that it says may have keys and what was signed in it.
fn code_of(body: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(body);
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let is_code =
        |code: &&str| code.len() <= CODE_LIMIT && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Bytes::from(code.filter(is_code).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_error_is_passed_on_but_its_code() {
        let check = |body: &str, expected: &str| assert_eq!(code_of(body.as_bytes()), expected.as_bytes());
        check("<Error><Code>SlowDown</Code><Message>Please</Message></Error>", "SlowDown");
        check("<Error><Code>Access Denied: AKIA123</Code></Error>", "");
        check("<html>Bad gateway</html>", "");
        check("<Code>Unfinished", "");
    }
}
