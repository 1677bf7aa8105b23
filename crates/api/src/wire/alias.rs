//! Aliases.

use impuls_control::NewAlias;
use impuls_domain::{Alias, AliasName, AliasTarget, VersionNumber};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::timestamp;
use crate::problem::Problem;

/// One version behind an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AliasTarget)]
pub struct TargetObject {
    /// The version.
    pub version: u64,
    /// Its share of the calls: its weight divided by the sum of all weights of the alias.
    #[serde(default = "one")]
    #[schema(default = 1)]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

/// Where an alias shall point: `version` for one version, or `versions` for several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct AliasRequest {
    /// The alias' name; only where the path has none.
    pub name: Option<String>,
    /// The one version.
    pub version: Option<u64>,
    /// 1 to 16 versions with their weights, of which at least one is above zero.
    pub versions: Option<Vec<TargetObject>>,
    /// What the owner says about it; at most 1,024 characters.
    pub description: Option<String>,
}

impl AliasRequest {
    /// The alias that is asked for, under the name of the path if it has one.
    pub fn into_alias(self, path: Option<String>) -> Result<NewAlias, Problem> {
        let name = path.or(self.name).ok_or_else(|| Problem::invalid("name", "a name is required"))?;
        let name: AliasName = name.parse().map_err(|error| Problem::invalid("name", error))?;
        let targets = match (self.version, self.versions) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("version", "give `version` or `versions`, not both"));
            }
            (Some(version), None) => vec![TargetObject { version, weight: one() }],
            (None, Some(versions)) => versions,
            (None, None) => return Err(Problem::invalid("versions", "at least one version is required")),
        };
        let targets = targets.into_iter().map(target).collect::<Result<_, _>>()?;
        Ok(NewAlias { name, targets, description: self.description.unwrap_or_default() })
    }
}

fn target(object: TargetObject) -> Result<AliasTarget, Problem> {
    let version = VersionNumber::new(object.version);
    let version = version.ok_or_else(|| Problem::invalid("versions", "versions count from 1"))?;
    Ok(AliasTarget { version, weight: object.weight })
}

/// An alias of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Alias)]
pub struct AliasObject {
    /// Its name.
    pub name: String,
    /// What the owner wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The versions behind it.
    pub versions: Vec<TargetObject>,
    /// When it last changed (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&Alias> for AliasObject {
    fn from(alias: &Alias) -> Self {
        let target = |t: &AliasTarget| TargetObject { version: t.version.get(), weight: t.weight };
        Self {
            name: alias.name().to_string(),
            description: Some(alias.description.clone()).filter(|text| !text.is_empty()),
            versions: alias.targets().iter().map(target).collect(),
            updated_at: timestamp(alias.updated_at),
        }
    }
}

/// All aliases of a function, by name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AliasList {
    /// The aliases.
    pub aliases: Vec<AliasObject>,
    /// How many there are.
    pub count: usize,
}

/// To which version to go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct RollbackRequest {
    /// The version; the one before the newest if absent.
    pub version: Option<u64>,
}

impl RollbackRequest {
    /// The version that is asked for.
    pub fn target(self) -> Result<Option<VersionNumber>, Problem> {
        let Some(number) = self.version else { return Ok(None) };
        let version = VersionNumber::new(number);
        version.map(Some).ok_or_else(|| Problem::invalid("version", "versions count from 1"))
    }
}
