//! Which Redis server.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, TlsCertificates};
use tokio_rustls::rustls::crypto::ring;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How a connection calls itself in the server's list of clients.
const NAME: &str = "impuls";

/// A Redis server and how to reach it. Does not show the password.
#[derive(Clone)]
pub struct RedisServer {
    client: Client,
    place: String,
}

/// Why a text names no Redis server.
#[derive(Debug, thiserror::Error)]
pub enum RedisServerError {
    /// Another server's.
    #[error("it begins with neither redis:// nor rediss:// nor unix:")]
    Scheme,
    /// The text cannot be read. Not told in detail, because it may hold a password.
    #[error(
        "it is not of the form redis://:password@host:port/number; in a password write %40 for @ and the like"
    )]
    Form,
    /// The certificates cannot be used.
    #[error("the certificates cannot be used; a file in PEM format is wanted")]
    Certificates(#[source] redis::RedisError),
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisServer").field(&self.place).finish()
    }
}

impl RedisServer {
    /// From `redis://[user][:password]@host[:port][/number]`, `rediss://…` for TLS, or `unix:///path[?db=number&pass=password]`.
    /// With TLS the server's certificate must be from one of these authorities (PEM), without any from one that this machine
    /// trusts.
    pub fn parse(text: &str, authorities: Option<Vec<u8>>) -> Result<Self, RedisServerError> {
        let (scheme, _) = text.split_once(':').ok_or(RedisServerError::Scheme)?;
        let has_tls = scheme == "rediss";
        if !has_tls && !["redis", "unix", "redis+unix"].contains(&scheme) {
            return Err(RedisServerError::Scheme);
        }
        let info = text.into_connection_info().map_err(|_| RedisServerError::Form)?;
        let number = info.redis_settings().db();
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                format!("{host}:{port}, database {number}")
            }
            ConnectionAddr::Unix(path) => format!("{}, database {number}", path.display()),
            _ => return Err(RedisServerError::Scheme),
        };
        let client = if has_tls {
            // Fails if somebody was first, and then there is one.
            let _there_is_one = ring::default_provider().install_default();
            let certificates = TlsCertificates { client_tls: None, root_cert: authorities };
            Client::build_with_tls(info, certificates).map_err(RedisServerError::Certificates)?
        } else {
            Client::open(info).map_err(|_| RedisServerError::Form)?
        };
        Ok(Self { client, place })
    }

    /// Where the server is: host and port, or the socket, and the number of the database.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A connection of one's own, on which no answer takes longer than this.
    pub(crate) async fn connect(&self, answer: Duration) -> redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // For people who look; a server that does not know the command does without.
        let named: redis::RedisResult<()> =
            redis::cmd("CLIENT").arg("SETNAME").arg(NAME).query_async(&mut connection).await;
        drop(named);
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_without_its_password() {
        for (text, place) in [
            ("redis://localhost", "localhost:6379, database 0"),
            ("redis://:p%40ss@h:7/3", "h:7, database 3"),
            ("rediss://user:p%40ss@h:7", "h:7, database 0"),
            ("unix:///run/redis.sock?db=2&pass=p%40ss", "/run/redis.sock, database 2"),
        ] {
            let server = RedisServer::parse(text, None).unwrap();
            assert_eq!(server.place(), place);
            assert!(!format!("{server:?}").contains("p@ss"));
        }
    }

    #[test]
    fn what_is_no_server_is_refused_without_repeating_it() {
        for text in ["localhost:6379", "postgres://p@ss@h", "redis://:p@ss@h:port", "redis://h/x", ""] {
            let error = RedisServer::parse(text, None).unwrap_err().to_string();
            assert!(!error.contains("p@ss"), "{error}");
        }
    }
}
