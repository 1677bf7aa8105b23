//! A name that points at versions.

use time::OffsetDateTime;

use crate::name::AliasName;
use crate::qualifier::VersionNumber;

/// The most versions that one alias may spread calls over.
pub const TARGET_LIMIT: usize = 16;

/// One version behind an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasTarget {
    /// The version.
    pub version: VersionNumber,
    /// Its share of the calls: its weight divided by the sum of all weights of the alias.
    pub weight: u32,
}

/// Why an alias cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// No target, or too many.
    #[error("alias has {0} versions; 1 to 16 are allowed")]
    Targets(usize),
    /// No call would ever reach any target.
    #[error("all weights of the alias are zero; give at least one version a weight above 0")]
    Weights,
    /// A version named twice.
    #[error("alias names version {0} twice")]
    Duplicate(VersionNumber),
}

/// A name that points at one version, or spreads calls over several by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    name: AliasName,
    targets: Vec<AliasTarget>,
    /// What the owner wrote about it.
    pub description: String,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

impl Alias {
    /// An alias of these targets.
    pub fn new(
        name: AliasName,
        targets: Vec<AliasTarget>,
        description: String,
        updated_at: OffsetDateTime,
    ) -> Result<Self, AliasError> {
        if !(1..=TARGET_LIMIT).contains(&targets.len()) {
            return Err(AliasError::Targets(targets.len()));
        }
        if targets.iter().all(|target| target.weight == 0) {
            return Err(AliasError::Weights);
        }
        for (index, target) in targets.iter().enumerate() {
            if targets.iter().take(index).any(|earlier| earlier.version == target.version) {
                return Err(AliasError::Duplicate(target.version));
            }
        }
        Ok(Self { name, targets, description, updated_at })
    }

    /// Its name, unique within the function.
    #[must_use]
    pub const fn name(&self) -> &AliasName {
        &self.name
    }

    /// The versions behind it, with their weights; at least one weight is above zero.
    #[must_use]
    pub fn targets(&self) -> &[AliasTarget] {
        &self.targets
    }

    /// The version that a call with this random number takes: each in proportion to its weight.
    #[must_use]
    pub fn choose(&self, random: u64) -> Option<VersionNumber> {
        let total: u64 = self.targets.iter().map(|target| u64::from(target.weight)).sum();
        let mut left = random.checked_rem(total)?;
        for target in &self.targets {
            let weight = u64::from(target.weight);
            if left < weight {
                return Some(target.version);
            }
            left -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alias(weights: &[u32]) -> Result<Alias, AliasError> {
        let targets = weights
            .iter()
            .zip(1..)
            .map(|(&weight, n)| AliasTarget { version: VersionNumber::new(n).unwrap(), weight })
            .collect();
        Alias::new("live".parse().unwrap(), targets, String::new(), OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn an_alias_without_reachable_version_is_refused() {
        assert_eq!(alias(&[]).unwrap_err(), AliasError::Targets(0));
        assert_eq!(alias(&[0, 0]).unwrap_err(), AliasError::Weights);
    }

    proptest! {
        #[test]
        fn every_version_gets_exactly_its_share(weights in prop::collection::vec(0u32..20, 1..8)) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let alias = alias(&weights).unwrap();
            let total: u32 = weights.iter().sum();
            for (weight, number) in weights.iter().zip(1..) {
                let hits = (0..u64::from(total))
                    .filter(|r| alias.choose(*r) == VersionNumber::new(number))
                    .count();
                prop_assert_eq!(hits, *weight as usize);
            }
        }
    }
}
