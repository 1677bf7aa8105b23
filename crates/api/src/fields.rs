//! `fields=name,runtime`: which members of a function a reply has.

use serde_json::Value;

use crate::problem::Problem;
use crate::wire::function::{FunctionObject, MEMBERS};

/// A choice of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields(Option<Vec<&'static str>>);

impl Fields {
    /// Every member.
    pub(crate) const ALL: Self = Self(None);

    /// The choice in a query parameter.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = text else { return Ok(Self::ALL) };
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let known = names.map(|name| {
            let unknown = || {
                let known = MEMBERS.join(", ");
                Problem::invalid("fields", format_args!("{name:?} is no field; these are: {known}"))
            };
            MEMBERS.into_iter().find(|member| *member == name).ok_or_else(unknown)
        });
        known.collect::<Result<_, _>>().map(|members| Self(Some(members)))
    }

    /// Whether the member is wanted, so that what costs something is only read when it is.
    pub(crate) fn wants(&self, member: &str) -> bool {
        self.0.as_ref().is_none_or(|members| members.contains(&member))
    }

    /// The function with only the wanted members.
    pub(crate) fn select(&self, function: &FunctionObject) -> Value {
        let mut value = serde_json::to_value(function).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.retain(|member, _| self.wants(member));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_members_can_be_chosen() {
        assert_eq!(Fields::parse(None), Ok(Fields::ALL));
        assert_eq!(Fields::parse(Some("name, runtime,")), Ok(Fields(Some(vec!["name", "runtime"]))));
        assert!(Fields::parse(Some("name,colour")).is_err());
    }

    #[test]
    fn code_is_wanted_unless_others_are_chosen() {
        assert!(Fields::ALL.wants("code"));
        assert!(!Fields::parse(Some("name")).unwrap().wants("code"));
    }
}
