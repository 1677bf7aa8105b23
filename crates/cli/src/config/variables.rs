//! The variables that the servers before this one read, by the names that they had.
//!
//! What maps to a setting of this server gives it; the rest is named in the log as without effect. `IMPULS_…` variables
//! that belong to one flag are read by `clap`; here are only those that would contradict another flag there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
use crate::args::listen_address;

/// What has no counterpart here; a `*` stands for anything.
const WITHOUT_EFFECT: [&str; 12] = [
    "CORS_*",
    "FAAS_*",
    "FC_*",
    "IMPULS_DB_*",
    "IMPULS_REPORT_SECRET",
    "JWT_SECRET",
    "MANAGER_*",
    "RATE_LIMIT_*",
    "STRAPI_INVOCATION_REPORT_URL",
    "TANGLE_ENDPOINT",
    "TOKEN_DURATION",
    "WORKER_WORK_DIR",
];
/// Those of the families above that do have an effect, here or in clients.
const WITH_EFFECT: [&str; 8] = [
    "FAAS_API_HOST",
    "FAAS_API_PORT",
    "FAAS_BASE_URL",
    "FAAS_DISABLE_PREWARM",
    "FAAS_WARM_POOL_SIZE",
    "IMPULS_DB_CONN",
    "IMPULS_DB_POOL",
    "MANAGER_BIND",
];
/// A whole connection, in the order in which they count: the first Impuls', NQRust's, that of GoFaas' migrations.
const CONNECTIONS: [&str; 3] = ["DB_CONN", "DATABASE_URL", "DB_DSN"];
/// The parts of a connection as GoFaas has them: the variable, the word of libpq, and what GoFaas took without it.
const PARTS: [(&str, &str, &str); 6] = [
    ("DB_HOST", "host", "localhost"),
    ("DB_PORT", "port", "5432"),
    ("DB_USER", "user", "postgres"),
    ("DB_PASSWORD", "password", "postgres"),
    ("DB_NAME", "dbname", "faas"),
    ("DB_SSLMODE", "sslmode", "disable"),
];

/// The variables of an environment that were given some value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

/// Addresses, and whether one was written without a host.
pub(super) struct Addresses {
    /// Where to listen; empty if no variable says so.
    pub(super) listen: Vec<SocketAddr>,
    /// The variable that has a port and no host, which meant every address of the machine.
    pub(super) narrowed: Option<&'static str>,
}

/// Names alone: there are passwords among the values.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }
}

