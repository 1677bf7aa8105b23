//! A network policy as it is written and shown.

use impuls_domain::{Allowlist, NetworkPolicy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;

/// What a function's sandboxes may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = NetworkPolicy)]
pub enum NetworkObject {
    /// `off` is nothing but its own loopback, `egress` is every public address.
    Word(String),
    /// Only what is listed.
    List(AllowObject),
}

/// The only hosts that a sandbox may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NetworkAllowlist)]
pub struct AllowObject {
    /// Host names (`api.example.com`, `*.example.com`), addresses and CIDR ranges, each with an optional `:port`.
    #[schema(min_items = 1, max_items = 64)]
    pub allow: Vec<String>,
}

impl NetworkObject {
    /// The policy that is meant.
    pub(crate) fn to_policy(&self) -> Result<NetworkPolicy, Problem> {
        let unknown = |text: &str| {
            let words = "supported: off, egress, {\"allow\": [\"example.com\"]}";
            Problem::invalid("network", format_args!("{text:?} is not supported; for now {words}"))
        };
        match self {
            Self::Word(word) => match NetworkPolicy::parse(word) {
                Ok(policy @ (NetworkPolicy::Off | NetworkPolicy::Egress)) => Ok(policy),
                Ok(NetworkPolicy::Allow(_)) | Err(_) => Err(unknown(word)),
            },
            Self::List(list) => Allowlist::new(&list.allow)
                .map(NetworkPolicy::Allow)
                .map_err(|error| Problem::invalid("network", error)),
        }
    }
}

impl From<&NetworkPolicy> for NetworkObject {
    fn from(policy: &NetworkPolicy) -> Self {
        match policy {
            NetworkPolicy::Off | NetworkPolicy::Egress => Self::Word(policy.to_text()),
            NetworkPolicy::Allow(list) => Self::List(AllowObject { allow: list.to_texts() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, policy: &str) {
        let object: NetworkObject = serde_json::from_str(json).unwrap();
        let read = object.to_policy().unwrap();
        assert_eq!(read.to_text(), policy);
        assert_eq!(serde_json::to_string(&NetworkObject::from(&read)).unwrap(), json);
    }

    #[test]
    fn a_policy_is_a_word_or_a_list() {
        check(r#""off""#, "off");
        check(r#""egress""#, "egress");
        check(r#"{"allow":["*.example.com:443","10.0.0.0/8"]}"#, "allow *.example.com:443 10.0.0.0/8");
    }

    #[test]
    fn other_words_and_bad_lists_are_refused() {
        for json in [r#""on""#, r#""allow example.com""#, r#"{"allow":[]}"#, r#"{"allow":["a b"]}"#] {
            assert!(serde_json::from_str::<NetworkObject>(json).unwrap().to_policy().is_err(), "{json}");
        }
        assert!(serde_json::from_str::<NetworkObject>(r#"{"deny":["a"]}"#).is_err());
    }
}
