//! What a function's list may name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Cidr, NetworkError};

/// The most entries of a list.
pub const MAX_ENTRIES: usize = 64;
/// The longest host name and the longest label of one, in characters (RFC 1035, section 2.3.4).
const NAME_LENGTH: usize = 253;
const LABEL_LENGTH: usize = 63;

/// The pattern of every name.
const ANY: &str = "*";

/// 1 to [`MAX_ENTRIES`] entries, in the order in which they were given, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allowlist(Vec<AllowEntry>);

/// One thing that a list names: a host name, an address or a range, with every port of TCP and UDP or with one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AllowEntry {
    /// Whatever addresses a name has.
    Host(HostPattern, Option<u16>),
    /// Addresses.
    Range(Cidr, Option<u16>),
}

/// A host name, every name below one, or every name there is; in lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl Allowlist {
    /// The list of these texts.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, NetworkError> {
        let mut list = Vec::new();
        for text in entries {
            let entry: AllowEntry = text.as_ref().parse()?;
            if !list.contains(&entry) {
                list.push(entry);
            }
            if list.len() > MAX_ENTRIES {
                return Err(NetworkError::Count(list.len()));
            }
        }
        if list.is_empty() { Err(NetworkError::Count(0)) } else { Ok(Self(list)) }
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[AllowEntry] {
        &self.0
    }

    /// The entries as the texts that [`new`](Self::new) takes.
    #[must_use]
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// The addresses and ranges, with their ports.
    pub fn ranges(&self) -> impl Iterator<Item = (Cidr, Option<u16>)> + '_ {
        self.0.iter().filter_map(|entry| match entry {
            AllowEntry::Range(range, port) => Some((*range, *port)),
            AllowEntry::Host(..) => None,
        })
    }

    /// The ports under which a host name is named: `None` is every port. Empty if it is not named.
    pub fn ports_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Option<u16>> + 'a {
        self.0.iter().filter_map(move |entry| match entry {
            AllowEntry::Host(pattern, port) => pattern.matches(name).then_some(*port),
            AllowEntry::Range(..) => None,
        })
    }
}

impl HostPattern {
    /// Whether it names a host. `*` names every host, `*.example.com` names `a.example.com` and `a.b.example.com`, not `example.com`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        if self.name.is_empty() {
            return true;
        }
        if !self.below {
            return name.eq_ignore_ascii_case(&self.name);
        }
        let Some(at) = name.len().checked_sub(self.name.len() + 1) else { return false };
        let (Some(below), Some(end)) = (name.get(..at), name.get(at..)) else { return false };
        let end = end.strip_prefix('.').is_some_and(|end| end.eq_ignore_ascii_case(&self.name));
        end && !below.is_empty()
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_LENGTH).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl FromStr for HostPattern {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == ANY {
            return Ok(Self { name: String::new(), below: true });
        }
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let name = name.strip_suffix('.').unwrap_or(name);
        // What ends in a number is an address to the programs that connect (WHATWG URL, "ends in a number").
        let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > NAME_LENGTH || number || !name.split('.').all(is_label) {
            return Err(NetworkError::Entry(text.to_owned()));
        }
        Ok(Self { name: name.to_ascii_lowercase(), below })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.below, self.name.as_str()) {
            (_, "") => f.write_str(ANY),
            (true, name) => write!(f, "*.{name}"),
            (false, name) => f.write_str(name),
        }
    }
}

/// Splits the port off. An IPv6 address with a port is in brackets.
fn split_port(text: &str) -> Result<(&str, Option<u16>), NetworkError> {
    let parse = |port: &str| {
        let plain = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|&port| plain && port > 0);
        port.ok_or_else(|| NetworkError::Port(text.to_owned()))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let invalid = || NetworkError::Entry(text.to_owned());
        let (address, rest) = rest.split_once(']').ok_or_else(invalid)?;
        if !address.contains(':') {
            return Err(invalid());
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(parse(port)?))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(invalid()),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(parse(port)?))),
        _ => Ok((text, None)),
    }
}

impl FromStr for AllowEntry {
    type Err = NetworkError;

    /// `example.com`, `*.example.com:443`, `*`, `192.0.2.1`, `10.0.0.0/8:5432`, `fd00::/8`, `[fd00::1]:443`.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (target, port) = split_port(text)?;
        if target.contains('/') || target.parse::<IpAddr>().is_ok() {
            return Ok(Self::Range(target.parse()?, port));
        }
        target
            .parse()
            .map(|pattern| Self::Host(pattern, port))
            .map_err(|_| NetworkError::Entry(text.to_owned()))
    }
}

impl fmt::Display for AllowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern, None) => write!(f, "{pattern}"),
            Self::Host(pattern, Some(port)) => write!(f, "{pattern}:{port}"),
            Self::Range(range, None) => write!(f, "{range}"),
            Self::Range(range, Some(port)) if range.address().is_ipv6() => write!(f, "[{range}]:{port}"),
            Self::Range(range, Some(port)) => write!(f, "{range}:{port}"),
        }
    }
}
