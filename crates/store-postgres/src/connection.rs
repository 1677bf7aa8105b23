//! How a database is named and reached: `postgres://user:password@host:port/database?sslmode=require`, or the words of
//! libpq, `host=… user=… password=… dbname=…`. Passwords are never part of an error.
//!
//! What a connection does not say comes from the variables of libpq (`PGHOST`, `PGPASSWORD`, …) and the password from
//! its file `~/.pgpass`, as for every program that uses PostgreSQL: <https://www.postgresql.org/docs/current/libpq-connect.html>.

mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// How long making a connection may take when the connection does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that may be said.
const CONNECT_TIMEOUT_LIMIT: u64 = 60;
/// Compiled statements that a connection keeps.
const STATEMENTS: usize = 64;
/// What the server's own list of connections shows.
const APPLICATION: &str = "impuls";

/// Words that are understood and handed on.
const KNOWN: [&str; 12] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
];
/// Words of other libraries that change nothing here.
const IGNORED: [&str; 10] = [
    "TimeZone",
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "timezone",
];

/// A database and how to reach it. Shows no password.
#[derive(Clone)]
pub struct Connection {
    options: PgConnectOptions,
    /// Without TLS if the server allows it, else with.
    either: bool,
    timeout: Duration,
}

/// Why a text names no database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Another database's.
    #[error("the connection begins with {0}://; postgres:// is wanted")]
    Scheme(String),
    /// Neither of the two forms.
    #[error(
        "the connection is neither postgres://user:password@host:port/database nor host=… user=… dbname=…: {0}"
    )]
    Form(&'static str),
    /// A word that nobody knows.
    #[error("the connection has {0:?}, which is not known; known are {known}", known = KNOWN.join(", "))]
    Unknown(String),
    /// A word with a value that it cannot have.
    #[error("the connection's {name} {reason}")]
    Value {
        /// The word.
        name: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.place()).finish()
    }
}

impl FromStr for Connection {
    type Err = ConnectionError;

    fn from_str(text: &str) -> Result<Self, ConnectionError> {
        let mut words = words::parse(text.trim())?;
        if let Some(unknown) = words.keys().find(|name| {
            *name != "user" && !KNOWN.contains(&name.as_str()) && !IGNORED.contains(&name.as_str())
        }) {
            return Err(ConnectionError::Unknown(unknown.clone()));
        }
        words.retain(|name, value| !IGNORED.contains(&name.as_str()) && !value.is_empty());
        let timeout = timeout(words.remove("connect_timeout"))?;
        check(&words)?;
        let tls = Tls::take(&mut words)?;
        let url = words::url(&words);
        let options = PgConnectOptions::from_str(&url)
            .map_err(|_| ConnectionError::Form("a part of it cannot be read"))?;
        let options = match words.contains_key("application_name") {
            true => options,
            false => options.application_name(APPLICATION),
        };
        let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        Ok(tls.apply(Self { options, either: false, timeout }))
    }
}

impl Connection {
    /// Where the database is: host and port, or the socket, and its name.
    #[must_use]
    pub fn place(&self) -> String {
        let options = &self.options;
        let server = match options.get_socket() {
            Some(socket) => format!("{} (port {})", socket.display(), options.get_port()),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        match options.get_database() {
            Some(name) => format!("{server}, database {name:?}"),
            None => server,
        }
    }

    /// How long making a connection may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What to try, in turn; the first that the server lets in is what it is.
    pub(crate) fn attempts(&self) -> Vec<PgConnectOptions> {
        let plain = self.options.clone();
        match self.either {
            true => vec![plain.clone().ssl_mode(PgSslMode::Disable), plain.ssl_mode(PgSslMode::Require)],
            false => vec![plain],
        }
    }
}

/// What a connection says of TLS.
struct Tls {
    mode: Option<PgSslMode>,
    /// A file of certificates is given.
    has_roots: bool,
    /// The machine's own certificates are wanted.
    system: bool,
}

impl Tls {
    fn take(words: &mut BTreeMap<String, String>) -> Result<Self, ConnectionError> {
        let mode = words.remove("sslmode").map(|mode| mode.parse()).transpose();
        let mode = mode.map_err(|_: sqlx::Error| ConnectionError::Value {
            name: "sslmode",
            reason: "is none of disable, allow, prefer, require, verify-ca, verify-full",
        })?;
        let system = words.get("sslrootcert").is_some_and(|file| file == "system");
        if system {
            words.remove("sslrootcert");
        }
        Ok(Self { mode, has_roots: words.contains_key("sslrootcert"), system })
    }

    /// As libpq does it: with a file of certificates `require` checks them, and the machine's own are checked fully.
    fn apply(self, connection: Connection) -> Connection {
        let Connection { options, timeout, .. } = connection;
        let mode = match self.mode {
            _ if self.system && options.get_socket().is_none() => Some(PgSslMode::VerifyFull),
            // As libpq does it: there is nobody in between.
            _ if options.get_socket().is_some() => Some(PgSslMode::Disable),
            Some(PgSslMode::Require) if self.has_roots => Some(PgSslMode::VerifyCa),
            other => other,
        };
        let either = matches!(mode, Some(PgSslMode::Allow));
        let options = match mode {
            Some(mode) => options.ssl_mode(mode),
            None => options,
        };
        Connection { options, either, timeout }
    }
}

fn timeout(seconds: Option<String>) -> Result<Duration, ConnectionError> {
    let Some(seconds) = seconds else { return Ok(CONNECT_TIMEOUT) };
    match seconds.parse() {
        Ok(seconds @ 1..=CONNECT_TIMEOUT_LIMIT) => Ok(Duration::from_secs(seconds)),
        _ => Err(ConnectionError::Value { name: "connect_timeout", reason: "is not 1 to 60 seconds" }),
    }
}

/// What would be refused with a worse text further on.
fn check(words: &BTreeMap<String, String>) -> Result<(), ConnectionError> {
    if words.get("port").is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(ConnectionError::Value { name: "port", reason: "is not 1 to 65535" });
    }
    if words.get("host").is_some_and(|host| host.contains(',')) {
        return Err(ConnectionError::Value {
            name: "host",
            reason: "is a list; give one host, or a proxy in front of them",
        });
    }
    if words.get("hostaddr").is_some_and(|address| address.parse::<std::net::IpAddr>().is_err()) {
        return Err(ConnectionError::Value { name: "hostaddr", reason: "is no IP address" });
    }
    if words.contains_key("sslcert") != words.contains_key("sslkey") {
        return Err(ConnectionError::Value { name: "sslcert", reason: "needs sslkey beside it" });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
