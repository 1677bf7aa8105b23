//! Which Redis server, if any.

use std::fmt;
use std::path::PathBuf;

use super::{ConfigError, Variables, text};
use crate::args::RedisArgs;

/// The variables of GoFaas.
const VARIABLES: [&str; 3] = ["REDIS_ADDR", "REDIS_DB", "REDIS_PASSWORD"];

/// What the server was told of Redis. Does not show the connection, which has a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisConfig {
    /// Which server, as a URL. As it was written.
    pub server: Option<String>,
    /// The file with the certificates of authorities; `None` for those that this machine trusts.
    pub authorities: Option<PathBuf>,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, authorities } = self;
        f.debug_struct("RedisConfig")
            .field("has_server", &server.is_some())
            .field("authorities", authorities)
            .finish()
    }
}

impl RedisConfig {
    /// Flag, variable, file; and where several servers share the storage, the variables of GoFaas, else a notice that they are
    /// ignored.
    pub(super) fn resolve(
        args: RedisArgs,
        file: RedisArgs,
        variables: &Variables,
        is_shared: bool,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let server = text([args.redis, file.redis]);
        let given: Vec<&str> = VARIABLES.into_iter().filter(|name| variables.get(name).is_some()).collect();
        let server = match server {
            None if is_shared => variables.redis()?,
            given_otherwise => {
                if !given.is_empty() {
                    let names = given.join(", ");
                    let why = match given_otherwise {
                        Some(_) => "another Redis is named",
                        None => "one server needs none; --redis takes one all the same",
                    };
                    notices.push(format!("{names}: ignored, {why}"));
                }
                given_otherwise
            }
        };
        let is_path = |path: &PathBuf| !path.as_os_str().is_empty();
        let authorities = args.redis_ca.filter(is_path).or_else(|| file.redis_ca.filter(is_path));
        Ok(Self { server, authorities })
    }
}

impl Variables {
    /// The Redis server that GoFaas' variables name, as a URL.
    fn redis(&self) -> Result<Option<String>, ConfigError> {
        let Some(address) = self.get("REDIS_ADDR") else { return Ok(None) };
        let number = self.get("REDIS_DB").unwrap_or("0");
        if number.parse::<u32>().is_err() {
            let reason = format!("{number:?} is no number of a database");
            return Err(ConfigError::Variable { name: "REDIS_DB", reason });
        }
        // A port alone was this machine's.
        let host = if address.starts_with(':') { "localhost" } else { "" };
        let password = self.get("REDIS_PASSWORD").map(|password| format!(":{}@", encoded(password)));
        Ok(Some(format!("redis://{}{host}{address}/{number}", password.unwrap_or_default())))
    }
}

/// As a part of a URL (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], flag: Option<&str>, is_shared: bool) -> (Option<String>, String) {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let args = RedisArgs { redis: flag.map(str::to_owned), redis_ca: None };
        let mut notices = Vec::new();
        let config = RedisConfig::resolve(args, RedisArgs::default(), &variables, is_shared, &mut notices);
        (config.unwrap().server, notices.join("; "))
    }

    #[test]
    fn variables_of_gofaas_count_where_storage_is_shared() {
        let all = [("REDIS_ADDR", "h:7"), ("REDIS_PASSWORD", "p@ss"), ("REDIS_DB", "3")];
        assert_eq!(check(&all, None, true), (Some("redis://:p%40ss@h:7/3".to_owned()), String::new()));
        assert_eq!(check(&[("REDIS_ADDR", ":7")], None, true).0.unwrap(), "redis://localhost:7/0");
        assert_eq!(check(&[], None, true), (None, String::new()));
        let (server, notice) = check(&all, None, false);
        assert!(
            server.is_none() && notice.contains("REDIS_ADDR, REDIS_DB, REDIS_PASSWORD: ignored"),
            "{notice}"
        );
        assert!(!notice.contains("p@ss"));
        let (server, notice) = check(&all, Some("redis://other"), true);
        assert!(server.unwrap() == "redis://other" && notice.contains("another Redis"), "{notice}");
    }
}
