//! What a function's sandboxes may reach: nothing, the public network, or what a list names.
//!
//! A policy says what a function asks for. What no function may ask for (the host's own addresses, link-local and
//! metadata addresses) is up to the driver that enforces the policy and to its operator.

mod allowlist;
mod cidr;
pub mod reserved;

use std::fmt;
use std::str::FromStr;

pub use allowlist::{AllowEntry, Allowlist, HostPattern, MAX_ENTRIES};
pub use cidr::Cidr;

/// Which network a sandbox has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum NetworkPolicy {
    /// None but its own loopback.
    #[default]
    Off,
    /// Every public address; nothing private, and nothing of the host.
    Egress,
    /// What the list names, and nothing else.
    Allow(Allowlist),
}

/// Why a text is no network policy, or no part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither a known word nor a list.
    #[error("network policy {0:?} is not known; `off`, `egress` or a list of what is allowed")]
    Policy(String),
    /// Too few or too many entries.
    #[error("a network allowlist has {0} entries; 1 to {MAX_ENTRIES} are allowed")]
    Count(usize),
    /// An entry that is neither a host name nor an address.
    #[error("network allowlist entry {0:?} is no host name, `*.` host name, IP address or CIDR range")]
    Entry(String),
    /// A port that is none.
    #[error("network allowlist entry {0:?} has a port outside 1 to 65535")]
    Port(String),
    /// A range whose address has bits that its prefix does not cover.
    #[error("{0:?} has bits beyond its prefix; the range is {1}")]
    HostBits(String, Cidr),
    /// An IPv4 address in IPv6 clothes, which would be a second name of the same place.
    #[error("{0:?} maps an IPv4 address; write the IPv4 address")]
    Mapped(String),
}

/// The word before the entries of a list, in [`NetworkPolicy`]'s text.
const ALLOW: &str = "allow";

impl NetworkPolicy {
    /// The form of storage: `off`, `egress`, or `allow` and the entries, with a space before each. Read back by
    /// [`parse`](Self::parse).
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// The policy of a text that [`to_text`](Self::to_text) made.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        match text {
            "off" => return Ok(Self::Off),
            "egress" => return Ok(Self::Egress),
            _ => {}
        }
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(ALLOW) {
            return Err(NetworkError::Policy(text.to_owned()));
        }
        Allowlist::new(words).map(Self::Allow)
    }

    /// Whether sandboxes have no network at all.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// The list, if there is one.
    #[must_use]
    pub const fn allowlist(&self) -> Option<&Allowlist> {
        match self {
            Self::Off | Self::Egress => None,
            Self::Allow(list) => Some(list),
        }
    }
}

impl fmt::Display for NetworkPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Egress => f.write_str("egress"),
            Self::Allow(list) => {
                f.write_str(ALLOW)?;
                list.entries().iter().try_for_each(|entry| write!(f, " {entry}"))
            }
        }
    }
}

impl FromStr for NetworkPolicy {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
