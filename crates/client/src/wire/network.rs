//! What a sandbox may reach.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A network policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// `off` or `egress`.
    Word(String),
    /// Only what is listed.
    List {
        /// Host names, addresses and CIDR ranges, each with an optional `:port`.
        allow: Vec<String>,
    },
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::List { allow } => write!(f, "only {}", allow.join(", ")),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::Word(String::new())
    }
}
