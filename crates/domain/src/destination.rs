//! Where the end of an asynchronous invocation is told: another function, or an HTTP hook.

use std::fmt;
use std::str::FromStr;

use crate::id::FunctionId;
use crate::qualifier::Qualifier;
use crate::retry::RetryPolicy;

/// The most bytes of a hook's address.
pub const HOOK_LIMIT: usize = 2_048;

/// Why a text is no address of a hook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookUrlError {
    /// Too long.
    #[error("the address has {0} bytes; at most {HOOK_LIMIT} are allowed")]
    Length(usize),
    /// Neither http nor https.
    #[error("{0:?} is no address of a hook; it looks like https://example.com/path")]
    Scheme(String),
    /// A name and a password would be shown to whoever may read the settings.
    #[error("the address must not hold a user name or password")]
    Credentials,
    /// A character that no address has.
    #[error("the address contains {0:?}")]
    Character(char),
}

/// The address of an HTTP hook: `http://` or `https://`, a host, no credentials, no fragment. Whether the host may be
/// reached is decided whenever it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HookUrl(String);

impl HookUrl {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HookUrl {
    type Err = HookUrlError;

    fn from_str(text: &str) -> Result<Self, HookUrlError> {
        if text.len() > HOOK_LIMIT {
            return Err(HookUrlError::Length(text.len()));
        }
        if let Some(odd) =
            text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '#' || *c == '\\')
        {
            return Err(HookUrlError::Character(odd));
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let authority = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        if authority.contains('@') {
            return Err(HookUrlError::Credentials);
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(HookUrlError::Scheme(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where an end is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A function is invoked with it.
    Function(FunctionId, Qualifier),
    /// It is posted to a hook.
    Hook(HookUrl),
}

/// Where the ends of an invocation are told; nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Destinations {
    /// Its success.
    pub on_success: Option<Destination>,
    /// That it failed for good, also as a dead letter. Cancelling is no failure.
    pub on_failure: Option<Destination>,
}

/// How a function's asynchronous invocations are handled unless a call says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsyncSettings {
    /// How they are tried again.
    pub policy: RetryPolicy,
    /// Where their ends are told.
    pub destinations: Destinations,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_plain_http_addresses() {
        for good in ["http://h", "https://example.com/a?b=c", "http://[::1]:80/", "http://10.0.0.1:8080/x"] {
            assert!(good.parse::<HookUrl>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "ftp://h",
            "http://",
            "http:///x",
            "https://u:p@h/",
            "http://h/a b",
            "http://h\n",
            "http://:80",
        ] {
            assert!(bad.parse::<HookUrl>().is_err(), "{bad}");
        }
    }
}
