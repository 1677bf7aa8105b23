//! Which revision of a function a call means.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::name::{AliasName, NameError};

/// The number of a published version: 1, 2, 3, … in the order of publishing, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionNumber(NonZeroU64);

impl VersionNumber {
    /// The first version of every function.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The version with this number; `None` for zero.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which revision a call means: `$LATEST` (also when there is no qualifier), a version number, or an alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Qualifier {
    /// The newest revision.
    #[default]
    Latest,
    /// A published version.
    Version(VersionNumber),
    /// Whatever the alias points at, by its weights.
    Alias(AliasName),
}

/// Why a text is no qualifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QualifierError {
    /// A number that no version has.
    #[error("qualifier {0:?} is no version; versions count from 1")]
    Version(String),
    /// Not a number and not a name.
    #[error("qualifier is no alias")]
    Alias(#[source] NameError),
}

impl FromStr for Qualifier {
    type Err = QualifierError;
    fn from_str(s: &str) -> Result<Self, QualifierError> {
        if s == "$LATEST" {
            return Ok(Self::Latest);
        }
        if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) {
            let number = s.parse().ok().and_then(VersionNumber::new);
            return number.map(Self::Version).ok_or_else(|| QualifierError::Version(s.to_owned()));
        }
        s.parse().map(Self::Alias).map_err(QualifierError::Alias)
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Version(number) => number.fmt(f),
            Self::Alias(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualifiers_are_latest_a_number_or_an_alias() {
        assert_eq!("$LATEST".parse(), Ok(Qualifier::Latest));
        assert_eq!("7".parse(), Ok(Qualifier::Version(VersionNumber::new(7).unwrap())));
        assert!(matches!("live".parse(), Ok(Qualifier::Alias(_))));
        assert_eq!("0".parse::<Qualifier>(), Err(QualifierError::Version("0".to_owned())));
        assert!("a b".parse::<Qualifier>().is_err());
        assert!("99999999999999999999999".parse::<Qualifier>().is_err());
    }
}