impl Variables {
    /// Those of this process. What is not Unicode is none of these variables' values.
    pub(crate) fn of_this_process() -> Self {
        let unicode =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        std::env::vars_os().filter_map(unicode).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `IMPULS_LISTEN` or `IMPULS_PORT`, else every address that one of the earlier servers would have taken.
    pub(super) fn addresses(&self, any_host: bool) -> Result<Addresses, ConfigError> {
        let mut found = Addresses { listen: Vec::new(), narrowed: None };
        for (name, text) in self.address_texts() {
            found.add(name, &text, any_host)?;
        }
        Ok(found)
    }

    fn address_texts(&self) -> Vec<(&'static str, String)> {
        if let Some(list) = self.get("IMPULS_LISTEN") {
            let texts = list.split([',', ' ']).filter(|text| !text.is_empty());
            return texts.map(|text| ("IMPULS_LISTEN", text.to_owned())).collect();
        }
        for name in ["IMPULS_PORT", "IMPULS_API_PORT"] {
            if let Some(port) = self.get(name) {
                return vec![(name, format!("127.0.0.1:{port}"))];
            }
        }
        let whole = ["SERVER_ADDR", "MANAGER_BIND"];
        let mut texts: Vec<_> =
            whole.into_iter().filter_map(|name| Some((name, self.get(name)?.to_owned()))).collect();
        match (self.get("FAAS_API_HOST"), self.get("FAAS_API_PORT")) {
            (None, None) => {}
            (Some(host), port) => texts.push(("FAAS_API_HOST", format!("{host}:{}", port.unwrap_or("8080")))),
            (None, Some(port)) => texts.push(("FAAS_API_PORT", format!(":{port}"))),
        }
        texts
    }

    /// Where everything is kept.
    pub(super) fn data_dir(&self) -> Option<PathBuf> {
        self.get("DATA_DIR").map(PathBuf::from)
    }

    /// The folder of GoFaas' code.
    pub(super) fn artifacts(&self) -> Option<String> {
        self.get("STORAGE_BASE_DIR").map(str::to_owned)
    }

    /// What AWS' own tools are told.
    pub(super) fn aws(&self) -> BTreeMap<String, String> {
        let aws = self.0.iter().filter(|(name, _)| name.starts_with("AWS_"));
        aws.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Where functions are recorded.
    pub(super) fn storage(&self) -> Option<String> {
        self.get("STORAGE_TYPE").map(str::to_owned)
    }

    /// How to reach a database server.
    pub(super) fn db_conn(&self) -> Option<String> {
        if let Some(whole) = CONNECTIONS.iter().find_map(|name| self.get(name)) {
            return Some(whole.to_owned());
        }
        PARTS.iter().find_map(|(name, ..)| self.get(name))?;
        let quote = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
        let part = |(name, word, default): &(&str, &str, &str)| {
            format!("{word}='{}'", quote(self.get(name).unwrap_or(default)))
        };
        Some(PARTS.iter().map(part).collect::<Vec<_>>().join(" "))
    }

    /// How to reach the database server of a role that always has one: with nothing said, where GoFaas has its own.
    pub(super) fn db_conn_or_default(&self) -> String {
        self.db_conn().unwrap_or_else(|| {
            let part = |(_, word, default): &(&str, &str, &str)| format!("{word}='{default}'");
            PARTS.iter().map(part).collect::<Vec<_>>().join(" ")
        })
    }

    /// The name of a worker.
    pub(super) fn worker_id(&self) -> Option<String> {
        self.get("WORKER_ID").map(str::to_owned)
    }

    /// The same without where functions are recorded, which is decided for these roles, and, for a worker, without the
    /// addresses that earlier servers took requests on.
    pub(super) fn for_role(&self, is_worker: bool) -> Self {
        let addresses = ["SERVER_ADDR", "MANAGER_BIND", "FAAS_API_HOST", "FAAS_API_PORT"];
        let keeps = |name: &str| name != "STORAGE_TYPE" && !(is_worker && addresses.contains(&name));
        let kept = self.0.iter().filter(|(name, _)| keeps(name));
        Self(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The names of those that say how to reach a database server.
    pub(super) fn database(&self) -> Vec<&'static str> {
        let parts = PARTS.iter().map(|(name, ..)| *name);
        CONNECTIONS.into_iter().chain(parts).filter(|name| self.get(name).is_some()).collect()
    }

    /// What the server's own log has.
    pub(super) fn log_level(&self) -> Option<String> {
        self.get("RUST_LOG").map(str::to_owned)
    }

    /// Sandboxes that wait for code.
    pub(super) fn prewarm(&self) -> Result<Option<u32>, ConfigError> {
        if self.get("FAAS_DISABLE_PREWARM").is_some_and(|value| !["0", "false"].contains(&value)) {
            return Ok(Some(0));
        }
        let wrong = |error: std::num::ParseIntError| ConfigError::Variable {
            name: "FAAS_WARM_POOL_SIZE",
            reason: error.to_string(),
        };
        self.get("FAAS_WARM_POOL_SIZE").map(|size| size.parse().map_err(wrong)).transpose()
    }

    /// The names of those that earlier servers read and this one has nothing for.
    pub(super) fn without_effect(&self) -> Vec<String> {
        let matches = |name: &str, known: &str| match known.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == known,
        };
        let is_one = |name: &str| {
            WITHOUT_EFFECT.iter().any(|known| matches(name, known)) && !WITH_EFFECT.contains(&name)
        };
        self.0.keys().filter(|name| is_one(name)).cloned().collect()
    }
}

impl Addresses {
    /// Adds an address; a port without a host meant every address of the machine, which is taken only if that is allowed.
    fn add(&mut self, name: &'static str, text: &str, any_host: bool) -> Result<(), ConfigError> {
        let port = text.strip_prefix(':');
        let literal = match (port, any_host) {
            (Some(port), true) => format!("0.0.0.0:{port}"),
            (Some(port), false) => format!("127.0.0.1:{port}"),
            (None, _) => text.to_owned(),
        };
        let address = listen_address(&literal).map_err(|_| {
            let reason = format!("{text:?} is not an address with a port, such as 127.0.0.1:8080");
            ConfigError::Variable { name, reason }
        })?;
        if port.is_some() && !any_host {
            self.narrowed = Some(name);
        }
        if !self.listen.contains(&address) {
            self.listen.push(address);
        }
        Ok(())
    }
}
