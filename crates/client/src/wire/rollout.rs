//! Versions and aliases.

use serde::{Deserialize, Serialize};

use super::Function;

/// One page of versions, newest first.
#[derive(Clone, Debug, Deserialize)]
pub struct VersionList {
    /// The versions, without name and code.
    pub versions: Vec<Function>,
    /// Where the next page starts, if there is one.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// One version behind an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTarget {
    /// The version.
    pub version: u64,
    /// Its share of the calls: its weight divided by the sum of all weights of the alias.
    pub weight: u32,
}

/// An alias of a function.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Alias {
    /// The alias.
    pub name: String,
    /// What its owner wrote about it.
    pub description: Option<String>,
    /// The versions behind it.
    pub versions: Vec<AliasTarget>,
    /// When it last changed (RFC 3339).
    pub updated_at: String,
}

/// Where an alias shall point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AliasFields {
    /// The versions behind it.
    pub versions: Vec<AliasTarget>,
    /// What its owner wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// All aliases of a function.
#[derive(Clone, Debug, Deserialize)]
pub struct AliasList {
    /// The aliases.
    pub aliases: Vec<Alias>,
}
